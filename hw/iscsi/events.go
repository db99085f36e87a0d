package iscsi

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// EventKind is what the kernel tells of a session.
type EventKind int

// Kinds of events.
const (
	Lost      EventKind = iota + 1 // a connection failed: Error says how
	PDU                            // a target sent what is not the kernel's to answer
	Unbound                        // its disks are gone
	Destroyed                      // it is gone
	Overflow                       // events were lost: look at sysfs
)

// Event is one.
type Event struct {
	Kind    EventKind
	Session uint32
	Error   uint32 // Lost: enum iscsi_err
	// Async is the event code of an asynchronous message, or -1 (RFC 7143, 11.9.1); Seconds is its Parameter3.
	Async   int
	Seconds uint16
	pdu     *pdu
}

// Why says in words what a connection failed of (enum iscsi_err, include/scsi/iscsi_if.h).
func (e Event) Why() string {
	switch e.Error {
	case 1011:
		return "the connection failed"
	case 1014, 1015:
		return "a digest did not match"
	case 1018:
		return "an unexpected message"
	case 1019:
		return "sending failed"
	case 1020:
		return "the target closed the connection"
	case 1022:
		return "no answer to a ping"
	}
	return fmt.Sprintf("connection error %d", e.Error)
}

// Listen hears the kernel's events of every session, whoever made it, from now on, until ctx ends. A reader that is too slow
// gets Overflow. While nobody listens, the kernel fails a connection on which a message comes that is not its own to answer.
func Listen(ctx context.Context) (<-chan Event, error) {
	fd, err := openNetlink(1)
	if err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20); err != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 8<<20) // what a limit allows
	}
	f := os.NewFile(uintptr(fd), "iscsi events")
	out := make(chan Event)
	stop := context.AfterFunc(ctx, func() { f.Close() })
	go func() {
		defer close(out)
		defer stop()
		defer f.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := f.Read(buf)
			var e Event
			switch {
			case errors.Is(err, unix.ENOBUFS):
				e = Event{Kind: Overflow}
			case err != nil:
				return
			default:
				var ok bool
				if e, ok = parseEvent(buf[:n]); !ok {
					continue
				}
			}
			select {
			case out <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

// parseEvent reads one message of the kernel; ok is false for what is none, or of no interest.
func parseEvent(b []byte) (e Event, ok bool) {
	if len(b) < nlHeader+ueventSize {
		return e, false
	}
	event := b[nlHeader:]
	at := func(i int) uint32 { return binary.NativeEndian.Uint32(event[i:]) }
	e.Async = -1
	switch at(0) {
	case evConnError:
		e.Kind, e.Session, e.Error = Lost, at(offReply), at(offReply+8)
	case evUnbound:
		e.Kind, e.Session = Unbound, at(offReply)
	case evDestroyed:
		e.Kind, e.Session = Destroyed, at(offReply+4)
	case evRecvPDU:
		body := event[ueventSize:]
		if len(body) < headerSize {
			return e, false
		}
		p := &pdu{}
		copy(p.header[:], body)
		n := min(p.dataLength(), len(body)-headerSize)
		p.data = append([]byte(nil), body[headerSize:headerSize+n]...)
		e.Kind, e.Session, e.pdu = PDU, at(offReply), p
		if p.opcode() == opAsync {
			e.Async = int(p.header[36])
			e.Seconds = p.u16(42) // Parameter3
		}
	default:
		return e, false
	}
	return e, true
}

// board hands events on to those who wait for one session.
type board struct {
	mu   sync.Mutex
	subs map[uint32]chan Event // guarded by mu
}

// board listens until ctx ends.
func (k *Kernel) board(ctx context.Context) (*board, error) {
	events, err := k.listen(ctx)
	if err != nil {
		return nil, err
	}
	b := &board{subs: map[uint32]chan Event{}}
	go func() {
		for e := range events {
			b.mu.Lock()
			for sid, c := range b.subs {
				if e.Kind != Overflow && e.Session != sid {
					continue
				}
				select {
				case c <- e:
				default: // nobody waits for more than a few
				}
			}
			b.mu.Unlock()
		}
	}()
	return b, nil
}

// hear returns the events of one session until the returned function is called.
func (b *board) hear(sid uint32) (<-chan Event, func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := make(chan Event, 64)
	b.subs[sid] = c
	return c, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.subs, sid)
	}
}

// errEventsLost says that what was waited for may have been missed.
var errEventsLost = errors.New("events of the kernel were lost")

// await returns the first event of a session that want takes.
func await(ctx context.Context, events <-chan Event, want func(Event) (bool, error)) error {
	for {
		select {
		case e := <-events:
			if e.Kind == Overflow {
				return errEventsLost
			}
			if ok, err := want(e); ok || err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
