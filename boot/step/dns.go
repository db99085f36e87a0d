package step

import (
	"time"

	"initd/boot/appliance"
	"initd/boot/plan"
)

// dnsSpec is the Spec of the unit dns.
type dnsSpec struct {
	Servers []string `json:"servers"`
	Search  []string `json:"search,omitempty"`
}

func dnsStep() Step {
	return Step{
		Kind: plan.Kind{Name: "dns", Expand: expandDNS},
		New:  newDNSAction,
	}
}

func expandDNS(x *plan.Expansion) {
	n := x.Appliance.Network
	if n == nil || n.DNS == nil {
		return
	}
	x.Add("network.dns", plan.Unit{
		ID:       "dns",
		Stage:    plan.Network,
		Provides: []plan.Resource{"net/dns"},
		Policy:   x.Policy(appliance.Policy{}, plan.Policy{Deadline: plan.Duration(5 * time.Second)}),
	}, dnsSpec{Servers: n.DNS.Servers, Search: n.DNS.Search})
}
