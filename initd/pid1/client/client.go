// Package client is the orchestrator's end of the socket to init.
//
// It owns the connection: requests and their answers, exits and events in the
// order in which init sent them. It decides nothing about services (package
// supervise does) and never starts a process by itself.
package client

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"initd/initd/pid1/wire"
)

// ErrLost is the error of requests after the connection has ended: init
// started another orchestrator, and this one leads no more and should exit.
var ErrLost = errors.New("init has closed the connection: another orchestrator leads")

// Error is what init answered to a request that it did not carry out. It
// unwraps to the syscall.Errno.
type Error struct {
	Op    string // "spawn"
	Name  string // of the object; may be empty
	Errno syscall.Errno
	Text  string // init's own words; may be empty
}

func (e *Error) Error() string {
	s := "init: " + e.Op
	if e.Name != "" {
		s += " " + e.Name
	}
	s += ": " + e.Errno.Error()
	if e.Text != "" {
		s += ": " + e.Text
	}
	return s
}

// Unwrap returns the Errno.
func (e *Error) Unwrap() error { return e.Errno }

// Client is a connection to init. It is safe for concurrent use.
type Client struct {
	conn   *wire.Conn
	hello  wire.Hello
	exits  *pump[wire.Message]
	events *pump[wire.Event]
	done   chan struct{}

	mu      sync.Mutex // guards what follows
	seq     uint64
	waiting map[uint64]*call
	beats   uint64
	err     error
}

// call is a request whose answer is awaited.
type call struct {
	replies []reply
	over    chan struct{}
}

type reply struct {
	msg wire.Message
	fds []int
}

// Open takes over the descriptor that init hands to its orchestrator and says
// Hello. silence is for how long the heartbeat may fail before init kills this
// process; zero leaves init's default of 30 s.
func Open(ctx context.Context, silence time.Duration) (*Client, error) {
	typ, err := unix.GetsockoptInt(wire.FD, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || typ != unix.SOCK_SEQPACKET {
		return nil, fmt.Errorf("descriptor %d is no socket to init: the orchestrator is started by init only", wire.FD)
	}
	conn, err := wire.NewConn(wire.FD)
	if err != nil {
		return nil, fmt.Errorf("take over the socket to init: %w", err)
	}
	return New(ctx, conn, silence)
}

// New says Hello over conn, which the Client owns from then on.
func New(ctx context.Context, conn *wire.Conn, silence time.Duration) (*Client, error) {
	c := &Client{
		conn: conn, exits: newPump[wire.Message](), events: newPump[wire.Event](),
		done: make(chan struct{}), waiting: map[uint64]*call{},
	}
	go c.read()
	h, err := c.greet(ctx, silence)
	if err != nil {
		c.Close()
		return nil, err
	}
	c.hello = *h
	return c, nil
}

func (c *Client) greet(ctx context.Context, silence time.Duration) (*wire.Hello, error) {
	replies, err := c.ask(ctx, "hello", "", &wire.Hello{
		Min: wire.MinVersion, Max: wire.MaxVersion, Silence: uint32(silence / time.Millisecond), Program: "initd",
	})
	if err != nil {
		return nil, err
	}
	h, ok := replies[0].msg.(*wire.Hello)
	if !ok {
		return nil, &Error{Op: "hello", Errno: unix.EPROTO}
	}
	return h, nil
}

// Hello returns what init said at the beginning.
func (c *Client) Hello() wire.Hello { return c.hello }

// Again says Hello once more, for init's counters. Exits that are not
// acknowledged are sent again.
func (c *Client) Again(ctx context.Context, silence time.Duration) (*wire.Hello, error) {
	return c.greet(ctx, silence)
}

// Exits returns what init tells about processes, in order: *wire.Exited and
// *wire.Running. It has one reader; nothing is lost if that is slow. It is
// closed when the connection ends.
func (c *Client) Exits() <-chan wire.Message { return c.exits.out }

// Events returns what init noticed. As Exits.
func (c *Client) Events() <-chan wire.Event { return c.events.out }

// Done is closed when the connection has ended.
func (c *Client) Done() <-chan struct{} { return c.done }

// Close ends the connection; init then ends this process.
func (c *Client) Close() { c.fail(ErrLost) }

func (c *Client) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = err
	c.conn.Close()
	c.exits.close()
	c.events.close()
	close(c.done)
}

func (c *Client) read() {
	for {
		rec, fds, err := c.conn.Receive()
		if errors.Is(err, wire.ErrMalformed) || errors.Is(err, wire.ErrNotRecord) {
			continue // of a later init; whoever awaits it has a deadline
		}
		if err != nil {
			c.fail(ErrLost)
			return
		}
		c.sort(rec, fds)
	}
}

// sort gives a record to whom it is for.
func (c *Client) sort(rec wire.Record, fds []int) {
	if rec.Seq != 0 {
		c.deliver(rec, fds)
		return
	}
	wire.CloseAll(fds)
	switch m := rec.Message.(type) {
	case *wire.Exited, *wire.Running:
		c.exits.put(m)
	case *wire.Event:
		c.events.put(*m)
	}
}

func (c *Client) deliver(rec wire.Record, fds []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.waiting[rec.Seq]
	if w == nil {
		wire.CloseAll(fds) // nobody waits any more
		return
	}
	w.replies = append(w.replies, reply{rec.Message, fds})
	stored, isStored := rec.Message.(*wire.Stored)
	// A Stored without its descriptor is part of a list.
	if _, part := rec.Message.(*wire.Service); part || isStored && stored != nil && len(fds) == 0 {
		return
	}
	delete(c.waiting, rec.Seq)
	close(w.over)
}

// ask sends a request and waits for what answers it. There is at least one
// reply, and the last is no Answer with an error.
func (c *Client) ask(ctx context.Context, op, name string, msg wire.Message, files ...*os.File) ([]reply, error) {
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return nil, c.err
	}
	c.seq++
	seq, w := c.seq, &call{over: make(chan struct{})}
	c.waiting[seq] = w
	c.mu.Unlock()
	err := c.send(wire.Record{Seq: seq, Message: msg}, files)
	if err == nil {
		select {
		case <-w.over:
		case <-ctx.Done():
			err = fmt.Errorf("init: %s %s: no answer: %w", op, name, context.Cause(ctx))
		case <-c.done:
			err = ErrLost
		}
	} else if errors.Is(err, os.ErrClosed) {
		return nil, &Error{Op: op, Name: name, Errno: unix.EBADF}
	} else if !errors.Is(err, wire.ErrMalformed) {
		err = ErrLost
	} else {
		err = &Error{Op: op, Name: name, Errno: unix.EINVAL, Text: "a name or path is too long or holds a NUL"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, seq)
	if err == nil {
		if a, ok := w.replies[len(w.replies)-1].msg.(*wire.Answer); ok && a.Errno != 0 {
			err = &Error{Op: op, Name: name, Errno: syscall.Errno(a.Errno), Text: a.Text}
		}
	}
	if err != nil {
		for _, r := range w.replies {
			wire.CloseAll(r.fds)
		}
		return nil, err
	}
	return w.replies, nil
}

func (c *Client) send(rec wire.Record, files []*os.File) error {
	fds := make([]int, len(files))
	for i, f := range files {
		// Not f.Fd(), which may make a pipe blocking for everybody who has it.
		raw, err := f.SyscallConn()
		if err != nil {
			return err
		}
		if err := raw.Control(func(fd uintptr) { fds[i] = int(fd) }); err != nil {
			return err
		}
	}
	return c.conn.Send(rec, fds...)
}
