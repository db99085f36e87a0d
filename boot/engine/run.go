package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"initd/boot/plan"
	"initd/boot/report"
)

// run is one Run of an engine: the shell around the state. All its fields but
// those of goroutines' own belong to the loop.
type run struct {
	e   *Engine
	cfg *Config
	ctx context.Context
	s   *state

	cancel  map[string]context.CancelFunc // by unit, while an action runs
	world   map[plan.Resource]plan.Fact   // what nobody needs yet
	feeds   []*feed
	running sync.WaitGroup // actions

	beat      time.Duration // last heartbeat
	lost      int           // events that could not be logged since the last that was
	ledgerBad bool          // said once
	logged    int           // events since the log's size was looked at
	trimmed   int64         // the log was trimmed up to this offset
}

func newRun(e *Engine, ctx context.Context) *run {
	cfg := &e.cfg
	seed := cfg.Seed
	if seed == 0 {
		seed = rand.Uint64()
	}
	r := &run{e: e, cfg: cfg, ctx: ctx, cancel: map[string]context.CancelFunc{}, world: map[plan.Resource]plan.Fact{}}
	r.s = newState(cfg.Plan, rules{
		grace: cfg.Grace, batchHold: cfg.BatchHold, seed: seed,
		batches: func(kind string) bool { _, ok := cfg.Actions[kind].(Batcher); return ok },
		changes: func(kind string) bool { _, ok := cfg.Actions[kind].(Changer); return ok },
		expand: func(t *plan.Template, f plan.Fact) ([]plan.Unit, error) {
			return cfg.Actions[t.Kind].(Expander).Instances(t, f) // New saw to it
		},
	})
	return r
}

// start logs the plan, its units and what was ordered before.
func (r *run) start() {
	now := r.cfg.Clock()
	for _, text := range r.cfg.Notices {
		r.commit(report.Event{Kind: report.Notice, At: now, Text: text})
	}
	if r.cfg.Ledger.ReadOnly() {
		r.commit(report.Event{Kind: report.Notice, At: now, Text: "the ledger was written by another version: it is read, and what happens now is not noted in it"})
	}
	origin := now
	if !r.cfg.Ledger.Settled() { // else this boot is over, and taking over has a budget of its own
		var err error
		if origin, err = r.cfg.Ledger.Origin(now); err != nil {
			r.ledgerFailed(err)
		}
	}
	p := r.cfg.Plan
	r.commit(report.Event{Kind: report.PlanLoaded, At: now, Plan: &report.PlanInfo{
		Name: p.Name, Digest: p.Digest, Budget: time.Duration(p.Budget), Origin: origin, Units: len(p.Units),
	}})
	for i := range p.Templates {
		t := &p.Templates[i]
		r.commit(report.Event{
			Kind: report.TemplateChanged, At: now, Unit: t.ID, Want: t.Expect.Count,
			Info: &report.UnitInfo{Kind: t.Kind, Stage: string(t.Stage), Origin: t.Origin},
		})
	}
	for i := range p.Units {
		u := &p.Units[i]
		r.commit(report.Event{Kind: report.UnitDeclared, At: now, Unit: u.ID, Info: info(u), Attempt: r.cfg.Ledger.Tries(ledgerKey(u.ID))})
	}
	for i := range p.Units {
		if id := p.Units[i].ID; r.cfg.Ledger.Stopped(id) {
			r.commit(report.Event{Kind: report.Commanded, At: now, Unit: id, Command: "stop"})
		}
	}
	for _, id := range r.cfg.Skip {
		if r.s.byID[id] == nil {
			r.commit(report.Event{Kind: report.Notice, At: now, Text: "there is no unit " + id + " to skip"})
			continue
		}
		r.commit(report.Event{Kind: report.Commanded, At: now, Unit: id, Command: "skip", Reason: "skipped by the kernel command line"})
	}
}

func ledgerKey(unit string) string { return "unit/" + unit }

func (r *run) loop() error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var beat <-chan time.Time
	if r.cfg.Heartbeat != nil {
		t := time.NewTicker(r.cfg.HeartbeatEvery)
		defer t.Stop()
		beat = t.C
	}
	for {
		if at, ok := r.s.nextAt(); ok {
			timer.Reset(max(0, at-r.cfg.Clock()))
		}
		select {
		case <-r.ctx.Done():
			r.finish()
			return nil
		case <-r.e.queue.wake:
			for _, in := range r.e.queue.take() {
				r.input(in)
			}
		case <-timer.C:
		case <-beat:
		}
		r.decide()
		r.heartbeat()
		r.trim()
	}
}

// decide carries out decisions until there is none left.
func (r *run) decide() {
	for {
		now := r.cfg.Clock()
		d, ok := r.s.next(now)
		if r.cfg.decided != nil {
			r.cfg.decided(now, d, ok)
		}
		if !ok {
			return
		}
		for _, e := range d.events {
			r.commit(e)
		}
		r.carryOut(d.effect)
		r.heartbeat()
	}
}

func (r *run) heartbeat() {
	if r.cfg.Heartbeat == nil {
		return
	}
	if now := r.cfg.Clock(); r.beat == 0 || now-r.beat >= r.cfg.HeartbeatEvery {
		r.beat = now
		r.cfg.Heartbeat()
	}
}

