package link

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
)

// Resolver is a resolver of Go's own that asks these servers, whatever resolv.conf says; the port is 53 where it is 0. It
// stays with a server for as long as that one answers, and goes on to the next when it does not. It is safe for
// concurrent use. How long one server is waited for, and the search list, are those of /etc/resolv.conf (5 s, none).
func Resolver(servers []netip.AddrPort) *net.Resolver {
	r := &rotation{servers: servers}
	return &net.Resolver{PreferGo: true, StrictErrors: false, Dial: r.dial}
}

type rotation struct {
	servers []netip.AddrPort
	current atomic.Uint32 // counts failures: the server is this modulo their number
}

func (r *rotation) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	if len(r.servers) == 0 {
		return nil, errors.New("no name server is configured")
	}
	turn := r.current.Load()
	server := r.servers[int(turn)%len(r.servers)]
	if server.Port() == 0 {
		server = netip.AddrPortFrom(server.Addr(), 53)
	}
	c, err := (&net.Dialer{}).DialContext(ctx, network, server.String())
	if err != nil {
		r.current.CompareAndSwap(turn, turn+1)
		return nil, err
	}
	w := watched{Conn: c, failed: func() { r.current.CompareAndSwap(turn, turn+1) }}
	if p, ok := c.(net.PacketConn); ok {
		return &watchedPacket{watched: w, PacketConn: p}, nil
	}
	return &w, nil
}

// watched notices that a server does not answer.
type watched struct {
	net.Conn
	failed func()
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if err != nil {
		w.failed()
	}
	return n, err
}

// watchedPacket is a net.PacketConn too: by that the resolver tells datagrams from a stream (RFC 1035, 4.2).
type watchedPacket struct {
	watched
	net.PacketConn
}

func (w *watchedPacket) Read(b []byte) (int, error)  { return w.watched.Read(b) }
func (w *watchedPacket) Write(b []byte) (int, error) { return w.Conn.Write(b) }
func (w *watchedPacket) Close() error                { return w.Conn.Close() }
