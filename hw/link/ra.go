package link

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"
)

// RA says what is taken of what routers advertise on an interface. The kernel does it (RFC 4861, RFC 4862).
type RA uint8

// What is taken.
const (
	RAUnchanged RA = iota // nothing is said
	RANothing
	RARoutes    // routes, but no addresses: those come by DHCPv6
	RAAddresses // routes and addresses
)

// sysctls are those of an interface (Documentation/networking/ip-sysctl.rst): accept_ra 2 takes them although the machine
// forwards.
func (r RA) sysctls() [][2]string {
	switch r {
	case RANothing:
		return [][2]string{{"accept_ra", "0"}}
	case RARoutes:
		return [][2]string{{"accept_ra", "2"}, {"autoconf", "0"}}
	case RAAddresses:
		return [][2]string{{"accept_ra", "2"}, {"autoconf", "1"}}
	}
	return nil
}

func sysctlPath(i Interface, key string) string {
	return "/proc/sys/net/ipv6/conf/" + i.Name + "/" + key
}

// missing compares; a kernel without IPv6 lacks nothing of what is not asked for.
func (r RA) missing(i Interface) string {
	for _, s := range r.sysctls() {
		b, err := os.ReadFile(sysctlPath(i, s[0]))
		switch {
		case errors.Is(err, fs.ErrNotExist) && r == RANothing:
		case err != nil:
			return fmt.Sprintf("IPv6 cannot be set up on %s: %v", i.Name, err)
		case strings.TrimSpace(string(b)) != s[1]:
			return "what routers advertise is treated otherwise"
		}
	}
	return ""
}

// set writes what differs. Where a disk is reached over the interface, what came from routers stays as it is.
func (r RA) set(i Interface, carries bool) error {
	if r == RANothing && carries {
		return nil
	}
	for _, s := range r.sysctls() {
		err := os.WriteFile(sysctlPath(i, s[0]), []byte(s[1]), 0o644)
		if errors.Is(err, fs.ErrNotExist) {
			if r == RANothing {
				return nil
			}
			return errors.New("this kernel has no IPv6 (ipv6.disable=1?)")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Solicitation of routers (RFC 4861, 6.3.7, 10).
const (
	solicitations = 3
	solicitPause  = 4 * time.Second
)

// Advertised is what routers have said on an interface, in so far as it matters here.
type Advertised struct {
	Managed bool // addresses come by DHCPv6
	Other   bool // name servers and the like do
	Address bool // an address of theirs is usable
}

// AwaitRouters asks the routers on an interface, which is up, and waits until one has answered; where autoconf is set also
// until an address is usable, unless they say that addresses come by DHCPv6. waiting hears what is missing.
func AwaitRouters(ctx context.Context, name string, autoconf bool, waiting func(string)) (Advertised, error) {
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	ask := make(chan struct{}, 1)
	asked := make(chan struct{})
	go func() { defer close(asked); solicit(watch, name, ask) }()
	defer func() { cancel(); <-asked }()
	var result Advertised
	done, said := false, ""
	err := Watch(watch, func(s *State) {
		if done {
			return
		}
		a, why := s.advertised(name, autoconf)
		if result = a; why == "" {
			done = true
			cancel()
			return
		}
		if s.canAsk(name) {
			select {
			case ask <- struct{}{}:
			default:
			}
		}
		if why != said {
			waiting(why)
			said = why
		}
	})
	switch {
	case done:
		return result, nil
	case err != nil:
		return result, fmt.Errorf("router advertisements on %s: %w", name, err)
	}
	return result, fmt.Errorf("router advertisements: %s", said)
}

// advertised tells what is missing; "" if nothing is.
func (s *State) advertised(name string, autoconf bool) (Advertised, string) {
	i, err := s.Find(Match{Name: name})
	if err != nil {
		return Advertised{}, err.Error()
	}
	a := Advertised{Managed: i.Flags6&ifRAManaged != 0, Other: i.Flags6&ifRAOtherConf != 0, Address: s.hasDynamic6(i.Index)}
	if why := s.Cause(i); why != "" {
		return a, why
	}
	if i.Flags6&ifRAReceived == 0 && !a.Address {
		return a, name + ": no router has answered"
	}
	if autoconf && !a.Address && !a.Managed {
		for _, x := range s.Addresses {
			if x.Index == i.Index && x.Duplicate {
				return a, fmt.Sprintf("%s: another machine has %s", name, x.Prefix.Addr())
			}
		}
		return a, name + ": waiting for an address from a router"
	}
	return a, ""
}

func (s *State) hasDynamic6(index int) bool {
	return slices.ContainsFunc(s.Addresses, func(a Address) bool {
		return a.Index == index && a.Prefix.Addr().Is6() && a.Dynamic && !a.LinkLocal && !a.Tentative && !a.Duplicate
	})
}

// canAsk: there is a link-local address to come from.
func (s *State) canAsk(name string) bool { return s.linkLocal(name).IsValid() }

func (s *State) linkLocal(name string) netip.Addr {
	i, err := s.Find(Match{Name: name})
	if err != nil || !i.Carrier {
		return netip.Addr{}
	}
	for _, a := range s.Addresses {
		if a.Index == i.Index && a.LinkLocal && a.Prefix.Addr().Is6() && !a.Tentative && !a.Duplicate {
			return a.Prefix.Addr().WithZone(name)
		}
	}
	return netip.Addr{}
}

// solicit asks up to three times once ask has said that it can be done. The kernel asks too, but only when the interface
// comes up.
func solicit(ctx context.Context, name string, ask <-chan struct{}) {
	for n := 0; n < solicitations; n++ {
		select {
		case <-ask:
		case <-ctx.Done():
			return
		}
		_ = sendSolicitation(name) // a courtesy: routers speak by themselves too
		pause := time.NewTimer(solicitPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return
		}
	}
}