// commit logs an event, and lets it take effect.
func (r *run) commit(e report.Event) {
	e.Gen = r.cfg.Generation
	r.log(&e)
	r.s.apply(e)
	r.note(e)
	if r.cfg.Notify != nil {
		r.cfg.Notify(e)
	}
	switch e.Kind {
	case report.Settled:
		close(r.e.settled)
	case report.ReadyReached:
		close(r.e.ready)
	case report.UnitDeclared:
		r.joined(e.Unit)
	}
}

// log appends to the log. A full /run must not end the boot: what is lost is
// counted, and said as soon as something can be written again.
func (r *run) log(e *report.Event) {
	if r.cfg.Log == nil {
		return
	}
	if r.lost > 0 {
		gap := report.Event{Kind: report.Notice, At: e.At, Gen: e.Gen, Text: fmt.Sprintf("%d events before this one could not be written", r.lost)}
		if r.cfg.Log.Append(&gap) == nil {
			r.lost = 0
		}
	}
	r.logged++
	if err := r.cfg.Log.Append(e); err != nil {
		r.lost++
		if r.lost == 1 && r.cfg.Notify != nil {
			r.cfg.Notify(report.Event{Kind: report.Notice, At: e.At, Gen: e.Gen, Text: "the report has a gap: " + err.Error()})
		}
	}
}

// note keeps the ledger.
func (r *run) note(e report.Event) {
	l := r.cfg.Ledger
	var err error
	acts := e.Op == report.Apply || e.Op == report.Change
	switch {
	case e.Kind == report.AttemptStarted && acts:
		err = l.Intent(ledgerKey(e.Unit))
	case e.Kind == report.AttemptEnded && acts:
		if u := r.s.byID[e.Unit]; e.Error != nil && (u.cancelled || r.ctx.Err() != nil) {
			err = l.Withdraw(ledgerKey(e.Unit))
		} else {
			err = l.Outcome(ledgerKey(e.Unit), e.Error == nil)
		}
	case e.Kind == report.UnitChanged && e.State.OK() && l.Tries(ledgerKey(e.Unit)) > 0:
		err = l.Outcome(ledgerKey(e.Unit), true)
	case e.Kind == report.Commanded && e.Command == "stop" && !l.Stopped(e.Unit):
		err = l.Stop(e.Unit)
	case e.Kind == report.Commanded && e.Command == "retry":
		err = l.Start(e.Unit)
	case e.Kind == report.Settled:
		err = l.SetSettled()
	}
	if err != nil {
		r.ledgerFailed(err)
	}
}

func (r *run) ledgerFailed(err error) {
	if r.ledgerBad {
		return
	}
	r.ledgerBad = true
	r.commit(report.Event{Kind: report.Notice, At: r.cfg.Clock(), Text: "what has been tried cannot be noted: " + err.Error()})
}

// input takes in what came from outside the loop.
func (r *run) input(in input) {
	now := r.cfg.Clock()
	for _, f := range in.facts {
		r.fact(f, now)
	}
	e := in.event
	e.At = now
	u := r.s.byID[e.Unit]
	switch e.Kind {
	case "":
	case report.AttemptEnded:
		if u == nil || u.phase != busy || u.op != e.Op || u.attempt != e.Attempt {
			return
		}
		delete(r.cancel, e.Unit)
		r.commit(e)
	case report.Progressed:
		if u == nil || u.phase != busy || u.attempt != e.Attempt {
			return
		}
		r.commit(e)
	default:
		r.commit(e)
	}
}

// fact lets an observation take effect if it says something new.
func (r *run) fact(f plan.Fact, now time.Duration) {
	if !r.s.interesting(f.Resource) {
		r.world[f.Resource] = f
		return
	}
	if known := r.s.resources[f.Resource]; known != nil && known.provider != nil && !f.Resource.World() {
		return // a unit provides it: the world has no say
	}
	if e, ok := r.s.fact(f); ok {
		e.At = now
		r.commit(e)
	}
}

// joined: a unit was declared; what it needs may have been seen already, and
// watchers are told.
func (r *run) joined(id string) {
	u := r.s.byID[id]
	if u == nil {
		return
	}
	r.e.queue.mu.Lock()
	r.e.known[id] = true
	r.e.queue.mu.Unlock()
	r.tell(interests(u.u))
	for _, name := range interests(u.u) {
		if f, ok := r.world[name]; ok {
			delete(r.world, name)
			r.fact(f, r.cfg.Clock())
		}
	}
}

// interests lists the resources of the world that a unit is about.
func interests(u *plan.Unit) []plan.Resource {
	var list []plan.Resource
	for _, n := range u.Needs {
		for _, r := range n.AnyOf {
			if r.World() {
				list = append(list, r)
			}
		}
	}
	for _, r := range u.Claims {
		if r.World() {
			list = append(list, r)
		}
	}
	return list
}

// finish waits for actions, whose contexts have ended, and logs their results.
func (r *run) finish() {
	done := make(chan struct{})
	go func() {
		r.running.Wait()
		close(done)
	}()
	grace := time.NewTimer(r.cfg.Grace)
	defer grace.Stop()
	for waiting := true; waiting; {
		select {
		case <-done:
			waiting = false
		case <-grace.C:
			waiting = false
		case <-r.e.queue.wake:
		}
		for _, in := range r.e.queue.take() {
			r.input(in)
		}
	}
	r.e.queue.end()
}
