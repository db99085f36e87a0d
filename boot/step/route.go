package step

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"initd/boot/appliance"
	"initd/boot/plan"
)

// routeSpec is the Spec of a unit of kind route.
type routeSpec struct {
	To     string     `json:"to"` // a prefix, or default
	Via    netip.Addr `json:"via,omitzero"`
	Link   string     `json:"link,omitempty"`
	Metric int        `json:"metric,omitempty"`
	// Match is the link's, where the file gives one.
	Match appliance.LinkMatch `json:"match,omitzero"`
}

func routeStep() Step {
	return Step{
		Kind: plan.Kind{Name: "route", Expand: expandRoutes},
		New:  newRouteAction,
	}
}

// expandRoutes: a route needs the link that its gateway is on.
func expandRoutes(x *plan.Expansion) {
	n := x.Appliance.Network
	if n == nil {
		return
	}
	for i, r := range n.Routes {
		at := fmt.Sprintf("network.routes[%d]", i)
		s := routeSpec{To: r.To, Link: r.Link, Metric: r.Metric}
		if a, err := netip.ParseAddr(r.Via); err == nil {
			s.Via = a
		}
		for _, l := range n.Links {
			if l.Name == r.Link {
				s.Match = l.Match
			}
		}
		id := "route/" + r.To
		if s.To == "default" && s.Via.Is6() {
			id += "6"
		}
		x.Add(at, plan.Unit{
			ID:       id,
			Stage:    plan.Network,
			Needs:    routeNeeds(n, s),
			Provides: []plan.Resource{plan.Resource("net/" + id)},
			Policy: x.Policy(appliance.Policy{}, plan.Policy{
				Deadline: plan.Duration(5 * time.Second), Wait: plan.Duration(20 * time.Second),
			}),
		}, s)
	}
}

func routeNeeds(n *appliance.Network, s routeSpec) []plan.Need {
	if s.Link != "" {
		if !slices.ContainsFunc(n.Links, func(l appliance.Link) bool { return l.Name == s.Link }) {
			return nil // loading has reported that
		}
		return []plan.Need{{AnyOf: []plan.Resource{plan.Resource(netID(s.Link))}}}
	}
	var all []plan.Need
	for _, l := range n.Links {
		r := plan.Resource(netID(l.Name))
		for _, a := range l.Addresses {
			if p, err := netip.ParsePrefix(a); err == nil && p.Contains(s.Via) {
				return []plan.Need{{AnyOf: []plan.Resource{r}}}
			}
		}
		all = append(all, plan.Need{AnyOf: []plan.Resource{r}, Mode: plan.After})
	}
	return all
}
