package link

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Way tells whether a connection to dst could be made: a route, its interface up and with carrier, a usable address to come
// from. reason says what is missing, or, when there is a way, what is doubtful about it. An address with a zone
// (fe80::1%eth0) goes over that interface only.
//
// It follows the tables that the policy rules lead to (ip-rule(8)), as the kernel does for packets of this machine's own.
func (s *State) Way(dst netip.Addr) (ok bool, reason string) { return s.WayOver(dst, dst.Zone()) }

// WayOver is Way over the interface of that kernel name only; any if it is empty.
func (s *State) WayOver(dst netip.Addr, link string) (ok bool, reason string) {
	return s.WayFrom(dst, netip.Addr{}, link)
}

// WayFrom is WayOver from one address of this machine; the kernel chooses one if it is invalid.
func (s *State) WayFrom(dst, from netip.Addr, link string) (ok bool, reason string) {
	dst, from = dst.Unmap().WithZone(""), from.Unmap().WithZone("")
	if from.IsValid() {
		if why := s.unusable(from); why != "" {
			return false, why
		}
	}
	if link == "" && s.local(dst) {
		return true, ""
	}
	f := flow{to: dst, from: from, link: link}
	routes := s.lookup(f)
	if own, ok := s.nearest(dst); dst.Is6() && !from.IsValid() && len(routes) == 0 && ok {
		// Only a rule for the address may lead on (ip6_dst_lookup_tail in net/ipv6/ip6_output.c).
		f.from = own
		routes = s.lookup(f)
	}
	if f.from.IsValid() {
		for i := range routes {
			routes[i].Source = f.from
		}
	}
	if len(routes) == 0 {
		if link != "" {
			return false, s.noRouteOver(dst, link)
		}
		return false, fmt.Sprintf("no route to %s%s", dst, s.idle(dst.Is4()))
	}
	// Several next hops of one route: one that works will do.
	for _, r := range routes {
		own, why := s.over(r, dst)
		if own.IsValid() && dst.Is4() && !from.IsValid() {
			// Once its address is chosen the kernel looks again, for the rules that ask for it (ip_route_connect in
			// include/net/route.h); for IPv6 it stays with what it has.
			f.from = own
			own, why = s.again(f, r, why)
		}
		if own.IsValid() {
			return true, why
		}
		if reason == "" {
			reason = why
		}
	}
	return false, reason
}

// unusable says why nothing can come from an address.
func (s *State) unusable(from netip.Addr) string {
	for _, a := range s.Addresses {
		if a.Prefix.Addr() != from {
			continue
		}
		i, _ := s.byIndex(a.Index)
		return a.doubt(i)
	}
	return fmt.Sprintf("this machine does not have the address %s%s", from, s.idle(from.Is4()))
}

// doubt says why an address cannot be used yet, or not at all.
func (a Address) doubt(on Interface) string {
	switch {
	case a.Duplicate:
		return fmt.Sprintf("%s on %s is somebody else's too", a.Prefix.Addr(), on.Name)
	case a.Tentative:
		return fmt.Sprintf("%s on %s is still checked for duplicates", a.Prefix.Addr(), on.Name)
	}
	return ""
}

// nearest is the address of ours that has most in common with dst (RFC 6724, 5, rule 8); false without any.
func (s *State) nearest(dst netip.Addr) (best netip.Addr, ok bool) {
	most := -1
	for _, a := range s.Addresses {
		own := a.Prefix.Addr()
		if own.Is4() != dst.Is4() || own.IsLoopback() || a.LinkLocal || a.Tentative || a.Duplicate {
			continue
		}
		common := 0
		for p, err := dst.Prefix(1); err == nil && p.Contains(own); p, err = dst.Prefix(common + 1) {
			common = p.Bits()
		}
		if common > most {
			best, most = own, common
		}
	}
	return best, best.IsValid()
}

// again is the second look; found is what the first one found, with its doubts.
func (s *State) again(f flow, found Route, doubt string) (from netip.Addr, reason string) {
	routes := s.lookup(f)
	if slices.Contains(routes, found) {
		return f.from, doubt
	}
	if len(routes) == 0 {
		return netip.Addr{}, fmt.Sprintf("no route to %s from %s", f.to, f.from)
	}
	for _, r := range routes {
		r.Source = f.from
		over, why := s.over(r, f.to)
		if over.IsValid() {
			return f.from, why
		}
		if reason == "" {
			reason = why
		}
	}
	return netip.Addr{}, reason
}

// local: the machine's own addresses need no link.
func (s *State) local(dst netip.Addr) bool {
	return dst.IsLoopback() || slices.ContainsFunc(s.Addresses, func(a Address) bool {
		return a.Prefix.Addr() == dst && !a.Tentative && !a.Duplicate
	})
}

