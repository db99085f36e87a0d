package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

const (
	// requestTries is how often an offer is asked for before another one is looked for.
	requestTries = 4
	// verifyTries is how often a lease from before is asked for before it is done without.
	verifyTries = 2
	// declinePause is waited after an address turned out to be somebody else's (RFC 2131, 3.1, 5).
	declinePause = 10 * time.Second
)

// acquire asks until it has a lease or ctx ends.
func (c *client) acquire(ctx context.Context, k *carrier, waiting func(string)) (Lease, error) {
	least := func(err error) time.Duration {
		if errors.As(err, new(*DuplicateError)) {
			return declinePause
		}
		return 0
	}
	l, err := again(ctx, c.station, k, waiting, least, c.once)
	if err != nil {
		return Lease{}, err
	}
	return l, c.apply(l, Lease{})
}

// once goes from DISCOVER to ACK, until there is an offer or ctx ends. heard is told what was wrong with answers, and
// that there are none.
func (c *client) once(ctx context.Context, heard func(error)) (Lease, error) {
	v, err := c.converse()
	if err != nil {
		return Lease{}, err
	}
	defer v.close()
	offer, err := v.discover(ctx, heard)
	if err != nil {
		return Lease{}, err
	}
	l, err := v.take(ctx, offer)
	if err != nil {
		return Lease{}, err
	}
	owner, err := c.probe(ctx, l.Address.Addr())
	switch {
	case err != nil:
		return Lease{}, err
	case owner != nil:
		return Lease{}, errors.Join(&DuplicateError{Link: c.link, Address: l.Address.Addr(), Owner: owner.String()}, v.decline(l))
	}
	return l, nil
}

// discover returns the first offer that can be used.
func (v *conversation) discover(ctx context.Context, heard func(error)) (Lease, error) {
	m, err := v.request(dhcpv4.MessageTypeDiscover)
	if err != nil {
		return Lease{}, err
	}
	var offer Lease
	send := func(b []byte) error {
		err := v.everybody(b)
		if err != nil {
			heard(err)
		}
		return err
	}
	err = v.ask(ctx, m, send, func(n int) time.Duration { return v.jitter(backoff(n)) }, func(a *dhcpv4.DHCPv4) (bool, error) {
		if a.MessageType() != dhcpv4.MessageTypeOffer {
			return false, nil
		}
		var bad error
		if offer, bad = leaseOf(a, v.now()); bad != nil {
			heard(bad)
			return false, nil
		}
		return true, nil
	})
	return offer, err
}

// everybody is who is told before there is an address to come from.
func (v *conversation) everybody(b []byte) error { return v.wire.broadcast(b, netip.IPv4Unspecified()) }

// take asks for an offer.
func (v *conversation) take(ctx context.Context, offer Lease) (Lease, error) {
	m, err := v.request(dhcpv4.MessageTypeRequest,
		dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(offer.Address.Addr().AsSlice())),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(offer.Server.AsSlice())))
	if err != nil {
		return Lease{}, err
	}
	var l Lease
	err = v.ask(ctx, m, v.everybody, v.tries(requestTries), func(a *dhcpv4.DHCPv4) (bool, error) {
		if !fromServer(a, offer.Server) {
			return false, nil // another one's business (RFC 2131, 4.3.2: others have declined by our choice)
		}
		return v.c.verdict(a, &l)
	})
	return l, err
}

func (v *conversation) tries(most int) func(int) time.Duration {
	return func(n int) time.Duration {
		if n == most {
			return -1
		}
		return v.jitter(backoff(n))
	}
}

// verdict reads an ACK into l, or a NAK. An ACK that cannot be used is not heard.
func (c *client) verdict(a *dhcpv4.DHCPv4, l *Lease) (bool, error) {
	switch a.MessageType() {
	case dhcpv4.MessageTypeNak:
		return false, ErrRefused
	case dhcpv4.MessageTypeAck:
		got, err := leaseOf(a, c.now())
		if err != nil {
			return false, nil
		}
		*l = got
		return true, nil
	}
	return false, nil
}

// decline tells the server that somebody else has the address (RFC 2131, 4.4.4).
func (v *conversation) decline(l Lease) error {
	m, err := v.request(dhcpv4.MessageTypeDecline,
		dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(l.Address.Addr().AsSlice())),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(l.Server.AsSlice())))
	if err != nil {
		return err
	}
	return v.everybody(m.ToBytes())
}

// verify asks for a lease from before (INIT-REBOOT). A NAK of another server than the lease's counts only if nobody
// acknowledges: on a network with a stray server it is the wrong one's.
func (c *client) verify(ctx context.Context, old Lease, _ *carrier) (Lease, error) {
	v, err := c.converse()
	if err != nil {
		return Lease{}, err
	}
	defer v.close()
	m, err := v.request(dhcpv4.MessageTypeRequest, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(old.Address.Addr().AsSlice())))
	if err != nil {
		return Lease{}, err
	}
	var l Lease
	strange := false
	err = v.ask(ctx, m, v.everybody, v.tries(verifyTries), func(a *dhcpv4.DHCPv4) (bool, error) {
		if a.MessageType() == dhcpv4.MessageTypeNak && !fromServer(a, old.Server) {
			strange = true
			return false, nil
		}
		return c.verdict(a, &l)
	})
	if errors.Is(err, ErrNoServer) && strange {
		return Lease{}, ErrRefused
	}
	return l, err
}

// release gives a lease back (RFC 2131, 4.4.6). There is no answer to it.
func (c *client) release(l Lease) error {
	v, err := c.converse()
	if err != nil {
		c.remove(l)
		return err
	}
	defer v.close()
	defer c.remove(l)
	m, err := v.request(dhcpv4.MessageTypeRelease,
		dhcpv4.WithClientIP(net.IP(l.Address.Addr().AsSlice())),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(l.Server.AsSlice())))
	if err == nil {
		err = v.wire.unicast(m.ToBytes(), l.Address.Addr(), l.Server)
	}
	if err != nil {
		return fmt.Errorf("%s: release %s: %w", c, l.Address.Addr(), err)
	}
	return nil
}
