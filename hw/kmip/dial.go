package kmip

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	kmipgo "github.com/ovh/kmip-go"
)

// DialFunc opens a TCP connection; net.Dialer.DialContext is one.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// ResolveFunc gives the addresses of a name; net.Resolver.LookupNetIP is one.
type ResolveFunc func(ctx context.Context, network, host string) ([]netip.Addr, error)

// endpoint is a server with its identity loaded.
type endpoint struct {
	server Server
	id     *identity
	err    error // why id is nil
	// lost counts messages of several requests in a row at which the connection ended.
	lost atomic.Int32
}

// transport is how connections are made: the pace, and the network.
type transport struct {
	timing  Timing
	batch   int
	dial    DialFunc
	resolve ResolveFunc
	started time.Time
}

func (t *transport) early() bool { return time.Since(t.started) < t.timing.Early }

func (t *transport) attemptCap(s Server) time.Duration {
	if s.Timeout > 0 {
		return s.Timeout
	}
	if t.early() {
		return t.timing.Attempt
	}
	return max(t.timing.Attempt, laterAttempt)
}

func (t *transport) backoffMax() time.Duration {
	if t.early() {
		return t.timing.BackoffMax
	}
	return max(t.timing.BackoffMax, laterBackoffMax)
}

// connect opens a session at a server, trying each of its addresses.
func (t *transport) connect(ctx context.Context, e *endpoint) (*session, error) {
	if e.err != nil {
		if own, ok := errors.AsType[*Error](e.err); ok {
			return nil, e.fail(e.server.Address, own)
		}
		return nil, e.fail(e.server.Address, &Error{Code: CodeConfig, Cause: e.err, Hint: "mend the file, or name another one in the appliance file"})
	}
	addrs, err := t.addresses(ctx, e.server.Address)
	if err != nil {
		return nil, e.fail(e.server.Address, classify(err, e.id, time.Now()))
	}
	s, won, errs := race(ctx, len(addrs), addressStagger, nil, func(ctx context.Context, i int) (*session, error) {
		return t.connectTo(ctx, e, addrs[i])
	}, func(late *session) { late.close() })
	if won >= 0 {
		return s, nil
	}
	first := classify(errs[0], e.id, time.Now())
	for _, err := range errs[1:] {
		first = withOther(first, classify(err, e.id, time.Now()))
	}
	return nil, first
}

func withOther(e, other *Error) *Error {
	c := *e
	c.Others = append(append([]*Error(nil), e.Others...), other)
	c.Retryable = e.Retryable || other.Retryable
	c.Clock = e.Clock || other.Clock
	return &c
}

func (t *transport) addresses(ctx context.Context, address string) ([]string, error) {
	host, port, err := splitAddress(address)
	if err != nil {
		return nil, &Error{Code: CodeConfig, Cause: err}
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return []string{net.JoinHostPort(host, port)}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, t.timing.Resolve)
	defer cancel()
	ips, err := t.resolve(ctx, "ip", host)
	if err != nil {
		if _, ok := errors.AsType[*net.DNSError](err); ok {
			return nil, err
		}
		return nil, &Error{Code: CodeResolve, Cause: fmt.Errorf("cannot resolve %s: %w", host, err), Retryable: true}
	}
	var out []string
	seen := map[netip.Addr]bool{}
	for _, ip := range ips {
		if ip = ip.Unmap(); !seen[ip] {
			seen[ip] = true
			out = append(out, net.JoinHostPort(ip.String(), port))
		}
	}
	if len(out) == 0 {
		return nil, &Error{Code: CodeResolve, Cause: fmt.Errorf("%s has no address", host), Retryable: true}
	}
	return out, nil
}

// connectTo opens TCP, TLS and KMIP at one address. A server that answers the
// first message of a version by hanging up is dialled again with a lower one.
func (t *transport) connectTo(ctx context.Context, e *endpoint, address string) (*session, error) {
	var last *Error
	for _, header := range negotiationHeaders() {
		s, err := t.open(ctx, e, address)
		if err != nil {
			return nil, e.fail(address, classify(err, e.id, time.Now()))
		}
		s.timeout = min(t.timing.Handshake, t.timing.Exchange)
		err = s.negotiate(ctx, header)
		s.timeout = t.timing.Exchange
		if err == nil {
			return s, nil
		}
		s.abort()
		last = e.fail(address, classify(err, e.id, time.Now()))
		if last.Code == CodeClosed {
			last.Hint = "it did so after the TLS handshake: it may have refused our client certificate without saying so: register this client there"
		}
		if last.Code != CodeClosed && last.Code != CodeVersion {
			return nil, last
		}
		if ctx.Err() != nil {
			return nil, last
		}
	}
	return nil, last
}

func (t *transport) open(ctx context.Context, e *endpoint, address string) (*session, error) {
	limit := t.attemptCap(e.server)
	dctx, cancel := context.WithTimeout(ctx, limit)
	raw, err := t.dial(dctx, "tcp", address)
	cancel()
	if err != nil {
		err := classify(err, e.id, time.Now())
		if err.Code == CodeTimeout && ctx.Err() == nil { // nothing came back at all, not even a refusal
			err = &Error{Code: CodeDial, Cause: fmt.Errorf("no answer to the dial within %s", limit), Retryable: true}
		}
		return nil, err
	}
	hello := &helloConn{Conn: raw}
	conn := tls.Client(hello, e.id.config)
	hctx, cancel := context.WithTimeout(ctx, t.timing.Handshake)
	defer cancel()
	if err := conn.HandshakeContext(hctx); err != nil {
		_ = raw.Close()
		if hctx.Err() != nil && ctx.Err() == nil {
			return nil, &Error{Code: CodeTimeout, Cause: fmt.Errorf("connected, but no TLS handshake within %s", t.timing.Handshake), Retryable: true}
		}
		if old := hello.old(); old != "" {
			return nil, &Error{Code: CodeTLSVersion, Cause: fmt.Errorf("the server chose %s, which is too old", old), Hint: tooOldHint}
		}
		return nil, err
	}
	return &session{endpoint: e, address: address, conn: conn, tls: conn.ConnectionState(), timeout: t.timing.Exchange, limit: t.batch, accepted: t.batch}, nil
}

// fail names the server in a copy of err.
func (e *endpoint) fail(address string, err *Error) *Error {
	c := *err
	if c.Op == "" {
		c.Op = "connect to key server"
	}
	if c.Server == "" {
		c.Server, c.Address = e.server.Name, address
	}
	return &c
}

// negotiationHeaders are the versions in which the first message is tried:
// DiscoverVersions exists from 1.1 on, and a server should answer it whatever the header says.
func negotiationHeaders() []kmipgo.ProtocolVersion {
	return []kmipgo.ProtocolVersion{kmipgo.V1_2, kmipgo.V1_1, kmipgo.V1_0}
}
