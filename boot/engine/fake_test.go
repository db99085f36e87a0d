package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"initd/boot/plan"
	"initd/boot/report"
)

// machine is a fake world that actions change; it notes every call.
type machine struct {
	mu      sync.Mutex
	there   map[string]bool // units that are in place
	running map[string]int
	calls   []string
	errs    []string
	script  map[string]*script
	start   time.Time
}

// script is how the unit of one name behaves.
type script struct {
	took     time.Duration // Apply
	checks   time.Duration // Check takes
	fails    int           // so many Applies fail first; -1: all
	err      error         // what they fail with
	hang     bool          // Apply ends with its context only
	deaf     time.Duration // Apply ignores its context and returns after this
	answer   Answer        // of Check, while not in place
	progress []Progress
	applied  int
}

func newMachine() *machine {
	return &machine{there: map[string]bool{}, running: map[string]int{}, script: map[string]*script{}, start: time.Now()}
}

func (m *machine) clock() time.Duration { return time.Since(m.start) + time.Second }

func (m *machine) unit(id string) *script {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.script[id] == nil {
		m.script[id] = &script{}
	}
	return m.script[id]
}

// change changes a script while actions may be reading it.
func (m *machine) change(id string, f func(*script)) {
	s := m.unit(id)
	m.mu.Lock()
	defer m.mu.Unlock()
	f(s)
}

func (m *machine) enter(op, id string) func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, op+" "+id)
	m.running[id]++
	if m.running[id] > 1 {
		m.errs = append(m.errs, fmt.Sprintf("%s runs twice at once", id))
	}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.running[id]--
	}
}

func (m *machine) count(call string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, c := range m.calls {
		if c == call {
			n++
		}
	}
	return n
}

// remove takes a unit's object away behind the engine's back.
func (m *machine) remove(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.there[id] = false
}

// put makes what a unit stands for appear by another hand.
func (m *machine) put(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.there[id] = true
}

// fake is the action of one kind on a machine.
type fake struct{ m *machine }

func (f fake) Check(ctx context.Context, u *plan.Unit) (Checked, error) {
	defer f.m.enter("check", u.ID)()
	s := f.m.unit(u.ID)
	if err := pause(ctx, s.checks); err != nil {
		return Checked{}, err
	}
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	switch {
	case f.m.there[u.ID]:
		return Checked{Answer: Same}, nil
	case s.answer != "":
		return Checked{Answer: s.answer, Reason: "scripted", Object: "/dev/" + u.ID}, nil
	}
	return Checked{Answer: Absent}, nil
}

func (f fake) Apply(ctx context.Context, u *plan.Unit, progress func(Progress)) error {
	defer f.m.enter("apply", u.ID)()
	return f.apply(ctx, u, progress)
}

func (f fake) apply(ctx context.Context, u *plan.Unit, progress func(Progress)) error {
	live := f.m.unit(u.ID)
	f.m.mu.Lock()
	s := *live
	f.m.mu.Unlock()
	for _, p := range s.progress {
		progress(p)
	}
	switch {
	case s.deaf > 0:
		_ = pause(context.Background(), s.deaf)
		return errors.New("woke up")
	case s.hang:
		<-ctx.Done()
		return ctx.Err()
	}
	if err := pause(ctx, s.took); err != nil {
		return err
	}
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	live.applied++
	if live.fails < 0 || live.applied <= live.fails {
		if live.err != nil {
			return live.err
		}
		return fmt.Errorf("try %d does not work", live.applied)
	}
	if f.m.there[u.ID] {
		f.m.errs = append(f.m.errs, u.ID+" was applied although it was in place")
	}
	f.m.there[u.ID] = true
	return nil
}

func (f fake) Rollback(_ context.Context, u *plan.Unit) error {
	defer f.m.enter("rollback", u.ID)()
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.m.there[u.ID] = false
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// batchFake serves batches.
type batchFake struct{ fake }

func (f batchFake) ApplyBatch(_ context.Context, us []Part, progress func(int, Progress), done func(int, error)) {
	names := "batch"
	for _, u := range us {
		names += " " + u.ID
	}
	f.m.mu.Lock()
	f.m.calls = append(f.m.calls, names)
	f.m.mu.Unlock()
	var wg sync.WaitGroup
	for i, u := range us {
		leave := f.m.enter("apply", u.ID)
		wg.Go(func() {
			err := f.apply(u.Context, u.Unit, func(p Progress) { progress(i, p) })
			leave()
			done(i, err)
		})
	}
	wg.Wait()
}

// changeFake can change.
type changeFake struct{ fake }

func (f changeFake) Change(_ context.Context, u *plan.Unit, _ func(Progress)) error {
	defer f.m.enter("change", u.ID)()
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.m.there[u.ID] = true
	return nil
}

// recorder is a log in memory.
type recorder struct {
	mu     sync.Mutex
	events []report.Event
}

func (r *recorder) Append(e *report.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.Seq = uint64(len(r.events) + 1)
	r.events = append(r.events, *e)
	return nil
}

func (r *recorder) all() []report.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

func (r *recorder) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.events)
}

// states is where every unit stands by the log.
func (r *recorder) states() map[string]report.State {
	m := map[string]report.State{}
	for _, e := range r.all() {
		if e.Kind == report.UnitDeclared {
			m[e.Unit] = report.Waiting
		}
		if e.Unit != "" && e.State != "" {
			m[e.Unit] = e.State
		}
	}
	return m
}

