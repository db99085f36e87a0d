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
	k := followCarrier(ctx, c.carrier)
	defer k.close()
	return c.acquire(ctx, k, waiting)
}

// Inform asks for name servers alone, until there is an answer or ctx ends.
func (d DHCP6) Inform(ctx context.Context, waiting func(string)) (Lease6, error) {
	c := newClient6(d)
	k := followCarrier(ctx, c.carrier)
	defer k.close()
	return c.inform(ctx, k, waiting)
}

// Keep renews a lease, or information, until ctx ends, and then leaves it as it is, for a successor. It is DHCP.Keep for
// IPv6, in everything.
func (d DHCP6) Keep(ctx context.Context, l Lease6, changed func(Lease6, error)) {
	keep(ctx, newClient6(d), l, changed)
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

func (c *client6) again(ctx context.Context, k *carrier, waiting func(string), once func(context.Context, func(error)) (Lease6, error)) (Lease6, error) {
	return again(ctx, c.station, k, waiting, func(error) time.Duration { return 0 }, once)
}

func (c *client6) who() station { return c.station }

func (c *client6) what(l Lease6) string {
	if !l.Address.IsValid() {
		return "its information"
	}
	return "the lease of " + l.Address.String()
}

func (c *client6) times(l Lease6) (renew, rebind, ends time.Duration) {
	return l.Obtained + l.T1, l.Obtained + l.T2, l.Ends()
}

// configure gives the interface the address and declines it if somebody else has it (RFC 8415, 18.2.8). Of information there is
// nothing to configure.
func (c *client6) configure(ctx context.Context, l, old Lease6) error {
	if !l.Address.IsValid() {
		return nil
	}
	err := c.apply(ctx, l, old)
	var duplicate *DuplicateError
	if errors.As(err, &duplicate) {
		return errors.Join(err, c.decline(ctx, l))
	}
	return err
}

// verify asks whether the address is of this network. Information is asked for again, until it is there.
func (c *client6) verify(ctx context.Context, l Lease6, k *carrier) (Lease6, error) {
	if !l.Address.IsValid() {
		return c.inform(ctx, k, func(string) {})
	}
	err := c.confirm(ctx, l)
	if errors.Is(err, ErrNoBinding) { // no answer to the question
		return l, fmt.Errorf("%w (%w)", ErrNoServer, err)
	}
	return l, err
}
