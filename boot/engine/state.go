package engine

import (
	"container/heap"
	"time"

	"initd/boot/plan"
	"initd/boot/report"
)

// state is what the engine knows: a fold of events by apply. What a caller of
// next sees depends on nothing else but the time. It belongs to the loop.
type state struct {
	plan    *plan.Plan
	planned map[string]*plan.Unit
	rules   rules

	units      []*unit // in the order of the plan, instances behind
	byID       map[string]*unit
	resources  map[plan.Resource]*resource
	devices    map[string][]*resource // present resources by the device that answers to them
	templates  []*template
	batches    []*batch
	milestones []*unit
	byBatch    map[batchKey]*batch
	ready      *unit // the milestone ready, if the plan has one
	last       *unit // once it is up, missing devices are not waited for: the first with a Patience

	loaded     bool
	toCome     int           // declarations of the plan's units that are still to come
	origin     time.Duration // of the budget
	budget     time.Duration
	budgetOver bool

	openUnits int // units, no milestones, that ready waits for: still in their first round
	open      int // all units and templates still in their first round
	active    int // units that wait or run, whether in their first round or later
	settled   bool

	stepped time.Duration // when the clock was set the last time
	arrived time.Duration // when the last device or unit came

	halted  bool // as the events say
	halting int  // units that hold the boot

	// What may have something to decide; all of it could be found by looking
	// at every unit, and after a replay it is.
	dirty          dirtySet
	dirtyTemplates []*template
	dirtyBatches   []*batch
	timers         timers
}

// rules are what next needs besides events: constants of one engine.
type rules struct {
	grace, batchHold time.Duration
	seed             uint64
	batches, changes func(kind string) bool
	expand           func(t *plan.Template, f plan.Fact) ([]plan.Unit, error)
}

// phase is where a unit's current attempt stands.
type phase uint8

const (
	idle    phase = iota // no attempt, or between two
	busy                 // an action runs: unit.op
	checked              // Check answered: unit.answer or unit.err
	queued               // Check asked for Apply, and the batch is not full
	applied              // Apply or Change returned: unit.err
	rolled               // Rollback returned
)

// unit is a unit of the plan and what became of it.
type unit struct {
	ix       int
	u        *plan.Unit
	needs    []*need
	requires []*need // those of needs with mode require
	unmet    int     // needs that are not met
	cursor   int     // no need before it is unmet; a cache
	provides []*resource
	claims   []*resource
	batch    *batch
	template *template
	exempt   bool // ready does not wait for it: it waits for ready

	roundBy time.Duration // its first round ends then at the latest
	waitBy  time.Duration // it gives up waiting for needs then

	state     report.State
	reason    string
	waits     []report.Wait // as last reported
	roundOver bool          // through its first round
	ran       bool          // was up once
	providing bool          // its resources are there
	halting   bool
	free      bool // may start while the boot is halted
	asked     bool // an operator asked for it: it may, too
	look      bool // an operator asked while needs were unmet: one Check is due
	looking   bool // that Check runs, or has ended: unless the needs are met by now, nothing follows but waiting

	phase     phase
	op        report.Op
	begun     time.Duration // when the current or last attempt did
	opBy      time.Duration // when it must have returned; zero: whenever
	attempt   int           // number of the current or last attempt
	made      bool          // the current attempt called Apply or Change
	answer    Answer
	found     string // the reason of that answer
	object    string
	err       *report.Error // of the current attempt, then the last error
	pid       int           // of the process that is stuck
	wchan     string
	jammed    bool // that process is still there: nothing of the unit may start
	cancelled bool // the current attempt was called off and does not count
	retryAt   time.Duration
	final     bool   // no attempt before a need changes
	order     string // an operator's order that is not carried out yet
	why       string // the reason given with it
	noted     bool   // a lost need was reported, and the unit stays
	progress  report.Event
}

// up tells whether the unit is done and nothing is known against it.
func (u *unit) up() bool { return u.state.OK() }

// need is a need of one unit. unmet: have < want.
type need struct {
	ix    int // among the unit's needs
	u     *unit
	n     *plan.Need
	edges []*edge
	have  int
	want  int
	since time.Duration // unmet since
	stood bool          // was met when the unit was last looked at
}

func (n *need) met() bool { return n.have >= n.want }

// edge ties a need to one of the resources that can meet it.
type edge struct {
	n    *need
	r    *resource
	ok   bool   // counts towards the need
	seen uint64 // generation at the start of the last attempt; zero: did not count
}

