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
	Table  int        `json:"table,omitempty"`
	Source netip.Addr `json:"source,omitzero"`
	OnLink bool       `json:"onlink,omitempty"`
	Type   string     `json:"type,omitempty"`
	// Match is the link's, where the file gives one.
	Match appliance.LinkMatch `json:"match,omitzero"`
}

func routeStep() Step {
	return Step{
		Kind: plan.Kind{Name: "route", Expand: expandRoutes},
		New:  newRouteAction,
	}
}

// expandRoutes: a route needs the link that its gateway is on, and its source
// address.
func expandRoutes(x *plan.Expansion) {
	n := x.Appliance.Network
	if n == nil {
		return
	}
	for i, r := range n.Routes {
		s := routeSpec{To: r.To, Link: r.Link, Metric: r.Metric, Table: r.Table, OnLink: r.OnLink, Type: r.Kind}
		s.Via, _ = netip.ParseAddr(r.Via) // loading has reported what is none
		s.Source, _ = netip.ParseAddr(r.Source)
		s.Match = matchOfLink(n, r.Link)
		id := routeID(s)
		x.Add(fmt.Sprintf("network.routes[%d]", i), plan.Unit{
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

// routeID tells routes apart as the kernel does: by table, destination and
// metric.
func routeID(s routeSpec) string {
	id := "route/" + s.To
	if s.To == "default" && (s.Via.Is6() || !s.Via.IsValid() && s.Source.Is6()) {
		id += "6"
	}
	if s.Table != 0 {
		id += fmt.Sprintf("/table-%d", s.Table)
	}
	if s.Metric != 0 {
		id += fmt.Sprintf("/metric-%d", s.Metric)
	}
	return id
}

// matchOfLink is how the interface of a link of this file is found, where that
// is not by its name.
func matchOfLink(n *appliance.Network, name string) appliance.LinkMatch {
	if n == nil {
		return appliance.LinkMatch{}
	}
	for _, l := range n.Links {
		if l.Name == name && !l.Rename {
			return l.Match
		}
	}
	return appliance.LinkMatch{}
}

func routeNeeds(n *appliance.Network, s routeSpec) []plan.Need {
	var needs []plan.Need
	add := func(list ...plan.Need) {
		for _, need := range list {
			if !slices.ContainsFunc(needs, func(o plan.Need) bool { return o.AnyOf[0] == need.AnyOf[0] }) {
				needs = append(needs, need)
			}
		}
	}
	has := func(l appliance.Link, is func(netip.Prefix) bool) bool {
		return slices.ContainsFunc(l.Addresses, func(a string) bool {
			p, err := netip.ParsePrefix(a)
			return err == nil && is(p)
		})
	}
	for _, l := range n.Links {
		if s.Link == l.Name || s.Source.IsValid() && has(l, func(p netip.Prefix) bool { return p.Addr() == s.Source }) {
			add(useOf(l)...)
		}
	}
	if s.Link != "" || s.Type != "" && s.Type != "unicast" {
		return needs // a link that is not there has been reported
	}
	for _, l := range n.Links {
		if has(l, func(p netip.Prefix) bool { return p.Contains(s.Via) }) {
			add(useOf(l)...)
			return needs
		}
	}
	for _, l := range n.Links {
		add(plan.Need{AnyOf: []plan.Resource{plan.Resource(netID(l.Name))}, Mode: plan.After})
	}
	return needs
}

// useOf is what whoever uses a link needs of it. A bond that lacks a member or
// its partner is degraded for that, and carries what it can all the same.
func useOf(l appliance.Link) []plan.Need {
	unit := plan.Need{AnyOf: []plan.Resource{plan.Resource(netID(l.Name))}}
	if l.Bond == nil {
		return []plan.Need{unit}
	}
	unit.Mode = plan.After
	return []plan.Need{{AnyOf: []plan.Resource{plan.Resource(plan.ClassLink + "/up/" + l.Name)}}, unit}
}
