package link

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// DHCP6 is the DHCPv6 client of one interface, which is up (RFC 8415): one address (IA_NA), name servers. Routes are the
// routers' to advertise. Its methods are not to be called at the same time.
type DHCP6 struct {
	Link string // kernel's name
	// DUID names this machine to servers; see DUID.
	DUID []byte
	// Carries is as DHCP's.
	Carries func(Interface) string
}

// Lease6 is a lease of DHCPv6. It marshals, so that a successor process can go on renewing it.
type Lease6 struct {
	Address   netip.Addr    `json:"address,omitzero"` // invalid: information only
	Server    []byte        `json:"server,omitempty"` // DUID
	DNS       []netip.Addr  `json:"dns,omitempty"`
	Search    []string      `json:"search,omitempty"`
	NTP       []netip.Addr  `json:"ntp,omitempty"` // information only
	T1        time.Duration `json:"t1"`            // renew, or ask for information again, after
	T2        time.Duration `json:"t2,omitempty"`  // rebind after
	Preferred time.Duration `json:"preferred,omitempty"`
	Valid     time.Duration `json:"valid,omitempty"`
	Obtained  time.Duration `json:"obtained"` // CLOCK_BOOTTIME
}

// Ends is when the lease does, by CLOCK_BOOTTIME.
func (l Lease6) Ends() time.Duration { return l.Obtained + l.Valid }

// Prefix is the address as the interface has it: nothing else is on the link because of it (RFC 5942).
func (l Lease6) Prefix() netip.Prefix { return netip.PrefixFrom(l.Address, 128) }

// Acquire asks for a lease until it has one or ctx ends, and gives the interface its address, once nobody else has it.
func (d DHCP6) Acquire(ctx context.Context, waiting func(string)) (Lease6, error) {
	c := newClient6(d)
	k := followCarrier(ctx, c.host.carrier)
	defer k.close()
	return c.acquire(ctx, k, waiting)
}

// Inform asks for name servers alone, until there is an answer or ctx ends.
func (d DHCP6) Inform(ctx context.Context, waiting func(string)) (Lease6, error) {
	c := newClient6(d)
	k := followCarrier(ctx, c.host.carrier)
	defer k.close()
	return c.inform(ctx, k, waiting)
}

// Keep renews a lease, or information, until ctx ends, and then leaves it as it is, for a successor. It is DHCP.Keep for
// IPv6, in everything.
func (d DHCP6) Keep(ctx context.Context, l Lease6, changed func(Lease6, error)) {
	newClient6(d).keep(ctx, l, changed)
}

var (
	// ErrNoBinding says that the server does not know the lease, or has no address.
	ErrNoBinding = errors.New("the server has no address for this machine")
	// ErrNotOnLink says that the address is another network's.
	ErrNotOnLink = errors.New("the address is not of this network")
)

// acquire asks until it has a lease or ctx ends.
func (c *client6) acquire(ctx context.Context, k *carrier, waiting func(string)) (Lease6, error) {
	return c.again(ctx, k, waiting, func(ctx context.Context, heard func(error)) (Lease6, error) {
		l, err := c.once(ctx, heard)
		if err != nil {
			return l, err
		}
		return l, c.configure(ctx, l, Lease6{})
	})
}

func (c *client6) inform(ctx context.Context, k *carrier, waiting func(string)) (Lease6, error) {
	return c.again(ctx, k, waiting, c.information)
}

// again calls once until it succeeds or ctx ends. Without carrier nothing is sent, and when it comes, something is at once.
func (c *client6) again(ctx context.Context, k *carrier, waiting func(string), once func(context.Context, func(error)) (Lease6, error)) (Lease6, error) {
	said := ""
	var last error
	heard := func(err error) {
		last = err
		if s := err.Error(); s != said {
			waiting(fmt.Sprintf("a DHCPv6 server on %s: %s", c.name, s))
			said = s
		}
	}
	for n := 0; ; n++ {
		if !k.up() {
			waiting(c.name + ": no carrier")
			last, said, n = errNoCarrier, "", 0
		}
		if !k.wait(ctx) {
			break
		}
		heard(ErrNoServer)
		attempt, cancel := k.while(ctx)
		l, err := once(attempt, heard)
		cancel()
		if err == nil {
			return l, nil
		}
		if ctx.Err() != nil {
			break
		}
		if errors.Is(err, errNoCarrier) {
			continue
		}
		heard(err)
		if !c.sleep(ctx, c.jitter(backoff(n))) {
			break
		}
	}
	return Lease6{}, fmt.Errorf("DHCPv6 on %s: %w", c.name, last)
}

