package task

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"initd/v2v/image"
)

// Main must be called early by a program that starts tasks. In a task's process it does not return; in the program itself it does nothing.
func Main(kinds map[string]Kind) {
	if len(os.Args) < 2 || os.Args[1] != arg {
		return
	}
	if err := serve(kinds); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serve(kinds map[string]Kind) error {
	if _, err := unix.GetsockoptInt(fdSocket, unix.SOL_SOCKET, unix.SO_TYPE); err != nil {
		return errors.New(arg + " is for the program itself: a worker starts it for each job")
	}
	unix.CloseOnExec(fdSocket)
	// The worker decides when its tasks end, also when somebody signals all of them.
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	bomb, err := newFuse()
	if err != nil {
		return err
	}
	first, err := hear(fdSocket)
	if err != nil || first.Order == nil {
		return fmt.Errorf("hear what is to be done: %w", err)
	}
	if err := bomb.set(first.Deadline); err != nil { // before anything is touched
		return err
	}
	kind, ok := kinds[first.Order.Kind]
	if !ok {
		return tell(fdSocket, word{Done: &done{Failure: &Failure{Text: fmt.Sprintf("this worker knows no jobs of the kind %q", first.Order.Kind), Final: true}}})
	}
	ctx, stop := context.WithCancelCause(context.Background())
	say := &reporter{took: make(chan uint64, 1)}
	go func() {
		for {
			w, err := hear(fdSocket)
			say.heard(w.Took)
			switch {
			case err != nil: // the worker has gone, and nobody prolongs anything
				os.Exit(1)
			case w.Deadline != 0:
				if err := bomb.set(w.Deadline); err != nil {
					os.Exit(1)
				}
			case w.Stop == "cancel":
				stop(ErrCancelled)
			case w.Stop == "suspend":
				stop(ErrSuspended)
			}
		}
	}()
	result, err := kind(ctx, *first.Order, say)
	return tell(fdSocket, word{Done: outcome(ctx, result, err)})
}

// reporter is a task's Reporter.
type reporter struct {
	mu    sync.Mutex // of last and phase
	last  time.Time
	phase string

	handing sync.Mutex // of handed
	handed  uint64
	took    chan uint64 // the newest number that was heard
}

// heard is called by one goroutine.
func (r *reporter) heard(took uint64) {
	if took == 0 {
		return
	}
	select {
	case <-r.took:
	default:
	}
	r.took <- took
}

// Progress passes on what a kind says at most four times a second, and each new phase at once.
func (r *reporter) Progress(p Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.Phase == r.phase && time.Since(r.last) < 250*time.Millisecond {
		return
	}
	r.phase, r.last = p.Phase, time.Now()
	_ = tell(fdSocket, word{Progress: &p}) // without a worker the process ends by itself
}

func (r *reporter) Hand(ctx context.Context, b json.RawMessage) error {
	if len(b) == 0 || len(b) > MaxHanded {
		return fmt.Errorf("hand over %d bytes: from 1 to %d are taken", len(b), MaxHanded)
	}
	r.handing.Lock()
	defer r.handing.Unlock()
	r.handed++
	if err := tell(fdSocket, word{Handed: &Handed{Number: r.handed, What: b}}); err != nil {
		return err
	}
	for {
		select {
		case number := <-r.took:
			if number == r.handed {
				return nil
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func outcome(ctx context.Context, result json.RawMessage, err error) *done {
	if err == nil {
		return &done{Result: result}
	}
	d := &done{Failure: &Failure{Text: err.Error()}}
	if ctx.Err() != nil {
		cause := context.Cause(ctx)
		d.Cancelled, d.Suspended = errors.Is(cause, ErrCancelled), errors.Is(cause, ErrSuspended)
	}
	if e, ok := errors.AsType[*image.Error](err); ok {
		d.Failure.Code, d.Failure.Final = e.Code, true
	}
	if e, ok := errors.AsType[*Failure](err); ok {
		d.Failure.Code, d.Failure.Final = e.Code, e.Final
	}
	if e, ok := errors.AsType[Final](err); ok {
		d.Failure.Final = e.Final()
	}
	const most = 8 << 10
	if len(d.Failure.Text) > most {
		d.Failure.Text = d.Failure.Text[:most] + "..."
	}
	return d
}

// hear waits for one record.
func hear(socket int) (word, error) {
	b := make([]byte, maxWord)
	for {
		n, _, flags, _, err := unix.Recvmsg(socket, b, nil, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return word{}, err
		case n == 0:
			return word{}, errGone
		case flags&unix.MSG_TRUNC != 0:
			return word{}, fmt.Errorf("a record of more than %d bytes", maxWord)
		}
		var w word
		return w, json.Unmarshal(b[:n], &w)
	}
}

var errGone = errors.New("the other side has gone")

// tell sends one record. flags are of sendmsg(2).
func tell(socket int, w word, flags ...int) error {
	b, err := json.Marshal(w)
	if err != nil {
		return err
	}
	if len(b) > maxWord {
		return fmt.Errorf("a record of %d bytes is too long", len(b))
	}
	how := unix.MSG_NOSIGNAL
	for _, f := range flags {
		how |= f
	}
	for {
		err := unix.Sendmsg(socket, b, nil, nil, how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
