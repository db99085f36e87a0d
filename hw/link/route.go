package link

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// RouteConfig is one route as somebody wants it.
type RouteConfig struct {
	To     string     // a prefix, or default: of IPv4 where neither Via nor Source says
	Via    netip.Addr // invalid: on the link, or nowhere, as Type says
	Link   string     // kernel's name of the interface; empty: the kernel finds it by Via
	Metric int        // smaller is preferred; 0: the family's own default
	Source netip.Addr // the address to come from; invalid: the kernel chooses
	OnLink bool       // Via is on the link, although no address of it says so
	Table  int        // 0: main
	Type   uint8      // RTN_*; 0: RTN_UNICAST
}

// defaultMetric6 is what the kernel makes of metric 0 for IPv6 (IP6_RT_PRIO_USER, include/net/ip6_route.h).
const defaultMetric6 = 1024

// destination is To as a prefix, of the family of Via or else of Source.
func (c RouteConfig) destination() (netip.Prefix, error) {
	if c.To != "default" {
		return netip.ParsePrefix(c.To)
	}
	if c.Via.Is6() || !c.Via.IsValid() && c.Source.Is6() {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0), nil
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0), nil
}

// table is the routing table as Route has it.
func (c RouteConfig) table() int {
	if c.Table == unix.RT_TABLE_MAIN {
		return 0
	}
	return c.Table
}

func (r Route) kind() uint8 {
	if r.Type == 0 && !r.Refused {
		return unix.RTN_UNICAST
	}
	return r.Type
}

func (c RouteConfig) kind() uint8 {
	if c.Type == 0 {
		return unix.RTN_UNICAST
	}
	return c.Type
}

// CheckRoute compares; nothing is changed. Different is a route to the same destination with the same metric by another
// way; AddRoute would replace it.
func CheckRoute(s *State, c RouteConfig) (Answer, string, error) {
	to, err := c.destination()
	if err != nil {
		return "", "", fmt.Errorf("route to %s: %w", c.To, err)
	}
	metric := c.Metric
	if metric == 0 && to.Addr().Is6() {
		metric = defaultMetric6
	}
	other := ""
	for _, r := range s.Routes {
		if r.To != to || r.Metric != metric || r.Table != c.table() {
			continue
		}
		i, _ := s.byIndex(r.Index)
		if r.kind() == c.kind() && (r.Refused || r.Via == c.Via) && (c.Link == "" || i.Name == c.Link) && (!c.Source.IsValid() || r.Source == c.Source) {
			return Same, "", nil
		}
		other = r.words(i)
	}
	if other != "" {
		return Different, "it leads " + other, nil
	}
	return Absent, "", nil
}

func (r Route) words(i Interface) string {
	switch {
	case r.Refused:
		return "nowhere: it refuses"
	case r.Via.IsValid():
		return fmt.Sprintf("via %s over %s", r.Via, i.Name)
	}
	return "over " + i.Name
}

// AddRoute adds the route or replaces one to the same destination with the same metric.
func AddRoute(c RouteConfig) error {
	to, err := c.destination()
	if err != nil {
		return fmt.Errorf("route to %s: %w", c.To, err)
	}
	r := &netlink.Route{Dst: ipnet(to), Priority: c.Metric, Table: c.Table, Type: int(c.kind())}
	switch {
	case c.Via.Is6() && to.Addr().Is4(): // RFC 5549
		r.Via = &netlink.Via{AddrFamily: unix.AF_INET6, Addr: c.Via.AsSlice()}
	case c.Via.IsValid():
		r.Gw = c.Via.AsSlice()
	case to.Addr().Is4() && c.kind() == unix.RTN_UNICAST:
		r.Scope = unix.RT_SCOPE_LINK
	}
	if c.Source.IsValid() {
		r.Src = c.Source.AsSlice()
	}
	if c.OnLink {
		r.SetFlag(netlink.FLAG_ONLINK)
	}
	if c.Link != "" {
		l, err := netlink.LinkByName(c.Link)
		if err != nil {
			return fmt.Errorf("route to %s: link %s: %w", trimmed(to), c.Link, err)
		}
		r.LinkIndex = l.Attrs().Index
	}
	if err := netlink.RouteReplace(r); err != nil {
		switch {
		case errors.Is(err, unix.EINVAL) && c.Source.IsValid():
			return fmt.Errorf("route to %s: its source %s is no address of this machine", trimmed(to), c.Source)
		case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH):
			return fmt.Errorf("route to %s: its gateway %s is on no link that has an address", trimmed(to), c.Via)
		case errors.Is(err, unix.ENETDOWN):
			return fmt.Errorf("route to %s: %s is down", trimmed(to), c.Link)
		}
		return fmt.Errorf("route to %s: %w", trimmed(to), err)
	}
	return nil
}

// trimmed names a prefix as ip(8) does.
func trimmed(p netip.Prefix) string {
	if p.Bits() == 0 {
		return "default"
	}
	return strings.TrimSuffix(strings.TrimSuffix(p.String(), "/32"), "/128")
}
