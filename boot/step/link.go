package step

import (
	"fmt"
	"net/netip"
	"time"

	"initd/boot/appliance"
	"initd/boot/plan"
)

// linkSpec is the Spec of a unit of kind link.
type linkSpec struct {
	Name      string              `json:"name"`
	Match     appliance.LinkMatch `json:"match"`
	MTU       int                 `json:"mtu,omitempty"`
	Addresses []netip.Prefix      `json:"addresses,omitempty"`
	DHCP4     bool                `json:"dhcp4,omitempty"`
}

func linkStep() Step {
	return Step{
		Kind: plan.Kind{Name: "link", Expand: expandLinks},
		New:  newLinkAction,
	}
}

// expandLinks: a link becomes net/NAME, which needs the interface.
func expandLinks(x *plan.Expansion) {
	n := x.Appliance.Network
	if n == nil {
		return
	}
	for i, l := range n.Links {
		at := fmt.Sprintf("network.links[%d]", i)
		s := linkSpec{Name: l.Name, Match: l.Match, MTU: l.MTU}
		if s.Match.Zero() {
			s.Match.Name = l.Name
		}
		for _, a := range l.Addresses {
			if a == appliance.AddressDHCP4 {
				s.DHCP4 = true
			} else if p, err := netip.ParsePrefix(a); err == nil {
				s.Addresses = append(s.Addresses, p)
			}
		}
		x.Add(at, plan.Unit{
			ID:       netID(l.Name),
			Stage:    plan.Network,
			Needs:    []plan.Need{{AnyOf: []plan.Resource{linkResource(s.Match)}}},
			Provides: []plan.Resource{plan.Resource(netID(l.Name))},
			Policy: x.Policy(l.Policy, plan.Policy{
				Deadline: plan.Duration(30 * time.Second),
				Wait:     plan.Duration(20 * time.Second),
				Retry:    plan.Retry{Initial: plan.Duration(time.Second), Max: plan.Duration(15 * time.Second), Factor: 2, Jitter: 0.1},
			}),
			Wants: plan.Wants{Modules: []string{"af_packet", "ipv6"}},
		}, s)
	}
}

func netID(link string) string { return plan.ClassNet + "/" + link }

// linkResource names the interface as precisely as the match does.
func linkResource(m appliance.LinkMatch) plan.Resource {
	switch {
	case m.MAC != "":
		return plan.Resource(plan.ClassLink + "/mac/" + m.MAC)
	case m.Path != "":
		return plan.Resource(plan.ClassLink + "/path/" + m.Path)
	case m.Name != "":
		return plan.Resource(plan.ClassLink + "/" + m.Name)
	}
	return plan.Resource(plan.ClassLink + "/driver/" + m.Driver)
}
