// Package engine runs a plan: units whose needs are met are checked, applied
// where the check asks for it, and provide what others need.
//
// It owns the loop, the policies (deadlines, retries, degrade, halt, reboot),
// the budget, the reasons of everything that waits, and the ledger. It knows
// no hardware: an Action per kind does the work and Watchers tell what the
// world is like. It never tears a finished unit down: that is shutdown's.
//
// Everything the engine does follows from events, and each is written to the
// log before it takes effect: its state is a fold of them (state.apply), and
// what is to be done next a pure function of that state and the time
// (state.next). The shell around it runs actions and feeds their results back.
package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"initd/boot/plan"
	"initd/boot/report"
)

// EventLog keeps events. Append fills in e.Seq; it must not block for long.
type EventLog interface {
	Append(e *report.Event) error
}

// Trimmer is an EventLog that can forget. When a log has grown by 16 MiB,
// the engine writes how everything stands and lets it forget what came between
// the first 8 MiB and that: a unit that fails in the background for
// weeks must not fill the memory.
type Trimmer interface {
	EventLog
	Size() (int64, error)
	Trim(from, to int64) error
}

// Config is what an Engine is made of; only Plan and Actions must be given.
type Config struct {
	Plan *plan.Plan
	// Actions by kind; each kind of the plan and its templates needs one.
	Actions  map[string]Action
	Watchers []Watcher

	// Log gets every event before it takes effect (a *report.Writer). The
	// caller writes the generation's own event and the first wall anchor.
	Log EventLog
	// Ledger remembers what the kernel does not; nil keeps it in memory.
	Ledger *Ledger
	// Generation of this orchestrator, from init.
	Generation uint64
	// Notices head the report: "last good plan used because f.yaml:3:1: …".
	Notices []string
	// Skip are units that are skipped from the start (initd.skip=).
	Skip []string

	// Clock is CLOCK_BOOTTIME (the default), or a test's.
	Clock func() time.Duration
	// Seed of the jitter of retries; zero takes a random one.
	Seed uint64

	// Heartbeat is called from the engine's own loop every HeartbeatEvery
	// (default 1 s): if it is not called, the loop hangs.
	Heartbeat      func()
	HeartbeatEvery time.Duration

	// Notify hears every event after it was logged, in the loop: it must
	// return at once.
	Notify func(report.Event)

	// Reboot is asked to reboot the machine for a unit whose policy says so,
	// at most limit times over boots (it counts them, on the state disk). An
	// error, or nil Reboot, means that it cannot be: the boot halts.
	Reboot func(ctx context.Context, unit string, limit int) error

	// Grace is how long an action may go on after its context ended before
	// the unit counts as stuck (default 5 s).
	Grace time.Duration
	// BatchHold is how long units that are ready for a batch wait for others
	// of it that are still being checked (default 1 s).
	BatchHold time.Duration

	keepFirst, trimEvery int64 // bytes of the log

	decided func(now time.Duration, d decision, ok bool) // tests compare replays with it
}

// Engine runs one plan. Its methods may be called from any goroutine.
type Engine struct {
	cfg   Config
	queue *queue
	known map[string]bool // units of the plan, for quick answers to orders

	started        atomic.Bool
	settled, ready chan struct{}
}

// Order errors.
var (
	ErrUnknownUnit = errors.New("no such unit")
	ErrEnded       = errors.New("the engine has ended")
)

// Retry starts the unit's attempts anew, now: it ends the wait for the next
// attempt, a skip, a stop, a stuck state, and an attempt that is running
// (unless the unit is uninterruptible). A key that was just fed is found by
// the check.
func (e *Engine) Retry(unit string) error { return e.order(unit, "retry") }

// Skip gives the unit up: what comes after it goes on, what requires it is
// degraded, and a halt because of it ends. Retry takes it back.
func (e *Engine) Skip(unit string) error { return e.order(unit, "skip") }

// Stop notes that an operator stopped the unit (a service): it is skipped,
// its resources are gone, and no orchestrator starts it again before Retry.
// Stopping the thing itself is the caller's.
func (e *Engine) Stop(unit string) error { return e.order(unit, "stop") }

// Unstuck says that the process that made the unit stuck is gone.
func (e *Engine) Unstuck(unit string) error { return e.order(unit, "unstuck") }

// Lose says that a unit that was done is no longer (a service that died for
// good): its resources are lost, and it is checked and applied again.
func (e *Engine) Lose(unit, reason string) error {
	return e.post(input{event: report.Event{Kind: report.Commanded, Unit: unit, Command: "lose", Reason: reason}})
}

func (e *Engine) order(unit, command string) error {
	return e.post(input{event: report.Event{Kind: report.Commanded, Unit: unit, Command: command}})
}

// Units lists all units that there are so far, in the order of their names.
func (e *Engine) Units() []string {
	e.queue.mu.Lock()
	defer e.queue.mu.Unlock()
	return slices.Sorted(maps.Keys(e.known))
}

// Post tells facts about the world, as a Watcher would.
func (e *Engine) Post(facts ...plan.Fact) error {
	return e.queue.put(input{facts: facts})
}

// Record puts an event of somebody else (a notice, a line of the kernel, a
// step of the clock, the loss of something that no unit needs by name) into the log, in its place between the engine's own.
func (e *Engine) Record(ev report.Event) error {
	switch ev.Kind {
	case report.Notice, report.NeedLost, report.KernelFact, report.InitFact, report.ClockStepped, report.ShutdownStep:
		return e.queue.put(input{event: ev})
	}
	return fmt.Errorf("record an event of kind %q: only the engine makes those", ev.Kind)
}

// SettledC is closed when no unit waits or runs, at the latest when the budget
// is over.
func (e *Engine) SettledC() <-chan struct{} { return e.settled }

// ReadyC is closed when the milestone ready is reached.
func (e *Engine) ReadyC() <-chan struct{} { return e.ready }

// post queues an order for a unit that exists.
func (e *Engine) post(in input) error {
	e.queue.mu.Lock()
	known := e.known[in.event.Unit]
	e.queue.mu.Unlock()
	if !known {
		return fmt.Errorf("%s %s: %w", in.event.Command, in.event.Unit, ErrUnknownUnit)
	}
	return e.queue.put(in)
}

// input is what comes from outside the loop.
type input struct {
	event report.Event
	facts []plan.Fact
}

// queue is unbounded: whoever reports must never wait for the loop.
type queue struct {
	wake chan struct{} // holds one token while list may be non-empty

	mu    sync.Mutex
	list  []input // guarded by mu
	ended bool    // guarded by mu
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

func (q *queue) put(in input) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended {
		return ErrEnded
	}
	q.list = append(q.list, in)
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return nil
}

func (q *queue) take() []input {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := q.list
	q.list = nil
	return list
}

func (q *queue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
}
