package link

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Way tells whether a packet to dst could leave: a route, its interface up and with carrier, a usable address to come
// from. reason says what is missing, or, when there is a way, what is doubtful about it. An address with a zone
// (fe80::1%eth0) goes over that interface only.
//
// It follows the main table, as the kernel does without rules of somebody else's (ip-rule(8)).
func (s *State) Way(dst netip.Addr) (ok bool, reason string) { return s.WayOver(dst, dst.Zone()) }

// WayOver is Way over the interface of that kernel name only; any if it is empty.
func (s *State) WayOver(dst netip.Addr, link string) (ok bool, reason string) {
	dst = dst.Unmap().WithZone("")
	if link == "" && s.local(dst) {
		return true, ""
	}
	routes := s.routes(dst, link)
	if len(routes) == 0 {
		if link != "" {
			return false, s.noRouteOver(dst, link)
		}
		return false, fmt.Sprintf("no route to %s%s", dst, s.idle(dst.Is4()))
	}
	// Several next hops of one route: one that works will do.
	for _, r := range routes {
		over, why := s.over(r, dst)
		if over {
			return true, why
		}
		if reason == "" {
			reason = why
		}
	}
	return false, reason
}

// local: the machine's own addresses need no link.
func (s *State) local(dst netip.Addr) bool {
	return dst.IsLoopback() || slices.ContainsFunc(s.Addresses, func(a Address) bool {
		return a.Prefix.Addr() == dst && !a.Tentative && !a.Duplicate
	})
}

// routes picks as the kernel does: the longest prefix, then the smallest metric; more than one if they are next hops of
// one route.
func (s *State) routes(dst netip.Addr, link string) []Route {
	var best []Route
	for _, r := range s.Routes {
		if r.Table != 0 || r.To.Addr().Is4() != dst.Is4() || !r.To.Contains(dst) {
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

// over tells whether one next hop is usable.
func (s *State) over(r Route, dst netip.Addr) (bool, string) {
	if r.Refused {
		return false, fmt.Sprintf("the route to %s refuses", r.To)
	}
	i, there := s.byIndex(r.Index)
	if !there {
		return false, fmt.Sprintf("the interface of the route to %s is gone", dst)
	}
	if why := s.Cause(i); why != "" {
		return false, why
	}
	if ok, why := s.source(r, i, dst); !ok {
		return false, why
	}
	next := r.Via
	if !next.IsValid() {
		next = dst
	}
	if slices.Contains(s.Failed, Neighbour{Index: r.Index, Address: next}) {
		return true, fmt.Sprintf("%s does not answer on %s", next, i.Name)
	}
	return true, ""
}

// source looks for an address to come from: one of the interface, the one that the route names, or one of the loopback
// interface (unnumbered links). The kernel would take one of any other interface too, to which nobody answers.
func (s *State) source(r Route, i Interface, dst netip.Addr) (bool, string) {
	pending := ""
	for _, a := range s.Addresses {
		own := a.Prefix.Addr()
		if own.Is4() != dst.Is4() || own.IsLoopback() || a.LinkLocal && own.Is6() && !dst.IsLinkLocalUnicast() && !dst.IsMulticast() {
			continue
		}
		on, _ := s.byIndex(a.Index)
		if a.Index != i.Index && own != r.Source && !on.Loop {
			continue
		}
		switch {
		case a.Duplicate:
			pending = fmt.Sprintf("%s on %s is somebody else's too", own, i.Name)
		case a.Tentative:
			pending = fmt.Sprintf("%s on %s is still checked for duplicates", own, i.Name)
		default:
			return true, ""
		}
	}
	if pending != "" {
		return false, pending
	}
	if why := s.expected(i, dst.Is4()); why != "" {
		return false, why
	}
	return false, fmt.Sprintf("no %s address on %s", family(dst.Is4()), i.Name)
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