// find returns the events of a kind for a unit.
func (r *recorder) find(kind report.Kind, unit string) []report.Event {
	var list []report.Event
	for _, e := range r.all() {
		if e.Kind == kind && (unit == "" || e.Unit == unit) {
			list = append(list, e)
		}
	}
	return list
}

// rig is an engine on a machine in virtual time.
type rig struct {
	t   *testing.T
	m   *machine
	log *recorder
	e   *Engine
	cfg Config
	end func()
}

// newRig prepares an engine over units with kinds fake, batch and change.
func newRig(t *testing.T, units ...plan.Unit) *rig {
	t.Helper()
	g := &rig{t: t, m: newMachine(), log: &recorder{}}
	p := &plan.Plan{Name: "test", Budget: plan.Duration(3 * time.Minute), Units: units}
	addReady(p)
	for i := range p.Units {
		if p.Units[i].Kind == "" {
			p.Units[i].Kind = "fake"
		}
		plan.Defaults(&p.Units[i])
	}
	g.cfg = Config{Plan: p, Actions: g.actions(), Log: g.log, Generation: 1, Seed: 7, Clock: g.m.clock}
	return g
}

func (g *rig) actions() map[string]Action {
	f := fake{g.m}
	return map[string]Action{"fake": f, "batch": batchFake{f}, "change": changeFake{f}}
}

func addReady(p *plan.Plan) {
	ready := plan.Unit{ID: plan.ReadyID, Kind: "milestone", Stage: plan.Ready, Milestone: true, Provides: []plan.Resource{"milestone/ready"}}
	for _, u := range p.Units {
		if len(u.Provides) > 0 {
			ready.Needs = append(ready.Needs, plan.Need{AnyOf: u.Provides[:1], Min: 1, Mode: plan.After})
		}
	}
	p.Units = append(p.Units, ready)
}

// run starts the engine; the caller must call g.end, or let the test's end do it.
func (g *rig) run() {
	g.t.Helper()
	e, err := New(g.cfg)
	if err != nil {
		g.t.Fatal(err)
	}
	g.e = e
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	g.end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			g.t.Errorf("Run: %v", err)
		}
		g.m.mu.Lock()
		defer g.m.mu.Unlock()
		for _, err := range g.m.errs {
			g.t.Error(err)
		}
	})
	synctest.Wait()
}

// after lets virtual time pass.
func (g *rig) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// fact posts one observation and lets it work.
func (g *rig) fact(name plan.Resource, present bool, gen uint64, reason string) {
	g.t.Helper()
	if err := g.e.Post(plan.Fact{Resource: name, Present: present, Generation: gen, Reason: reason}); err != nil {
		g.t.Fatal(err)
	}
	synctest.Wait()
}

func (g *rig) wants(states map[string]report.State) {
	g.t.Helper()
	got := g.log.states()
	for u, want := range states {
		if got[u] != want {
			g.t.Errorf("%s is %s, want %s", u, got[u], want)
		}
	}
}

// u is a unit that provides what it is called.
func u(id string, more ...func(*plan.Unit)) plan.Unit {
	x := plan.Unit{ID: id, Kind: "fake", Stage: plan.Storage, Provides: []plan.Resource{plan.Resource(id)}}
	for _, f := range more {
		f(&x)
	}
	return x
}

func needs(names ...plan.Resource) func(*plan.Unit) {
	return func(u *plan.Unit) {
		for _, n := range names {
			u.Needs = append(u.Needs, plan.Need{AnyOf: []plan.Resource{n}})
		}
	}
}

func needsAny(min int, names ...plan.Resource) func(*plan.Unit) {
	return func(u *plan.Unit) { u.Needs = append(u.Needs, plan.Need{AnyOf: names, Min: min}) }
}

func comesAfter(names ...plan.Resource) func(*plan.Unit) {
	return func(u *plan.Unit) {
		for _, n := range names {
			u.Needs = append(u.Needs, plan.Need{AnyOf: []plan.Resource{n}, Mode: plan.After})
		}
	}
}

func kind(k string) func(*plan.Unit)       { return func(u *plan.Unit) { u.Kind = k } }
func batched(k string) func(*plan.Unit)    { return func(u *plan.Unit) { u.Kind, u.Batch = "batch", k } }
func loses(l plan.OnLoss) func(*plan.Unit) { return func(u *plan.Unit) { u.OnLoss = l } }
func claims(r plan.Resource) func(*plan.Unit) {
	return func(u *plan.Unit) { u.Claims = append(u.Claims, r) }
}
func policy(f func(*plan.Policy)) func(*plan.Unit) { return func(u *plan.Unit) { f(&u.Policy) } }
func waits(d time.Duration) func(*plan.Unit) {
	return policy(func(p *plan.Policy) { p.Wait = plan.Duration(d) })
}
func onFailure(f plan.OnFailure) func(*plan.Unit) {
	return policy(func(p *plan.Policy) { p.OnFailure = f })
}

func attempts(n int) func(*plan.Unit) {
	return policy(func(p *plan.Policy) {
		p.Retry = plan.Retry{Initial: plan.Duration(time.Second), Max: plan.Duration(30 * time.Second), Factor: 2, Attempts: n}
	})
}
