package main

import (
	"io"
	"sync"

	"golang.org/x/sys/unix"

	"initd/initd/pid1/wire"
)

// incoming is what a link received.
type incoming struct {
	link *link
	rec  wire.Record
	fds  []int
	err  error
}

// link is the connection to one orchestrator. Sending never waits: records
// queue, and an orchestrator that does not read them loses its link.
type link struct {
	conn *wire.Conn

	mu     sync.Mutex
	queue  []outgoing
	closed bool
	more   chan struct{}
}

type outgoing struct {
	rec wire.Record
	fds []int // ours to close
}

// maxQueue is the number of records that may wait for an orchestrator: a list
// of all processes and descriptors, twice.
const maxQueue = 2 * (maxProcesses + maxStored)

func newLink(conn *wire.Conn, inbox chan<- incoming) *link {
	l := &link{conn: conn, more: make(chan struct{}, 1)}
	go l.read(inbox)
	go l.write()
	return l
}

func (l *link) read(inbox chan<- incoming) {
	for {
		rec, fds, err := l.conn.Receive()
		inbox <- incoming{l, rec, fds, err}
		if err != nil && err != wire.ErrMalformed && err != wire.ErrNotRecord {
			return
		}
	}
}

// send queues a record with copies of fds.
func (l *link) send(rec wire.Record, fds ...int) {
	out := outgoing{rec: rec}
	for _, fd := range fds {
		if c, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err == nil {
			out.fds = append(out.fds, c)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.queue) >= maxQueue {
		wire.CloseAll(out.fds)
		if !l.closed {
			l.drop()
		}
		return
	}
	l.queue = append(l.queue, out)
	select {
	case l.more <- struct{}{}:
	default:
	}
}

func (l *link) write() {
	for range l.more {
		for {
			out, ok := l.pop()
			if !ok {
				break
			}
			err := l.conn.Send(out.rec, out.fds...)
			wire.CloseAll(out.fds)
			if err != nil && err != wire.ErrMalformed {
				l.close()
				return
			}
		}
	}
}

func (l *link) pop() (outgoing, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		return outgoing{}, false
	}
	out := l.queue[0]
	l.queue = l.queue[1:]
	return out, true
}

func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.drop()
	}
}

// drop ends the link; mu is held.
func (l *link) drop() {
	l.closed = true
	for _, out := range l.queue {
		wire.CloseAll(out.fds)
	}
	l.queue = nil
	close(l.more)
	l.conn.Close()
}

// gone tells whether an error of receiving means the end of the link.
func gone(err error) bool {
	return err == io.EOF || err != nil && err != wire.ErrMalformed && err != wire.ErrNotRecord
}
