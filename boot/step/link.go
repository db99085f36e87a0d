package step

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"initd/boot/appliance"
	"initd/boot/plan"
)

// linkSpec is the Spec of a unit of kind link.
type linkSpec struct {
	Name   string              `json:"name"`
	Match  appliance.LinkMatch `json:"match"`
	Rename bool                `json:"rename,omitempty"`
	// Moving are the other links of the file that are to be renamed, of a link that is.
	Moving    []appliance.LinkMatch `json:"moving,omitempty"`
	Bond      *bondSpec             `json:"bond,omitempty"`
	VLAN      *vlanSpec             `json:"vlan,omitempty"`
	Bridge    *bridgeSpec           `json:"bridge,omitempty"`
	Dummy     bool                  `json:"dummy,omitempty"`
	MTU       int                   `json:"mtu,omitempty"`
	Addresses []netip.Prefix        `json:"addresses,omitempty"`
	DHCP4     bool                  `json:"dhcp4,omitempty"`
	DHCP6     bool                  `json:"dhcp6,omitempty"`
	RA        bool                  `json:"ra,omitempty"`
	DNS       *linkDNSSpec          `json:"dns,omitempty"`
	Order     int                   `json:"order,omitempty"` // place in the file, of links with the same priority for DNS
}

type bondSpec struct {
	LACP    bool                  `json:"lacp,omitempty"`
	Members []appliance.LinkMatch `json:"members"`
	MIIMon  plan.Duration         `json:"miimon,omitempty"`
	Fast    bool                  `json:"fast,omitempty"`
	Hash    string                `json:"hash,omitempty"`
	Primary appliance.LinkMatch   `json:"primary,omitzero"`
	Min     int                   `json:"min,omitempty"`
}

type vlanSpec struct {
	ID       int                 `json:"id"`
	On       appliance.LinkMatch `json:"on"`
	Provider bool                `json:"provider,omitempty"`
}

type bridgeSpec struct {
	Ports []appliance.LinkMatch `json:"ports,omitempty"`
	STP   bool                  `json:"stp,omitempty"`
	Delay plan.Duration         `json:"delay,omitempty"`
}

type linkDNSSpec struct {
	Servers  []string `json:"servers,omitempty"`
	Search   []string `json:"search,omitempty"`
	Priority int      `json:"priority,omitempty"`
	Ignore   bool     `json:"ignore,omitempty"`
}

func linkStep() Step {
	return Step{
		Kind: plan.Kind{Name: "link", Expand: expandLinks},
		New:  newLinkAction,
	}
}

// expandLinks: a link becomes net/NAME, which needs the interface, or what it
// is made of.
func expandLinks(x *plan.Expansion) {
	n := x.Appliance.Network
	if n == nil {
		return
	}
	for i, l := range n.Links {
		at := fmt.Sprintf("network.links[%d]", i)
		s := specOfLink(n, l)
		s.Order = i
		needs, modules := linkNeeds(s)
		x.Add(at, plan.Unit{
			ID:       netID(l.Name),
			Stage:    plan.Network,
			Needs:    needs,
			Provides: []plan.Resource{plan.Resource(netID(l.Name))},
			Policy: x.Policy(l.Policy, plan.Policy{
				Deadline: plan.Duration(30 * time.Second),
				Wait:     plan.Duration(20 * time.Second),
				Retry:    plan.Retry{Initial: plan.Duration(time.Second), Max: plan.Duration(15 * time.Second), Factor: 2, Jitter: 0.1},
			}),
			Wants: plan.Wants{Modules: append([]string{"af_packet", "ipv6"}, modules...)},
		}, s)
	}
}

func specOfLink(n *appliance.Network, l appliance.Link) linkSpec {
	s := linkSpec{Name: l.Name, Match: l.Match, Rename: l.Rename, Dummy: l.Dummy, MTU: l.MTU}
	if s.Match.Zero() {
		s.Match.Name = l.Name
	}
	for _, o := range n.Links {
		if l.Rename && o.Rename && o.Name != l.Name {
			s.Moving = append(s.Moving, o.Match)
		}
	}
	for _, a := range l.Addresses {
		switch a {
		case appliance.AddressDHCP4:
			s.DHCP4 = true
		case appliance.AddressDHCP6:
			s.DHCP6 = true
		case appliance.AddressRA:
			s.RA = true
		default:
			if p, err := netip.ParsePrefix(a); err == nil {
				s.Addresses = append(s.Addresses, p)
			}
		}
	}
	switch b := l.Bond; {
	case b != nil:
		s.Bond = &bondSpec{
			LACP: b.Mode == appliance.BondLACP, Members: portMatches(n, b.Members), MIIMon: plan.Duration(b.MIIMon),
			Fast: b.LACP == "fast", Hash: b.Hash, Min: b.Min,
		}
		if b.Primary != nil {
			s.Bond.Primary = portMatch(n, *b.Primary)
		}
	case l.VLAN != nil:
		s.VLAN = &vlanSpec{ID: l.VLAN.ID, On: portMatch(n, appliance.Port{Link: l.VLAN.Link}), Provider: l.VLAN.Kind == "802.1ad"}
	case l.Bridge != nil:
		s.Bridge = &bridgeSpec{Ports: portMatches(n, l.Bridge.Ports), STP: l.Bridge.STP, Delay: plan.Duration(l.Bridge.Delay)}
	}
	if d := l.DNS; d != nil {
		s.DNS = &linkDNSSpec{Servers: d.Servers, Search: d.Search, Priority: d.Priority, Ignore: d.Ignore}
	}
	return s
}

// portMatch finds what a word means: a link of this file, as that one is
// found, or an interface of that name.
func portMatch(n *appliance.Network, p appliance.Port) appliance.LinkMatch {
	if p.Link == "" {
		return p.Match
	}
	for _, l := range n.Links {
		if l.Name == p.Link && !l.Match.Zero() {
			return l.Match
		}
	}
	return appliance.LinkMatch{Name: p.Link}
}

func portMatches(n *appliance.Network, list []appliance.Port) []appliance.LinkMatch {
	var out []appliance.LinkMatch
	for _, p := range list {
		out = append(out, portMatch(n, p))
	}
	return out
}

// linkNeeds: what is found needs the interface. A VLAN needs the one that it
// is on, a bond and a bridge one of those that they are made of: the others
// join when they come.
func linkNeeds(s linkSpec) (needs []plan.Need, modules []string) {
	any := func(list []appliance.LinkMatch) []plan.Need {
		if len(list) == 0 {
			return nil
		}
		var of []plan.Resource
		for _, m := range list {
			if r := linkResource(m); !slices.Contains(of, r) {
				of = append(of, r)
			}
		}
		return []plan.Need{{AnyOf: of}}
	}
	switch {
	case s.Bond != nil:
		return any(s.Bond.Members), []string{"bonding"}
	case s.VLAN != nil:
		// Up, because only then it is as its own unit wants it: with its MTU, and no bond that the module left behind.
		below := strings.TrimPrefix(string(linkResource(s.VLAN.On)), plan.ClassLink+"/")
		return []plan.Need{{AnyOf: []plan.Resource{plan.Resource(plan.ClassLink + "/up/" + below)}}}, []string{"8021q"}
	case s.Bridge != nil:
		return any(s.Bridge.Ports), []string{"bridge"}
	case s.Dummy:
		return nil, []string{"dummy"}
	}
	return any([]appliance.LinkMatch{s.Match}), nil
}

// made tells whether the link is made rather than found.
func (s linkSpec) made() bool { return s.Bond != nil || s.VLAN != nil || s.Bridge != nil || s.Dummy }

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
