// Package link brings network interfaces up, gives them addresses and routes,
// and answers whether there is a way to an address.
//
// It owns rtnetlink (RFC 3549, rtnetlink(7)), duplicate address detection, the
// DHCPv4 client and resolv.conf. It needs CAP_NET_ADMIN and, for DHCP,
// CAP_NET_RAW. It never takes an interface down, and never removes an address
// or a route that it did not add.
package link

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Interface is one link as the kernel shows it.
type Interface struct {
	Index   int
	Name    string
	MAC     string // "52:54:00:00:00:01"
	MTU     int
	Up      bool   // administratively
	Carrier bool   // IFF_LOWER_UP
	Path    string // as udev's ID_PATH: "pci-0000:00:04.0"; empty for virtual ones
	Driver  string
	Loop    bool
}

// Address is one address of an interface.
type Address struct {
	Index     int
	Prefix    netip.Prefix
	Tentative bool // duplicate address detection is under way
	Duplicate bool // it failed
	LinkLocal bool
}

// Route is one unicast route of the main table.
type Route struct {
	To     netip.Prefix // the zero prefix of its family for a default route
	Via    netip.Addr   // invalid: on the link
	Index  int
	Metric int
	Source netip.Addr
	// Refused: an unreachable, prohibit or blackhole route.
	Refused bool
}

// State is everything that decides whether there is a way.
type State struct {
	Interfaces []Interface
	Addresses  []Address
	Routes     []Route
	// Failed are neighbours that do not answer (NUD_FAILED), by address.
	Failed map[netip.Addr]bool
}

// Match finds an interface; all fields given must match.
type Match struct{ MAC, Path, Name, Driver string }

func (m Match) String() string {
	var s []string
	for _, f := range []struct{ k, v string }{{"mac", m.MAC}, {"path", m.Path}, {"name", m.Name}, {"driver", m.Driver}} {
		if f.v != "" {
			s = append(s, f.k+" "+f.v)
		}
	}
	return strings.Join(s, ", ")
}

// Find returns the one interface that matches, or an error that says why
// there is none.
func (s *State) Find(m Match) (Interface, error) {
	mac := m.MAC
	if hw, err := net.ParseMAC(m.MAC); err == nil {
		mac = hw.String()
	}
	var found []Interface
	for _, i := range s.Interfaces {
		if !i.Loop && (mac == "" || i.MAC == mac) && (m.Path == "" || i.Path == m.Path) && (m.Name == "" || i.Name == m.Name) && (m.Driver == "" || i.Driver == m.Driver) {
			found = append(found, i)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return Interface{}, fmt.Errorf("no interface has %s; there are %s", m, s.names())
	}
	return Interface{}, fmt.Errorf("%d interfaces have %s: %s, %s", len(found), m, found[0].Name, found[1].Name)
}

func (s *State) names() string {
	var list []string
	for _, i := range s.Interfaces {
		if !i.Loop {
			list = append(list, strings.TrimSpace(i.Name+" "+i.MAC))
		}
	}
	if len(list) == 0 {
		return "none at all"
	}
	return strings.Join(list, ", ")
}

// byIndex returns an interface; false if it is gone.
func (s *State) byIndex(index int) (Interface, bool) {
	for _, i := range s.Interfaces {
		if i.Index == index {
			return i, true
		}
	}
	return Interface{}, false
}

// Way tells whether a packet to dst could leave: a route, its interface up and
// with carrier, an address to come from. reason says what is missing, or, when
// there is a way, what is doubtful about it.
func (s *State) Way(dst netip.Addr) (ok bool, reason string) {
	dst = dst.Unmap()
	if dst.IsLoopback() {
		return true, ""
	}
	r, found := s.route(dst)
	if !found {
		return false, fmt.Sprintf("no route to %s%s", dst, s.idle())
	}
	if r.Refused {
		return false, fmt.Sprintf("the route to %s refuses", r.To)
	}
	i, there := s.byIndex(r.Index)
	switch {
	case !there:
		return false, fmt.Sprintf("the interface of the route to %s is gone", dst)
	case !i.Up:
		return false, i.Name + " is down"
	case !i.Carrier:
		return false, i.Name + ": no carrier"
	}
	if ok, why := s.source(r, i, dst); !ok {
		return false, why
	}
	next := r.Via
	if !next.IsValid() {
		next = dst
	}
	if s.Failed[next] {
		return true, fmt.Sprintf("%s does not answer on %s", next, i.Name)
	}
	return true, ""
}

// route picks as the kernel does: the longest prefix, then the smallest metric.
func (s *State) route(dst netip.Addr) (Route, bool) {
	var best Route
	found := false
	for _, r := range s.Routes {
		if r.To.Addr().Is4() != dst.Is4() || !r.To.Contains(dst) {
			continue
		}
		if !found || r.To.Bits() > best.To.Bits() || r.To.Bits() == best.To.Bits() && r.Metric < best.Metric {
			best, found = r, true
		}
	}
	return best, found
}

func (s *State) source(r Route, i Interface, dst netip.Addr) (bool, string) {
	tentative := ""
	for _, a := range s.Addresses {
		if a.Prefix.Addr().Is4() != dst.Is4() || a.LinkLocal && !dst.IsLinkLocalUnicast() {
			continue
		}
		if a.Index != i.Index && a.Prefix.Addr() != r.Source {
			continue
		}
		switch {
		case a.Duplicate:
			tentative = fmt.Sprintf("%s on %s is somebody else's too", a.Prefix.Addr(), i.Name)
		case a.Tentative:
			tentative = fmt.Sprintf("%s on %s is still checked for duplicates", a.Prefix.Addr(), i.Name)
		default:
			return true, ""
		}
	}
	if tentative != "" {
		return false, tentative
	}
	return false, fmt.Sprintf("no %s address on %s", map[bool]string{true: "IPv4", false: "IPv6"}[dst.Is4()], i.Name)
}

// idle names the interfaces that could be why a route is missing.
func (s *State) idle() string {
	var list []string
	for _, i := range s.Interfaces {
		switch {
		case i.Loop:
		case !i.Up:
			list = append(list, i.Name+" is down")
		case !i.Carrier:
			list = append(list, i.Name+": no carrier")
		}
	}
	slices.Sort(list)
	if len(list) == 0 {
		return ""
	}
	return " (" + strings.Join(list, ", ") + ")"
}