// routes picks from one table as the kernel does: the longest prefix, then the smallest metric; more than one if they are
// next hops of one route.
func (s *State) routes(dst netip.Addr, link string, table int) []Route {
	var best []Route
	for _, r := range s.Routes {
		if r.Table != table || r.To.Addr().Is4() != dst.Is4() || !r.To.Contains(dst) {
			continue
		}
		if link != "" {
			if i, ok := s.byIndex(r.Index); !ok || i.Name != link {
				continue
			}
		}
		switch {
		case len(best) == 0 || r.To.Bits() > best[0].To.Bits() || r.To.Bits() == best[0].To.Bits() && r.Metric < best[0].Metric:
			best = []Route{r}
		case r.To == best[0].To && r.Metric == best[0].Metric:
			best = append(best, r)
		}
	}
	return best
}

// over tells whether one next hop is usable, and the address that a packet comes from then.
func (s *State) over(r Route, dst netip.Addr) (from netip.Addr, reason string) {
	if r.Refused {
		return from, fmt.Sprintf("the route to %s refuses", r.To)
	}
	i, there := s.byIndex(r.Index)
	if !there {
		return from, fmt.Sprintf("the interface of the route to %s is gone", dst)
	}
	if why := s.Cause(i); why != "" {
		return from, why
	}
	if from, reason = s.source(r, i, dst); !from.IsValid() {
		return from, reason
	}
	next := r.Via
	if !next.IsValid() {
		next = dst
	}
	if slices.Contains(s.Failed, Neighbour{Index: r.Index, Address: next}) {
		return from, fmt.Sprintf("%s does not answer on %s", next, i.Name)
	}
	return from, ""
}

// source looks for an address to come from: the one that the route names, one of the interface, of the network of the next
// hop rather than of another (inet_select_addr in net/ipv4/devinet.c), or one of the loopback interface (unnumbered links).
// The kernel would take one of any other interface too, to which nobody answers.
func (s *State) source(r Route, i Interface, dst netip.Addr) (netip.Addr, string) {
	var best netip.Addr
	rank, pending, next := 0, "", r.Via
	if !next.IsValid() {
		next = dst
	}
	for _, a := range s.Addresses {
		own := a.Prefix.Addr()
		if own.Is4() != dst.Is4() || own.IsLoopback() || a.LinkLocal && own.Is6() && !dst.IsLinkLocalUnicast() && !dst.IsMulticast() {
			continue
		}
		on, _ := s.byIndex(a.Index)
		if a.Index != i.Index && own != r.Source && !on.Loop {
			continue
		}
		if why := a.doubt(i); why != "" {
			pending = why
			continue
		}
		points := 1
		switch {
		case own == r.Source:
			points = 4
		case a.Index == i.Index && a.Prefix.Contains(next):
			points = 3
		case a.Index == i.Index:
			points = 2
		}
		if points > rank {
			best, rank = own, points
		}
	}
	if best.IsValid() {
		return best, ""
	}
	if pending != "" {
		return best, pending
	}
	if why := s.expected(i, dst.Is4()); why != "" {
		return best, why
	}
	return best, fmt.Sprintf("no %s address on %s", family(dst.Is4()), i.Name)
}

func family(is4 bool) string {
	if is4 {
		return "IPv4"
	}
	return "IPv6"
}

func (s *State) noRouteOver(dst netip.Addr, link string) string {
	for _, i := range s.Interfaces {
		if i.Name != link {
			continue
		}
		if why := s.Cause(i); why != "" {
			return why
		}
		if why := s.expected(i, dst.Is4()); why != "" {
			return why
		}
		return fmt.Sprintf("no route to %s over %s", dst, link)
	}
	return "there is no interface " + link
}

// idle names what could be why a route is missing: addresses that are to come, or interfaces that carry nothing.
func (s *State) idle(is4 bool) string {
	var list []string
	for _, i := range s.Interfaces {
		why := s.Cause(i)
		if why == "" {
			why = s.expected(i, is4)
		}
		if !i.Loop && i.Master == 0 && why != "" && !slices.Contains(list, why) {
			list = append(list, why)
		}
	}
	slices.Sort(list)
	if len(list) == 0 {
		return ""
	}
	return " (" + strings.Join(list, ", ") + ")"
}

// expected says that an address of the family is asked for on i.
func (s *State) expected(i Interface, is4 bool) string {
	for _, e := range s.Expected {
		if e.Index == i.Index && e.IPv4 == is4 && !s.hasAddress(i.Index, is4) {
			return fmt.Sprintf("%s: waiting for an address %s", e.Name, e.Protocol)
		}
	}
	return ""
}

// hasAddress: one that others can answer to.
func (s *State) hasAddress(index int, is4 bool) bool {
	return slices.ContainsFunc(s.Addresses, func(a Address) bool {
		return a.Index == index && a.Prefix.Addr().Is4() == is4 && !a.LinkLocal && !a.Duplicate && !a.Tentative
	})
}
