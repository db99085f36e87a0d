package iscsi

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// scriptedKernel answers requests about sessions with return codes, and is the only way to have it stand between telling that a
// connection failed and showing it.
type scriptedKernel struct {
	fd     int
	code   func(typ uint32) int32
	events chan Event
	asked  []uint32 // requests, once its end is closed
	done   chan struct{}
}

// newScriptedKernel is a kernel that shows the sessions of machineWithSessions.
func newScriptedKernel(t *testing.T, code func(typ uint32) int32) (*Kernel, *scriptedKernel) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := &scriptedKernel{fd: pair[1], code: code, events: make(chan Event, 8), done: make(chan struct{})}
	go s.answer()
	k := &Kernel{sys: machineWithSessions(), fd: pair[0], listen: func(context.Context) (<-chan Event, error) { return s.events, nil }}
	return k, s
}

func (s *scriptedKernel) answer() {
	defer close(s.done)
	defer unix.Close(s.fd)
	buf := make([]byte, 16<<10)
	for {
		n, err := unix.Read(s.fd, buf)
		if err != nil || n < nlHeader+ueventSize {
			return
		}
		typ := binary.NativeEndian.Uint32(buf[nlHeader:])
		s.asked = append(s.asked, typ)
		binary.NativeEndian.PutUint32(buf[nlHeader+offReply:], uint32(s.code(typ)))
		if _, err := unix.Write(s.fd, buf[:nlHeader+ueventSize]); err != nil {
			return
		}
	}
}

// requests are what was asked for until now; there can be none after it.
func (s *scriptedKernel) requests(t *testing.T, k *Kernel) []uint32 {
	t.Helper()
	if err := k.Close(); err != nil {
		t.Error(err)
	}
	<-s.done
	return s.asked
}

func answered(opcode byte) Event {
	p := &pdu{}
	p.header[0] = opcode
	return Event{Kind: PDU, Session: 1, Async: -1, pdu: p}
}

func TestASessionIsUpByTheKernelsWordAndNotByItsLooks(t *testing.T) {
	rec := Record{Session: 1, Host: 5, ISID: "80aabbccddee", Config: Config{Target: "iqn.2026-01.net.example:t1", Initiator: testInitiator, Portal: deaf(t)}}
	for _, row := range []struct {
		name  string
		ping  unix.Errno
		event *Event
		left  bool // as it is
	}{
		{"it failed a moment ago, and its cleaning up waits", unix.ENOTCONN, nil, false},
		{"it is failing", unix.EPERM, nil, false},
		{"it fails instead of an answer", 0, &Event{Kind: Lost, Session: 1, Error: 1020}, false},
		{"the kernel's word was missed", 0, &Event{Kind: Overflow}, false},
		{"the target answers", 0, new(answered(opNopIn)), true},
	} {
		t.Run(row.name, func(t *testing.T) {
			k, s := newScriptedKernel(t, func(typ uint32) int32 {
				if typ != reqSendPDU {
					return 0
				}
				return -int32(row.ping)
			})
			if row.ping == 0 {
				s.code = func(uint32) int32 { s.events <- *row.event; return 0 }
			}
			err := k.Recover(t.Context(), rec, nil, false)
			want := []uint32{reqSendPDU}
			if !row.left { // stopped, and again when nobody answers at the portal
				want = append(want, reqStopConn, reqStopConn)
			}
			if diff := cmp.Diff(want, s.requests(t, k)); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
			if row.left != (err == nil) || err != nil && !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("recovery: %v", err)
			}
		})
	}
}

// keptSession is a supervisor of session 1 of machineWithSessions, which sysfs shows as up all the time.
func keptSession(t *testing.T) (*Supervisor, Record) {
	t.Helper()
	portal, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { portal.Close() })
	at, err := ParsePortal(portal.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	r := RecordsAt(t.TempDir())
	rec := Record{Session: 1, ISID: "80aabbccddee", Config: Config{Target: "iqn.2026-01.net.example:t1", Portal: at}}
	if err := r.Write(rec); err != nil {
		t.Fatal(err)
	}
	return &Supervisor{Sys: machineWithSessions(), Records: r, Tell: func(Record, News) {}}, rec
}

func TestAConnectionThatFailsAsSoonAsItIsMadeIsMadeAnew(t *testing.T) {
	lost := Event{Kind: Lost, Session: 1, Error: 1020, Async: -1}
	login := answered(opLoginReply)
	for _, row := range []struct {
		name   string
		during []Event // of the first attempt
		want   int     // attempts
	}{
		{"an error after the login is the new connection's", []Event{login, lost}, 2},
		{"an error before the login was the old one's", []Event{lost, lost, login}, 1},
		{"without a login in between nobody can know", []Event{lost}, 2},
		{"a request to log out after the login", []Event{login, {Kind: PDU, Session: 1, Async: 1}}, 2},
		{"another session's error", []Event{{Kind: Lost, Session: 9, Error: 1020, Async: -1}}, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			s, _ := keptSession(t)
			events := make(chan Event)
			attempts := 0
			s.Recover = func(context.Context, Record, bool) error {
				if attempts++; attempts > 1 {
					return nil
				}
				for _, e := range row.during {
					events <- e
				}
				events <- Event{Kind: Unbound} // taken when the one before it is done with
				return nil
			}
			recovered := make(chan struct{}, 4)
			s.Tell = func(_ Record, n News) {
				if n.State == IsRecovered {
					recovered <- struct{}{}
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			over := make(chan struct{})
			go func() { s.keep(ctx, events); close(over) }()
			events <- lost
			for range row.want {
				select {
				case <-recovered:
				case <-ctx.Done():
					t.Fatalf("after %d attempts no other came", attempts)
				}
			}
			close(events) // what is under way is finished
			<-over
			if attempts != row.want {
				t.Errorf("%d attempts, want %d", attempts, row.want)
			}
		})
	}
}
