package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Apply makes or renames the interface, sets its MTU, brings it up and adds the addresses that are missing; then it waits until duplicate
// address detection is through, or fails with a *DuplicateError. It returns the kernel's name of the interface. Addresses
// that are not in c stay. waiting hears what is waited for.
//
// Without carrier there is nobody to ask, and nothing is waited for: Way says so to whoever needs the link, and the
// kernel checks IPv6 addresses when the carrier comes.
func Apply(ctx context.Context, c Config, waiting func(string)) (string, error) {
	s, err := Read()
	if err != nil {
		return "", fmt.Errorf("link %s: %w", c.Name, err)
	}
	if c.Make.given() {
		if err := c.make(ctx, s, waiting); err != nil {
			return "", err
		}
		if s, err = Read(); err != nil {
			return "", fmt.Errorf("link %s: %w", c.Name, err)
		}
	}
	i, err := c.which(s)
	if err != nil {
		return "", fmt.Errorf("link %s: %w", c.Name, err)
	}
	l, err := netlink.LinkByIndex(i.Index)
	if err != nil {
		return "", fmt.Errorf("link %s (%s): %w", c.Name, i.Name, err)
	}
	if c.Rename && i.Name != c.Name {
		if err := c.rename(i, l); err != nil {
			return "", err
		}
		i.Name, l.Attrs().Name = c.Name, c.Name
	}
	if err := c.RA.set(i, c.carries(i) != ""); err != nil {
		return "", fmt.Errorf("link %s (%s): %w", c.Name, i.Name, err)
	}
	if c.MTU != 0 && c.MTU != i.MTU {
		if err := c.setMTU(s, i, l); err != nil {
			return "", err
		}
	}
	if err := netlink.LinkSetUp(l); err != nil { // also one that was up: it may have been taken down for its name or its MTU
		return "", fmt.Errorf("link %s (%s): bring up: %w", c.Name, i.Name, err)
	}
	for _, p := range c.Addresses {
		if err := takeAddress(ctx, c, s, l, p, waiting); err != nil {
			return "", err
		}
	}
	return i.Name, settle(ctx, c, i.Index, waiting)
}

func takeAddress(ctx context.Context, c Config, s *State, l netlink.Link, p netip.Prefix, waiting func(string)) error {
	name := l.Attrs().Name
	a, has := s.address(l.Attrs().Index, p)
	if has && !a.Duplicate {
		return nil
	}
	if has { // the kernel checks an address once: take it away and ask again
		if err := removeAddress(l, p); err != nil {
			return fmt.Errorf("link %s (%s): check %s again: %w", c.Name, name, p.Addr(), err)
		}
	}
	if p.Addr().Is4() && c.Probe > 0 {
		waiting(fmt.Sprintf("whether another machine has %s on %s", p.Addr(), name))
		owner, err := probeSoon(ctx, name, p.Addr(), c.Probe)
		if err != nil {
			return fmt.Errorf("link %s (%s): %w", c.Name, name, err)
		}
		if owner != nil {
			return &DuplicateError{Link: c.Name, Address: p.Addr(), Owner: owner.String()}
		}
	}
	if err := addAddress(l, p, 0); err != nil {
		return fmt.Errorf("link %s (%s): add %s: %w", c.Name, name, p, err)
	}
	if p.Addr().Is4() && c.Probe > 0 {
		_ = Announce(name, p.Addr()) // a courtesy: caches run out by themselves
	}
	return nil
}

// probeSoon gives the carrier as long to come as answers have: the interface may be up since a moment ago. Without one,
// nobody has the address here.
func probeSoon(ctx context.Context, name string, address netip.Addr, wait time.Duration) (net.HardwareAddr, error) {
	soon, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	carrier := false
	err := Watch(soon, func(s *State) {
		if i, err := s.Find(Match{Name: name}); err == nil && i.Carrier {
			carrier = true
			cancel()
		}
	})
	switch {
	case err != nil:
		return nil, err
	case ctx.Err() != nil:
		return nil, fmt.Errorf("probe %s on %s: %w", address, name, context.Cause(ctx))
	case !carrier:
		return nil, nil
	}
	return Probe(ctx, name, address, wait)
}

// addAddress adds p, or renews its lifetime (seconds; 0 for ever).
func addAddress(l netlink.Link, p netip.Prefix, lifetime int) error {
	return netlink.AddrReplace(l, &netlink.Addr{IPNet: ipnet(p), ValidLft: lifetime, PreferedLft: lifetime})
}

// removeAddress removes p; that it is gone already is fine.
func removeAddress(l netlink.Link, p netip.Prefix) error {
	err := netlink.AddrDel(l, &netlink.Addr{IPNet: ipnet(p)})
	if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

func ipnet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// settle waits for the end of duplicate address detection of IPv6 addresses.
func settle(ctx context.Context, c Config, index int, waiting func(string)) error {
	if !slices.ContainsFunc(c.Addresses, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		return nil
	}
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	var result error
	done, said := false, ""
	err := Watch(watch, func(s *State) {
		if done {
			return
		}
		why, failed := s.pending(c, index)
		if result, done = failed, failed != nil || why == ""; done {
			cancel()
		} else if why != said {
			waiting(why)
			said = why
		}
	})
	switch {
	case done:
		return result
	case err != nil:
		return fmt.Errorf("link %s: %w", c.Name, err)
	}
	return fmt.Errorf("link %s: waited for %s: %w", c.Name, said, context.Cause(ctx))
}

// pending tells which address is still being checked ("" if none is), or which check failed.
func (s *State) pending(c Config, index int) (waiting string, failed error) {
	i, ok := s.byIndex(index)
	for _, p := range c.Addresses {
		switch a, has := s.address(index, p); {
		case has && a.Duplicate:
			return "", &DuplicateError{Link: c.Name, Address: p.Addr()}
		case has && a.Tentative && ok && i.Carrier:
			waiting = fmt.Sprintf("duplicate address detection of %s on %s", p.Addr(), i.Name)
		}
	}
	return waiting, nil
}

// LoopbackUp brings lo up.
func LoopbackUp() error {
	l, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(l)
	}
	if err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}
