package nvmeof

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Probe looks whether a portal answers, from where the connection would come: it connects and exchanges the first two messages of the
// protocol, which leaves no trace at a target but a TCP connection that ended. It waits until ctx ends, however long a target takes;
// nobody waits with it. An error is a *ConnectError.
//
// With TLS only the TCP connection is looked at: the first message would be the handshake's.
func Probe(ctx context.Context, t Target, o Options) error {
	if err := t.Check(); err != nil {
		return &ConnectError{Target: t, Reason: BadOption, Detail: err.Error()}
	}
	d := net.Dialer{KeepAlive: -1}
	if t.HostAddr.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(t.HostAddr, 0))
	}
	if t.HostIface != "" {
		d.ControlContext = func(_ context.Context, _, _ string, c syscall.RawConn) error {
			var bound error
			err := c.Control(func(fd uintptr) { bound = unix.BindToDevice(int(fd), t.HostIface) })
			return errors.Join(err, bound)
		}
	}
	conn, err := d.DialContext(ctx, "tcp", t.Addr.String())
	if err != nil {
		return asError(t, err, logged{})
	}
	defer conn.Close()
	if o.TLS {
		return nil
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	return exchange(ctx, conn, t, o)
}

func exchange(ctx context.Context, conn io.ReadWriter, t Target, o Options) error {
	answer := make([]byte, icLength)
	_, err := conn.Write(icReq(o.HeaderDigest, o.DataDigest))
	if err == nil {
		_, err = io.ReadFull(conn, answer)
	}
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return &ConnectError{Target: t, Reason: Silent}
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return &ConnectError{Target: t, Reason: HungUp}
	default:
		return asError(t, err, logged{})
	}
	r, err := parseICResp(answer)
	switch {
	case err != nil:
		return &ConnectError{Target: t, Reason: NotNVMe, Detail: err.Error()}
	case r.header != o.HeaderDigest || r.data != o.DataDigest:
		return &ConnectError{Target: t, Reason: Failed, Detail: "the target does not do the digests that are asked for"}
	}
	return nil
}

// Looks shares what was found out about a portal between all that is wanted there: one look is enough for many
// subsystems. The zero value is ready; it is safe for concurrent use, and for one moment only: nothing is looked at a second time.
type Looks struct {
	mu    sync.Mutex
	looks map[look]func() error
}

// look is what two looks have to have in common to be one.
type look struct {
	addr              netip.AddrPort
	from              netip.Addr
	iface             string
	header, data, tls bool
}

// Answers notes that a portal has just answered, in another way than by a look.
func (l *Looks) Answers(t Target, o Options) { l.look(t, o, func() error { return nil }) }

// look returns what is known of a portal, or will be by find.
func (l *Looks) look(t Target, o Options, find func() error) func() error {
	key := look{t.Addr, t.HostAddr, t.HostIface, o.HeaderDigest, o.DataDigest, o.TLS}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.looks == nil {
		l.looks = map[look]func() error{}
	}
	if l.looks[key] == nil {
		l.looks[key] = sync.OnceValue(find)
	}
	return l.looks[key]
}

// Probe is Probe, or the answer that somebody else has got there or waits for. It waits until the first one's ctx ends.
func (l *Looks) Probe(ctx context.Context, t Target, o Options) error {
	err := l.look(t, o, func() error { return Probe(ctx, t, o) })()
	if e := (*ConnectError)(nil); errors.As(err, &e) {
		own := *e
		own.Target = t
		return &own
	}
	return err
}
