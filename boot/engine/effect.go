package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"initd/boot/plan"
	"initd/boot/report"
)

// carryOut starts what a decision asks for; nothing here waits.
func (r *run) carryOut(f effect) {
	if f.do == doNothing {
		return
	}
	u := f.units[0]
	action := r.cfg.Actions[u.u.Kind]
	switch f.do {
	case doCheck:
		r.launch(u, f, func(ctx context.Context, t *task) {
			c, err := action.Check(ctx, u.u)
			t.answer = c
			t.end(err)
		})
	case doApply:
		r.launch(u, f, func(ctx context.Context, t *task) { t.end(action.Apply(ctx, u.u, t.progress)) })
	case doChange:
		r.launch(u, f, func(ctx context.Context, t *task) { t.end(action.(Changer).Change(ctx, u.u, t.progress)) })
	case doRollback:
		r.launch(u, f, func(ctx context.Context, t *task) { t.end(action.Rollback(ctx, u.u)) })
	case doBatch:
		r.batch(action.(Batcher), f)
	case doCancel:
		if c := r.cancel[u.u.ID]; c != nil {
			c()
		}
	case doReboot:
		r.reboot(u)
	}
}

// task is one action for one unit, on its own goroutine.
type task struct {
	r        *run
	ctx      context.Context
	deadline time.Duration // zero: none
	event    report.Event  // its result, but for the outcome
	answer   Checked

	mu    sync.Mutex
	ended bool          // guarded by mu
	last  Progress      // guarded by mu
	at    time.Duration // guarded by mu; when last was told
}

func (r *run) task(ctx context.Context, u *unit) *task {
	t := &task{r: r, ctx: ctx, event: report.Event{Kind: report.AttemptEnded, Unit: u.u.ID, Op: u.op, Attempt: u.attempt}}
	if !u.u.Uninterruptible {
		t.deadline = time.Duration(u.u.Policy.Deadline)
	}
	return t
}

// context is the context of an attempt that must end by a time, or never.
func (r *run) context(by time.Duration) (context.Context, context.CancelFunc) {
	if by == 0 {
		return context.WithCancel(r.ctx)
	}
	return context.WithTimeout(r.ctx, by-r.cfg.Clock())
}

// launch runs an action for one unit.
func (r *run) launch(u *unit, f effect, do func(context.Context, *task)) {
	ctx, cancel := r.context(f.by)
	t := r.task(ctx, u)
	if r.cfg.Actions[u.u.Kind] == nil { // an instance of a kind that is not there
		t.end(final(fmt.Errorf("nothing runs units of kind %s", u.u.Kind)))
		cancel()
		return
	}
	r.cancel[u.u.ID] = cancel
	r.running.Go(func() {
		defer cancel()
		defer t.recovered()
		do(ctx, t)
	})
}

// parts counts what is left of one call for several units.
type parts struct {
	cancel context.CancelFunc // of the whole call

	mu   sync.Mutex
	left []bool // guarded by mu; neither ended nor called off
	off  int    // guarded by mu; called off, and not ended
}

// over notes that a part has ended, or was called off. The call ends with the
// last part that somebody wants.
func (p *parts) over(i int, off bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case off && p.left[i]:
		p.off++
	case !off && !p.left[i]:
		p.off-- // its end, after it was called off
	}
	p.left[i] = false
	if p.off > 0 && !slices.Contains(p.left, true) {
		p.cancel()
	}
}