// configure gives the interface the address and declines it if somebody else has it (RFC 8415, 18.2.8).
func (c *client6) configure(ctx context.Context, l, old Lease6) error {
	err := c.host.apply(ctx, l, old)
	var duplicate *DuplicateError
	if errors.As(err, &duplicate) {
		return errors.Join(err, c.decline(ctx, l))
	}
	return err
}

func (c *client6) keep(ctx context.Context, l Lease6, changed func(Lease6, error)) {
	k := followCarrier(ctx, c.host.carrier)
	defer k.close()
	_, seen, _ := k.now()
	for ctx.Err() == nil {
		fresh, err := c.next(ctx, l, k, &seen)
		switch {
		case ctx.Err() != nil:
		case err == nil:
			if fresh.Address.IsValid() {
				err = c.configure(ctx, fresh, l)
			}
			l = fresh
			changed(l, err)
		case errors.Is(err, ErrNoServer):
			changed(l, fmt.Errorf("DHCPv6 on %s: %s could not be verified: %w", c.name, l.what(), err))
		default:
			kept := ""
			if what := c.host.hold(l); what != "" {
				kept = fmt.Sprintf(" (the address stays: %s is reached over it)", what)
			} else {
				c.host.remove(l)
			}
			changed(l, fmt.Errorf("DHCPv6 on %s: %s is lost%s: %w", c.name, l.what(), kept, err))
			if fresh, err = c.acquire(ctx, k, func(string) {}); ctx.Err() == nil {
				l = fresh
				changed(l, err)
			}
		}
	}
}

func (l Lease6) what() string {
	if !l.Address.IsValid() {
		return "its information"
	}
	return "the lease of " + l.Address.String()
}

// next waits until something has to be done for l and does it: the lease as it is then. ErrNoServer: l is still good and
// could not be verified. Any other error: l is lost. seen counts the returns of the carrier that were looked at.
func (c *client6) next(ctx context.Context, l Lease6, k *carrier, seen *int) (Lease6, error) {
	work, cancel := k.bound(ctx, errReturned, func(_ bool, returns int) bool { return returns > *seen })
	fresh, err := c.renew(work, l)
	back := context.Cause(work)
	cancel()
	if err == nil || !errors.Is(back, errReturned) {
		return fresh, err
	}
	_, *seen, _ = k.now()
	if !l.Address.IsValid() {
		return c.inform(ctx, k, func(string) {})
	}
	err = c.confirm(ctx, l)
	switch {
	case c.now() >= l.Ends() && err != nil:
		return Lease6{}, errRanOut
	case err == nil:
		return l, nil
	case errors.Is(err, ErrNotOnLink), errors.Is(err, ErrNoServer):
		return Lease6{}, err
	}
	return Lease6{}, fmt.Errorf("%w (%w)", ErrNoServer, err)
}

// renew waits for T1 and asks the server, from T2 on any server, until the lease's end. Information is asked for again.
func (c *client6) renew(ctx context.Context, l Lease6) (Lease6, error) {
	if wait := l.Obtained + l.T1 - c.now(); wait > 0 && !c.sleep(ctx, wait) {
		return Lease6{}, context.Cause(ctx)
	}
	if !l.Address.IsValid() {
		fresh, err := c.information(ctx, func(error) {})
		if err != nil && ctx.Err() == nil { // what is known stays good
			l.Obtained = c.now()
			return l, nil
		}
		return fresh, err
	}
	fresh, err := c.extend(ctx, l, l.Obtained+l.T2, true)
	if errors.Is(err, ErrNoServer) {
		c.host.hold(l) // before the kernel ends it with the lease
		fresh, err = c.extend(ctx, l, l.Ends(), false)
	}
	if errors.Is(err, ErrNoServer) {
		return Lease6{}, errRanOut
	}
	return fresh, err
}
