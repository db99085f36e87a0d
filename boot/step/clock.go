package step

import (
	"net"
	"time"

	"initd/boot/appliance"
	"initd/boot/plan"
)

// clockSpec is the Spec of the unit time.
type clockSpec struct {
	Servers []string `json:"servers"` // HOST:PORT
}

func clockStep() Step {
	return Step{
		Kind: plan.Kind{Name: "time", Expand: expandClock},
		New:  newClockAction,
	}
}

// expandClock: without servers there is no unit; the orchestrator has raised
// the clock to its floor before the plan runs. Missing servers delay what
// comes after by seconds at most.
func expandClock(x *plan.Expansion) {
	servers := timeServers(x.Appliance)
	if len(servers) == 0 {
		return
	}
	var way []plan.Resource
	for _, s := range servers {
		way = append(way, plan.EndpointResource(s))
	}
	x.Add("time", plan.Unit{
		ID:       plan.ClassTime,
		Stage:    plan.Time,
		Needs:    append([]plan.Need{{AnyOf: way}}, afterDNS(x.Appliance)...),
		Provides: []plan.Resource{plan.ClassTime},
		Policy: x.Policy(appliance.Policy{}, plan.Policy{
			Deadline: plan.Duration(4 * time.Second),
			Wait:     plan.Duration(8 * time.Second),
			Retry:    plan.Retry{Initial: plan.Duration(5 * time.Second), Max: plan.Duration(time.Minute), Factor: 2, Jitter: 0.2},
		}),
	}, clockSpec{Servers: servers})
}

func timeServers(a *appliance.Appliance) []string {
	if a.Time == nil {
		return nil
	}
	var list []string
	for _, s := range a.Time.Servers {
		if _, _, err := net.SplitHostPort(s); err != nil {
			s = net.JoinHostPort(s, "123")
		}
		list = append(list, s)
	}
	return list
}

// afterTime is the need of whatever checks certificates.
func afterTime(a *appliance.Appliance) []plan.Need {
	if len(timeServers(a)) == 0 {
		return nil
	}
	return []plan.Need{{AnyOf: []plan.Resource{plan.ClassTime}, Mode: plan.After}}
}

// afterDNS is the need of whatever may have to resolve a name.
func afterDNS(a *appliance.Appliance) []plan.Need {
	if a.Network == nil || a.Network.DNS == nil {
		return nil
	}
	return []plan.Need{{AnyOf: []plan.Resource{"net/dns"}, Mode: plan.After}}
}