// resource is something that is needed, provided, claimed or matched.
type resource struct {
	name     plan.Resource
	present  bool
	ever     bool // was present once
	known    bool // something was said about it
	gen      uint64
	reason   string
	dev      string // the device that answers to it, while present
	attrs    map[string]string
	provider *unit
	edges    []*edge
	claims   []*unit
}

// batch is units of one kind that share calls of their action.
type batch struct {
	key      batchKey
	ready    []*unit // queued, by index
	checking int
	since    time.Duration // when the first of ready was
	retryAt  time.Duration // the last retry that was set for one of it
	dirty    bool
}

type batchKey struct{ kind, batch string }

// template is a template and how many instances it has.
type template struct {
	ix        int
	t         *plan.Template
	pending   []plan.Fact // facts that were not matched yet
	failed    map[plan.Resource]string
	have      int
	by        time.Duration // when it should be whole
	roundOver bool
	state     report.State
	dirty     bool
}

func newState(p *plan.Plan, r rules) *state {
	s := &state{
		plan:      p,
		planned:   make(map[string]*plan.Unit, len(p.Units)),
		rules:     r,
		byID:      map[string]*unit{},
		resources: map[plan.Resource]*resource{},
		devices:   map[string][]*resource{},
		byBatch:   map[batchKey]*batch{},
	}
	for i := range p.Units {
		s.planned[p.Units[i].ID] = &p.Units[i]
	}
	return s
}

func (s *state) resource(name plan.Resource) *resource {
	r := s.resources[name]
	if r == nil {
		r = &resource{name: name}
		s.resources[name] = r
	}
	return r
}

// mark notes that there may be something to decide about u.
func (s *state) mark(u *unit) {
	if u != nil {
		s.dirty.add(u.ix)
	}
}

func (s *state) markTemplate(t *template) {
	if !t.dirty {
		t.dirty = true
		s.dirtyTemplates = append(s.dirtyTemplates, t)
	}
}

func (s *state) markBatch(b *batch) {
	if b != nil && !b.dirty {
		b.dirty = true
		s.dirtyBatches = append(s.dirtyBatches, b)
	}
}

// markAll is what a replay does instead of remembering what is dirty.
func (s *state) markAll() {
	for _, u := range s.units {
		s.mark(u)
	}
	for _, t := range s.templates {
		s.markTemplate(t)
	}
	for _, b := range s.batches {
		s.markBatch(b)
	}
}

// dirtySet is a set of unit indexes that gives out the smallest first.
type dirtySet struct {
	heap intHeap
	in   []bool
}

func (d *dirtySet) add(ix int) {
	for len(d.in) <= ix {
		d.in = append(d.in, false)
	}
	if !d.in[ix] {
		d.in[ix] = true
		heap.Push(&d.heap, ix)
	}
}

func (d *dirtySet) take() (int, bool) {
	if len(d.heap) == 0 {
		return 0, false
	}
	ix := heap.Pop(&d.heap).(int)
	d.in[ix] = false
	return ix, true
}

type intHeap []int

func (h intHeap) Len() int           { return len(h) }
func (h intHeap) Less(i, j int) bool { return h[i] < h[j] }
func (h intHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *intHeap) Push(x any)        { *h = append(*h, x.(int)) }
func (h *intHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

// timer makes next look at something again at a time. One that is no longer
// meant costs a look that finds nothing.
type timer struct {
	at time.Duration
	u  *unit
	t  *template
	b  *batch
}

type timers []timer

func (h timers) Len() int           { return len(h) }
func (h timers) Less(i, j int) bool { return h[i].at < h[j].at }
func (h timers) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *timers) Push(x any)        { *h = append(*h, x.(timer)) }
func (h *timers) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

func (s *state) remind(t timer) {
	if t.at > 0 {
		heap.Push(&s.timers, t)
	}
}

// due marks what the timers up to now are about.
func (s *state) due(now time.Duration) {
	for len(s.timers) > 0 && s.timers[0].at <= now {
		t := heap.Pop(&s.timers).(timer)
		s.mark(t.u)
		s.markBatch(t.b)
		if t.t != nil {
			s.markTemplate(t.t)
		}
	}
}

// nextAt is when next should be asked again if nothing happens before.
func (s *state) nextAt() (time.Duration, bool) {
	if len(s.timers) == 0 {
		return 0, false
	}
	return s.timers[0].at, true
}
