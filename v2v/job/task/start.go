package task

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"initd/v2v/self"
)

// Task is an attempt that runs.
type Task struct {
	child  *self.Child
	mu     sync.Mutex // guards the socket against being closed while something is told
	socket *os.File
	// Progress gives the newest report; older ones that nobody took are dropped.
	Progress chan Progress
	// Handed gives what the task hands over, which waits until Took has its number.
	Handed  chan Handed
	done    chan struct{}
	result  json.RawMessage
	failure *Failure
}

// Start begins an attempt, which may last until the deadline and longer only by Prolong.
func Start(o Order, until Deadline) (*Task, error) {
	fail := func(err error) (*Task, error) {
		return nil, fmt.Errorf("start a process for job %s: %w", o.Job, err)
	}
	child, err := self.New(arg, o.Kind, o.Job)
	if err != nil {
		return fail(err)
	}
	// A record waits in the socket until the child hears it.
	if err := tell(int(child.Socket.Fd()), word{Order: &o, Deadline: until}); err != nil {
		child.Drop()
		return fail(err)
	}
	if err := child.Start(nil); err != nil {
		return fail(err)
	}
	t := &Task{child: child, socket: child.Socket, Progress: make(chan Progress, 1), Handed: make(chan Handed, 1), done: make(chan struct{})}
	go t.run()
	return t, nil
}

// run hears the process until its end.
func (t *Task) run() {
	heard := make(chan *done, 1)
	socket := int(t.socket.Fd())
	go func() { heard <- t.listen(socket) }()
	_, err := t.child.Wait()
	d := <-heard // its end of the socket is closed by now
	t.mu.Lock()
	t.socket.Close()
	t.socket = nil
	t.mu.Unlock()
	switch {
	case d == nil:
		t.failure = &Failure{Text: t.death(err), Died: true}
	case d.Failure != nil:
		t.failure = d.Failure
		t.failure.Cancelled, t.failure.Suspended = d.Cancelled, d.Suspended
	default:
		t.result = d.Result
	}
	close(t.done)
}

func (t *Task) listen(socket int) *done {
	for {
		w, err := hear(socket)
		if err != nil {
			return nil
		}
		if w.Done != nil {
			return w.Done
		}
		if w.Handed != nil {
			select {
			case <-t.Handed:
			default:
			}
			t.Handed <- *w.Handed
		}
		if w.Progress != nil {
			select {
			case <-t.Progress:
			default:
			}
			t.Progress <- *w.Progress
		}
	}
}

// death says what ended a process that had no last word.
func (t *Task) death(err error) string {
	said := t.child.Said()
	if line, _, _ := strings.Cut(strings.TrimSpace(said), "\n"); line != "" {
		return "its process died: " + line
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() && s.Signal() == syscall.SIGKILL {
			return "its process was killed: by somebody, by the kernel for want of memory, or because its lease ran out"
		}
	}
	return fmt.Sprintf("its process died: %v", err)
}

// PID is the process.
func (t *Task) PID() int { return t.child.PID() }

// Prolong lets the attempt go on until a later deadline.
func (t *Task) Prolong(until Deadline) { t.tell(word{Deadline: until}) }

// Took says which of what was handed over the queue has. What is said twice does no harm, and what went missing is made good by that.
func (t *Task) Took(number uint64) {
	if number > 0 {
		t.tell(word{Took: number})
	}
}

// Cancel asks the attempt to end and to leave nothing.
func (t *Task) Cancel() { t.tell(word{Stop: "cancel"}) }

// Suspend asks the attempt to end so that another one can go on.
func (t *Task) Suspend() { t.tell(word{Stop: "suspend"}) }

// tell does not wait: a process that is stopped and hears nothing any more is the deadline's business.
func (t *Task) tell(w word) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.socket != nil {
		_ = tell(int(t.socket.Fd()), w, unix.MSG_DONTWAIT)
	}
}

// Kill ends the attempt at once.
func (t *Task) Kill() { t.child.Kill() }

// Done is closed once the process has ended and was reaped.
func (t *Task) Done() <-chan struct{} { return t.done }

// Result is what came of it, once it is done: a *Failure or the kind's result.
func (t *Task) Result() (json.RawMessage, *Failure) {
	<-t.done
	return t.result, t.failure
}
