package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// renewPause is the least time between two requests of a renewal (RFC 2131, 4.4.5).
const renewPause = time.Minute

var (
	// errReturned ends what is under way when the carrier comes back.
	errReturned = errors.New("the carrier came back")
	// errRanOut is the end of a lease.
	errRanOut = errors.New("it ran out, and no server answered")
)

func (c *client) keep(ctx context.Context, l Lease, changed func(Lease, error)) {
	k := c.follow(ctx)
	defer k.close()
	_, seen, _ := k.now()
	for ctx.Err() == nil {
		fresh, err := c.next(ctx, l, k, &seen)
		switch {
		case ctx.Err() != nil:
		case err == nil:
			err = c.host.apply(fresh, l)
			l = fresh
			changed(l, err)
		case errors.Is(err, ErrNoServer): // it is good until it ends
			changed(l, fmt.Errorf("DHCP on %s: the lease of %s could not be verified: %w", c.name, l.Address.Addr(), err))
		default:
			kept := ""
			if what := c.host.hold(l); what != "" {
				kept = fmt.Sprintf(" (the address stays: %s is reached over it)", what)
			} else {
				c.host.remove(l)
			}
			changed(l, fmt.Errorf("DHCP on %s: the lease of %s is lost%s: %w", c.name, l.Address.Addr(), kept, err))
			if fresh, err = c.acquire(ctx, k, func(string) {}); ctx.Err() == nil {
				l = fresh
				changed(l, err)
			}
		}
	}
}

// next waits until something has to be done for l and does it: the lease as it is then. ErrNoServer: l is still good and
// could not be verified. Any other error: l is lost. seen counts the returns of the carrier that were looked at.
func (c *client) next(ctx context.Context, l Lease, k *carrier, seen *int) (Lease, error) {
	work, cancel := k.bound(ctx, errReturned, func(_ bool, returns int) bool { return returns > *seen })
	fresh, err := c.renew(work, l)
	back := context.Cause(work)
	cancel()
	if err == nil || !errors.Is(back, errReturned) {
		return fresh, err
	}
	_, *seen, _ = k.now()
	fresh, err = c.verify(ctx, l)
	switch {
	case c.now() >= l.Ends() && err != nil:
		return Lease{}, errRanOut
	case err == nil || errors.Is(err, ErrRefused) || errors.Is(err, ErrNoServer):
		return fresh, err
	}
	return Lease{}, fmt.Errorf("%w (%w)", ErrNoServer, err)
}

// renew waits for T1 and asks the server, from T2 on any server, until the lease's end.
func (c *client) renew(ctx context.Context, l Lease) (Lease, error) {
	if wait := l.Obtained + l.T1 - c.now(); wait > 0 && !c.sleep(ctx, wait) {
		return Lease{}, context.Cause(ctx)
	}
	fresh, err := c.extend(ctx, l, l.Obtained+l.T2, true)
	if errors.Is(err, ErrNoServer) {
		c.host.hold(l) // before the kernel ends it with the lease
		fresh, err = c.extend(ctx, l, l.Ends(), false)
	}
	if errors.Is(err, ErrNoServer) {
		return Lease{}, errRanOut
	}
	return fresh, err
}

// extend asks until end, with half of what is left between two requests, but a minute at least (RFC 2131, 4.4.5).
func (c *client) extend(ctx context.Context, l Lease, end time.Duration, server bool) (Lease, error) {
	for {
		left := end - c.now()
		if left <= 0 {
			return Lease{}, ErrNoServer
		}
		wait := min(max(left/2, renewPause), left)
		next := c.now() + wait
		fresh, err := c.extendOnce(ctx, l, server, wait)
		if err == nil || errors.Is(err, ErrRefused) {
			return fresh, err
		}
		// The interface may be gone, or unable to send: that ends earlier than wait.
		if !c.sleep(ctx, next-c.now()) {
			return Lease{}, context.Cause(ctx)
		}
	}
}

// extendOnce sends one request and listens for wait.
func (c *client) extendOnce(ctx context.Context, l Lease, server bool, wait time.Duration) (fresh Lease, err error) {
	v, err := c.converse()
	if err != nil {
		return Lease{}, err
	}
	defer v.close()
	m, err := v.request(dhcpv4.MessageTypeRequest, dhcpv4.WithClientIP(net.IP(l.Address.Addr().AsSlice())))
	if err != nil {
		return Lease{}, err
	}
	send := func(b []byte) error { return v.wire.broadcast(b, l.Address.Addr()) }
	if server {
		send = func(b []byte) error { return v.wire.unicast(b, l.Address.Addr(), l.Server) }
	}
	once := func(n int) time.Duration {
		if n > 0 {
			return -1
		}
		return wait
	}
	err = v.ask(ctx, m, send, once, func(a *dhcpv4.DHCPv4) (bool, error) {
		if server && !fromServer(a, l.Server) {
			return false, nil // only the one that was asked may answer
		}
		return c.verdict(a, &fresh)
	})
	return fresh, err
}