// batch runs one call for several units.
func (r *run) batch(action Batcher, f effect) {
	ctx, cancel := r.context(f.by)
	list := make([]Part, len(f.units))
	tasks := make([]*task, len(f.units))
	left := &parts{cancel: cancel, left: slices.Repeat([]bool{true}, len(f.units))}
	for i, u := range f.units {
		mine, end := context.WithCancel(ctx)
		list[i], tasks[i] = Part{u.u, mine}, r.task(ctx, u)
		r.cancel[u.u.ID] = func() {
			end()
			left.over(i, true)
		}
	}
	r.running.Go(func() {
		defer cancel()
		defer func() {
			if p := recover(); p != nil {
				for _, t := range tasks {
					t.end(panicked(p))
				}
			}
		}()
		action.ApplyBatch(ctx, list,
			func(i int, p Progress) { tasks[i].progress(p) },
			func(i int, err error) {
				if tasks[i].end(err) {
					left.over(i, false)
				}
			})
		for _, t := range tasks {
			t.end(errors.New("the action ended without an answer for this unit"))
		}
	})
}

func (r *run) reboot(u *unit) {
	id, limit := u.u.ID, u.u.Policy.Reboots
	r.running.Go(func() {
		err := errors.New("nothing here can reboot the machine")
		if r.cfg.Reboot != nil {
			err = r.cfg.Reboot(r.ctx, id, limit)
		}
		text := "rebooting because of " + id
		if err != nil {
			text = fmt.Sprintf("no reboot because of %s: %v; the boot is halted", id, err)
		}
		_ = r.e.queue.put(input{event: report.Event{Kind: report.Notice, Text: text}})
	})
}

// progressEvery bounds how often a change of nothing but Text is an event.
const progressEvery = 200 * time.Millisecond

// progress tells the loop how the action is doing.
func (t *task) progress(p Progress) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.r.cfg.Clock()
	old := t.last
	if t.ended {
		return
	}
	if p.Note != "" {
		_ = t.r.e.queue.put(input{event: report.Event{Kind: report.Notice, Text: t.event.Unit + ": " + p.Note}})
		p.Note = ""
	}
	if p == old {
		return
	}
	if p.Waiting == old.Waiting && p.Object == old.Object && p.Server == old.Server && t.at > 0 && now-t.at < progressEvery {
		return
	}
	t.last, t.at = p, now
	_ = t.r.e.queue.put(input{event: report.Event{
		Kind: report.Progressed, Unit: t.event.Unit, Attempt: t.event.Attempt,
		Waiting: p.Waiting, Text: p.Text, Object: p.Object, Server: p.Server,
	}})
}

// end tells the loop the result; only the first call counts.
func (t *task) end(err error) (first bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return false
	}
	t.ended = true
	e := t.event
	e.Answer, e.Reason = string(t.answer.Answer), t.answer.Reason
	e.Object, e.Server = t.answer.Object, t.last.Server
	if e.Object == "" {
		e.Object = t.last.Object
	}
	if err != nil {
		e.Answer = ""
		e.Error = t.describe(err)
	}
	var stuck interface{ Stuck() (int, string) }
	if errors.As(err, &stuck) {
		e.PID, e.Wchan = stuck.Stuck()
		e.Jammed = true
	}
	_ = t.r.e.queue.put(input{event: e})
	var freed interface{ Freed() <-chan struct{} }
	if e.Jammed && errors.As(err, &freed) {
		go t.awaitFreed(freed.Freed())
	}
	return true
}

// awaitFreed: the process that made the unit stuck may end some day.
func (t *task) awaitFreed(freed <-chan struct{}) {
	select {
	case <-freed:
		_ = t.r.e.Unstuck(t.event.Unit)
	case <-t.r.ctx.Done():
	}
}

func (t *task) recovered() {
	if p := recover(); p != nil {
		t.end(panicked(p))
	}
}

