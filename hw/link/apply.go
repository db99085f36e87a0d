package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Config is one interface as somebody wants it.
type Config struct {
	Name      string // what people call it
	Match     Match
	MTU       int // 0: as it is
	Addresses []netip.Prefix
}

// Answer is how an interface compares with a Config.
type Answer string

// Answers.
const (
	Same    Answer = "same"
	Partial Answer = "partial" // something is missing that Apply adds
)

// Check compares; nothing is changed.
func Check(s *State, c Config) (Answer, string, error) {
	i, err := s.Find(c.Match)
	if err != nil {
		return "", "", fmt.Errorf("link %s: %w", c.Name, err)
	}
	switch {
	case !i.Up:
		return Partial, i.Name + " is down", nil
	case c.MTU != 0 && i.MTU != c.MTU:
		return Partial, fmt.Sprintf("its MTU is %d, not %d", i.MTU, c.MTU), nil
	}
	for _, p := range c.Addresses {
		a, ok := s.address(i.Index, p)
		if !ok {
			return Partial, "lacks " + p.String(), nil
		}
		if a.Tentative || a.Duplicate {
			return Partial, fmt.Sprintf("%s is not usable yet", p), nil
		}
	}
	return Same, "", nil
}

func (s *State) address(index int, p netip.Prefix) (Address, bool) {
	i := slices.IndexFunc(s.Addresses, func(a Address) bool { return a.Index == index && a.Prefix == p })
	if i < 0 {
		return Address{}, false
	}
	return s.Addresses[i], true
}

// DuplicateError is an address that another machine on the link has.
type DuplicateError struct {
	Link    string
	Address netip.Addr
}

func (e *DuplicateError) Error() string {
	return fmt.Sprintf("link %s: another machine has the address %s", e.Link, e.Address)
}

// Code is the stable code of this error.
func (*DuplicateError) Code() string { return "LINK-DUPLICATE" }

// Object is what the report names.
func (e *DuplicateError) Object() string { return e.Link }

// Hint says what to do.
func (e *DuplicateError) Hint() string {
	return "find it by its neighbours (ip neigh), or give this machine another address"
}

// Apply brings the interface up, sets its MTU and adds the addresses that are
// missing; then it waits until duplicate address detection is through. It
// returns the kernel's name of the interface. waiting hears what is missing.
func Apply(ctx context.Context, c Config, waiting func(string)) (string, error) {
	s, err := Read()
	if err != nil {
		return "", err
	}
	i, err := s.Find(c.Match)
	if err != nil {
		return "", fmt.Errorf("link %s: %w", c.Name, err)
	}
	l, err := netlink.LinkByIndex(i.Index)
	if err != nil {
		return "", fmt.Errorf("link %s (%s): %w", c.Name, i.Name, err)
	}
	if c.MTU != 0 && c.MTU != i.MTU {
		if err := netlink.LinkSetMTU(l, c.MTU); err != nil {
			return "", fmt.Errorf("link %s (%s): set MTU %d: %w", c.Name, i.Name, c.MTU, err)
		}
	}
	if !i.Up {
		if err := netlink.LinkSetUp(l); err != nil {
			return "", fmt.Errorf("link %s (%s): bring up: %w", c.Name, i.Name, err)
		}
	}
	for _, p := range c.Addresses {
		if err := addAddress(l, p, 0, 0); err != nil {
			return "", fmt.Errorf("link %s (%s): add %s: %w", c.Name, i.Name, p, err)
		}
	}
	return i.Name, settle(ctx, c, i.Index, waiting)
}

// addAddress adds p, or renews its lifetimes (seconds; 0 for ever).
func addAddress(l netlink.Link, p netip.Prefix, valid, preferred int) error {
	a := &netlink.Addr{
		IPNet:    &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())},
		ValidLft: valid, PreferedLft: preferred,
	}
	return netlink.AddrReplace(l, a)
}

// settle waits for the end of duplicate address detection of IPv6 addresses;
// without carrier it has not begun, and nothing is waited for: the way of
// whoever needs it says so.
func settle(ctx context.Context, c Config, index int, waiting func(string)) error {
	if !slices.ContainsFunc(c.Addresses, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		return nil
	}
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	var result error
	done := false
	err := Watch(watch, func(s *State) {
		i, ok := s.byIndex(index)
		pending := netip.Addr{}
		for _, p := range c.Addresses {
			a, has := s.address(index, p)
			switch {
			case has && a.Duplicate:
				result, done = &DuplicateError{Link: c.Name, Address: p.Addr()}, true
			case has && a.Tentative:
				pending = p.Addr()
			}
		}
		if !ok || !i.Carrier || !pending.IsValid() {
			done = true
		}
		if done {
			cancel()
			return
		}
		waiting(fmt.Sprintf("duplicate address detection of %s on %s", pending, i.Name))
	})
	switch {
	case done:
		return result
	case err != nil:
		return err
	}
	return fmt.Errorf("link %s: duplicate address detection: %w", c.Name, context.Cause(ctx))
}

// RouteConfig is one route as somebody wants it.
type RouteConfig struct {
	To     string // a prefix, or default
	Via    netip.Addr
	Link   string // kernel's name of the interface; empty: the kernel finds it by Via
	Metric int
}

// destination is To as a prefix of Via's family.
func (c RouteConfig) destination() (netip.Prefix, error) {
	if c.To != "default" {
		return netip.ParsePrefix(c.To)
	}
	if c.Via.Is6() {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0), nil
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0), nil
}

// HasRoute tells whether s holds the route.
func HasRoute(s *State, c RouteConfig) (bool, error) {
	to, err := c.destination()
	if err != nil {
		return false, fmt.Errorf("route to %s: %w", c.To, err)
	}
	for _, r := range s.Routes {
		i, _ := s.byIndex(r.Index)
		// The kernel gives IPv6 routes without a metric 1024.
		metric := r.Metric == c.Metric || c.Metric == 0 && to.Addr().Is6() && r.Metric == 1024
		if r.To == to && r.Via == c.Via && (c.Link == "" || i.Name == c.Link) && metric {
			return true, nil
		}
	}
	return false, nil
}

// AddRoute adds the route or replaces one to the same destination with the
// same metric.
func AddRoute(c RouteConfig) error {
	to, err := c.destination()
	if err != nil {
		return fmt.Errorf("route to %s: %w", c.To, err)
	}
	r := &netlink.Route{
		Dst:      &net.IPNet{IP: to.Addr().AsSlice(), Mask: net.CIDRMask(to.Bits(), to.Addr().BitLen())},
		Priority: c.Metric,
	}
	if c.Via.IsValid() {
		r.Gw = c.Via.AsSlice()
	} else {
		r.Scope = unix.RT_SCOPE_LINK
	}
	if c.Link != "" {
		l, err := netlink.LinkByName(c.Link)
		if err != nil {
			return fmt.Errorf("route to %s: link %s: %w", trimmed(to), c.Link, err)
		}
		r.LinkIndex = l.Attrs().Index
	}
	if err := netlink.RouteReplace(r); err != nil {
		if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) {
			return fmt.Errorf("route to %s: its gateway %s is on no link that has an address", trimmed(to), c.Via)
		}
		return fmt.Errorf("route to %s: %w", trimmed(to), err)
	}
	return nil
}

// LoopbackUp brings lo up.
func LoopbackUp() error {
	l, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}
