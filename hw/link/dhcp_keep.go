package link

import (
	"context"
	"net"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// renewPause is the least time between two requests of a renewal (RFC 2131, 4.4.5).
const renewPause = time.Minute

func (c *client) who() station { return c.station }

func (c *client) what(l Lease) string { return "the lease of " + l.Address.Addr().String() }

func (c *client) times(l Lease) (renew, rebind, ends time.Duration) {
	return l.Obtained + l.T1, l.Obtained + l.T2, l.Ends()
}

func (c *client) configure(_ context.Context, l, old Lease) error { return c.apply(l, old) }

// extend asks until end, with half of what is left between two requests, but a minute at least (RFC 2131, 4.4.5).
func (c *client) extend(ctx context.Context, l Lease, end time.Duration, own bool) (Lease, error) {
	pause := func(left time.Duration) time.Duration { return max(left/2, renewPause) }
	return extend(ctx, c.station, end, pause, func(wait time.Duration) (Lease, error) { return c.extendOnce(ctx, l, own, wait) })
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