// describe turns an error into what the report shows of it. t.mu is held.
func (t *task) describe(err error) *report.Error {
	e := &report.Error{Text: err.Error()}
	if t.deadline > 0 && errors.Is(t.ctx.Err(), context.DeadlineExceeded) {
		// An error that only says that time is up says less than what was awaited.
		what := e.Text
		if cut, bare := strings.CutSuffix(what, context.DeadlineExceeded.Error()); bare {
			what = strings.TrimSuffix(cut, ": ")
			if t.last.Waiting != "" {
				what = t.last.Waiting
			}
		}
		over := "given up after " + short(t.deadline)
		if e.Text = over; what != "" {
			e.Text = what + "; " + over
		}
	}
	var code interface{ Code() string }
	if errors.As(err, &code) {
		e.Code = code.Code()
	}
	var object interface{ Object() string }
	if errors.As(err, &object) {
		e.Object = object.Object()
	}
	var server interface{ Server() string }
	if errors.As(err, &server) {
		e.Server = server.Server()
	}
	var hint interface{ Hint() string }
	if errors.As(err, &hint) {
		e.Hint = hint.Hint()
	}
	var next interface{ Next() string }
	if errors.As(err, &next) {
		e.Next = next.Next()
	}
	var again interface{ Retryable() bool }
	if errors.As(err, &again) {
		e.Final = !again.Retryable()
	}
	var clock interface{ Clock() bool }
	if errors.As(err, &clock) {
		e.Clock = clock.Clock()
	}
	return e
}

// panicked is the error of an action with a bug: its unit fails, the boot goes on.
func panicked(p any) error {
	return final(fmt.Errorf("the action has a bug: %v\n%s", p, debug.Stack()))
}

// finalError is an error that another attempt cannot help.
type finalError struct{ error }

func (finalError) Retryable() bool { return false }

func final(err error) error { return finalError{err} }

// watch starts the watchers.
func (r *run) watch() {
	for _, w := range r.cfg.Watchers {
		f := &feed{classes: w.Classes(), wake: make(chan struct{}, 1)}
		r.feeds = append(r.feeds, f)
		r.running.Go(func() { r.keepWatching(w, f) })
	}
	for _, u := range r.s.units {
		r.tell(interests(u.u))
	}
}

// tell gives interests to the watchers of their classes.
func (r *run) tell(names []plan.Resource) {
	for _, f := range r.feeds {
		f.add(names)
	}
}

// Pauses between a watcher's end and its next start.
const (
	watchAgain    = time.Second
	watchAgainMax = 30 * time.Second
)

func (r *run) keepWatching(w Watcher, f *feed) {
	pause := watchAgain
	for r.ctx.Err() == nil {
		ctx, cancel := context.WithCancel(r.ctx)
		out := make(chan []plan.Resource)
		go f.pump(ctx, out)
		err := w.Watch(ctx, out, func(facts []plan.Fact) {
			_ = r.e.queue.put(input{facts: slices.Clone(facts)})
		})
		cancel()
		if r.ctx.Err() != nil {
			return
		}
		_ = r.e.queue.put(input{event: report.Event{
			Kind: report.Notice, Text: fmt.Sprintf("watching %v ended (%v); again in %s", w.Classes(), err, short(pause)),
		}})
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-r.ctx.Done():
		}
		t.Stop()
		pause = min(2*pause, watchAgainMax)
	}
}

// feed carries interests to one watcher without ever holding the loop up.
type feed struct {
	classes []string
	wake    chan struct{}

	mu   sync.Mutex
	list []plan.Resource // guarded by mu; all so far
	have map[plan.Resource]bool
}

func (f *feed) add(names []plan.Resource) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.have == nil {
		f.have = map[plan.Resource]bool{}
	}
	for _, n := range names {
		if !f.have[n] && slices.Contains(f.classes, n.Class()) {
			f.have[n] = true
			f.list = append(f.list, n)
		}
	}
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// pump sends what is known, if only an empty list, and then what joins.
func (f *feed) pump(ctx context.Context, out chan<- []plan.Resource) {
	sent := -1
	for {
		f.mu.Lock()
		part := slices.Clone(f.list[max(sent, 0):])
		f.mu.Unlock()
		if sent < 0 || len(part) > 0 {
			select {
			case out <- part:
				sent = max(sent, 0) + len(part)
			case <-ctx.Done():
				return
			}
			continue
		}
		select {
		case <-f.wake:
		case <-ctx.Done():
			return
		}
	}
}
