package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// QMPError is QEMU's refusal of a command (docs/interop/qmp-spec of QEMU).
type QMPError struct {
	Command string
	Class   string `json:"class"`
	Desc    string `json:"desc"`
}

func (e *QMPError) Error() string { return fmt.Sprintf("qmp %s: %s", e.Command, e.Desc) }

// qmpEvent is what QEMU tells by itself: SHUTDOWN, STOP, DEVICE_DELETED, WATCHDOG and others.
type qmpEvent struct {
	Name string          `json:"event"`
	Data json.RawMessage `json:"data"`
}

// qmp speaks QEMU's control protocol over one connection. It is safe for concurrent use.
type qmp struct {
	conn   io.ReadWriteCloser
	events *feed[qmpEvent]
	done   chan struct{} // closed when the connection has ended and all of it was read

	mu      sync.Mutex // guards the rest, and writing to conn
	lastID  int
	pending map[int]chan qmpReply
	ended   bool
}

type qmpReply struct {
	Return json.RawMessage `json:"return"`
	Error  *QMPError       `json:"error"`
}

// newQMP takes over the connection and starts to read it; the first command has to be qmp_capabilities.
func newQMP(conn io.ReadWriteCloser) *qmp {
	q := &qmp{conn: conn, events: newFeed[qmpEvent](), done: make(chan struct{}), pending: map[int]chan qmpReply{}}
	go q.read()
	return q
}

func (q *qmp) read() {
	in := json.NewDecoder(q.conn)
	for {
		var message struct {
			qmpReply
			qmpEvent
			ID int `json:"id"`
		}
		if in.Decode(&message) != nil {
			break
		}
		if message.Name != "" {
			q.events.add(message.qmpEvent)
			continue
		}
		q.mu.Lock()
		reply := q.pending[message.ID] // none for the greeting
		delete(q.pending, message.ID)
		q.mu.Unlock()
		if reply != nil {
			reply <- message.qmpReply
		}
	}
	q.mu.Lock()
	q.ended = true
	for _, reply := range q.pending {
		close(reply)
	}
	clear(q.pending)
	q.mu.Unlock()
	q.events.end()
	q.conn.Close()
	close(q.done)
}

// execute runs one command; args may be nil. QEMU's refusal is a *QMPError.
func (q *qmp) execute(ctx context.Context, command string, args any) (json.RawMessage, error) {
	reply := make(chan qmpReply, 1)
	if err := q.send(command, args, reply); err != nil {
		return nil, err
	}
	select {
	case r, ok := <-reply:
		if !ok {
			return nil, fmt.Errorf("qmp %s: %w", command, errEnded)
		}
		if r.Error != nil {
			r.Error.Command = command
			return nil, r.Error
		}
		return r.Return, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("qmp %s: no answer: %w", command, ctx.Err())
	}
}

func (q *qmp) send(command string, args any, reply chan qmpReply) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended {
		return fmt.Errorf("qmp %s: %w", command, errEnded)
	}
	q.lastID++
	message := map[string]any{"execute": command, "id": q.lastID}
	if args != nil {
		message["arguments"] = args
	}
	line, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("qmp %s: %w", command, err)
	}
	q.pending[q.lastID] = reply
	if _, err := q.conn.Write(append(line, '\n')); err != nil {
		delete(q.pending, q.lastID)
		return fmt.Errorf("qmp %s: %w", command, errors.Join(errEnded, err))
	}
	return nil
}
