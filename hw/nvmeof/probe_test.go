package nvmeof

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// portal listens on loopback and does as it is told with each connection.
func portal(t *testing.T, answer func(net.Conn)) Target {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				answer(c)
			}()
		}
	}()
	return target("nqn.x:a", l.Addr().String())
}

// icAnswer reads the request and answers with these digests.
func icAnswer(digests byte) func(net.Conn) {
	return func(c net.Conn) {
		if _, err := io.ReadFull(c, make([]byte, icLength)); err != nil {
			return
		}
		b := make([]byte, icLength)
		b[0], b[2], b[4], b[11] = pduICResp, icLength, icLength, digests
		_, _ = c.Write(b)
		_, _ = io.Copy(io.Discard, c) // until the other end closes
	}
}

func TestAPortalIsLookedAt(t *testing.T) {
	closed := portal(t, func(net.Conn) {})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := target("nqn.x:a", l.Addr().String())
	l.Close()
	strange := refused
	strange.HostAddr = netip.MustParseAddr("192.0.2.99")
	elsewhere := refused
	elsewhere.HostIface = "none0"
	for _, row := range []struct {
		name string
		to   Target
		o    Options
		want Reason
	}{
		{"one that speaks", portal(t, icAnswer(0)), Options{}, ""},
		{"one that does the digests", portal(t, icAnswer(3)), Options{HeaderDigest: true, DataDigest: true}, ""},
		{"one that does not do the digests", portal(t, icAnswer(0)), Options{HeaderDigest: true}, Failed},
		{"nobody listens", refused, Options{}, Refused},
		{"it closes the connection", closed, Options{}, HungUp},
		{"a web server", portal(t, func(c net.Conn) { _, _ = c.Write(append([]byte("HTTP/1.1 400 Bad Request\r\n"), make([]byte, 200)...)) }), Options{}, NotNVMe},
		{"an address that this machine has not", strange, Options{}, NoSource},
		{"an interface that this machine has not", elsewhere, Options{}, NoInterface},
		{"with TLS only the connection is looked at", portal(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }), Options{TLS: true}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err := Probe(ctx, row.to, row.o)
			var e *ConnectError
			switch {
			case row.want == "" && err == nil:
			case row.want == "" || !errors.As(err, &e):
				t.Errorf("got %v, want %q", err, row.want)
			case e.Reason != row.want && !(row.want == NoInterface && e.Reason == NotAllowed):
				t.Errorf("got %q (%v), want %q", e.Reason, err, row.want)
			}
		})
	}
}

func TestOneLookIsEnoughForAll(t *testing.T) {
	var count atomic.Int32
	at := portal(t, func(c net.Conn) {
		count.Add(1)
		icAnswer(0)(c)
	})
	none := target("nqn.x:c", "127.0.0.1:1")
	looks := &Looks{}
	var wg sync.WaitGroup
	for _, nqn := range []string{"nqn.x:a", "nqn.x:b", "nqn.x:c"} {
		wg.Go(func() {
			to := at
			to.NQN = nqn
			if err := looks.Probe(t.Context(), to, Options{}); err != nil {
				t.Error(err)
			}
			to.Addr = none.Addr
			var e *ConnectError
			if err := looks.Probe(t.Context(), to, Options{}); !errors.As(err, &e) || e.Reason != Refused || e.Target != to {
				t.Errorf("%s: got %v", nqn, err)
			}
		})
	}
	wg.Wait()
	if n := count.Load(); n != 1 {
		t.Errorf("looked %d times", n)
	}
}

func TestASilentPortalIsLeftWhenTheTimeIsOver(t *testing.T) {
	said := make(chan struct{})
	to := portal(t, func(c net.Conn) {
		_, _ = io.ReadFull(c, make([]byte, icLength))
		close(said)
		_, _ = io.Copy(io.Discard, c)
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-said // it has the request, and does not answer
		cancel(context.DeadlineExceeded)
	}()
	var e *ConnectError
	if err := Probe(ctx, to, Options{}); !errors.As(err, &e) || e.Reason != Silent || !e.Reason.Elsewhere() {
		t.Errorf("got %v", err)
	}
}

func TestErrnosHaveReasons(t *testing.T) {
	to := target("nqn.x:a", "192.0.2.40:4420")
	for errno, want := range map[error]Reason{
		unix.ECONNREFUSED: Refused, unix.ETIMEDOUT: NoAnswer, unix.EAGAIN: Silent, unix.EALREADY: Exists, unix.ENOKEY: AuthRequired,
		unix.EKEYREJECTED: AuthFailed, unix.EINVAL: BadOption, unix.ESRCH: NoHandshake, unix.ENOENT: NoDigest, unix.EIO: Failed,
	} {
		e := asError(to, errno, logged{})
		if e.Reason != want || !errors.Is(e, errno) || e.Code() == "" {
			t.Errorf("%v: got %q", errno, e.Reason)
		}
	}
}

// The lines are those of Linux 6.12.
func TestTheKernelsLogSaysWhatTheErrnoDoesNot(t *testing.T) {
	gone := func(c string) bool { return c == "nvme5" }
	for _, row := range []struct {
		name, line string
		want       Reason
	}{
		{"an unknown subsystem", `nvme nvme5: Connect Invalid Data Parameter, subsysnqn "nqn.x:a"`, NotFound},
		{"a host that may not", `nvme nvme5: Connect for subsystem nqn.x:a is not allowed, hostnqn: nqn.y`, HostRefused},
		{"no controller left", `nvme nvme5: Connect command failed: controller is busy or not available`, Busy},
		{"a secret is wanted", `nvme nvme5: qid 0: authentication required`, AuthRequired},
		{"a status", `nvme nvme5: Connect command failed, error wo/DNR bit: 388`, HostRefused},
		{"another one", `nvme nvme5: Connect command failed, error wo/DNR bit: 6`, Failed},
		{"the secret is wrong", `nvme nvme5: qid 0 authentication failed`, AuthFailed},
		{"a controller that lives and reconnects", `nvme nvme0: Connect Invalid Data Parameter, subsysnqn "nqn.x:b"`, ""},
		{"no NVMe at all", `EXT4-fs (vda): mounted`, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			l := lastOf([]string{"nvme nvme5: new ctrl: …", row.line, "nvme nvme5: Removing ctrl"}, gone)
			if l.reason != row.want {
				t.Errorf("got %+v, want %q", l, row.want)
			}
		})
	}
}
