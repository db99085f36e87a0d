package engine

import (
	"encoding/json"
	"slices"
	"sort"
	"time"

	"initd/boot/plan"
	"initd/boot/report"
)

// apply folds one event into the state. It is the only thing that changes
// what next decides by.
func (s *state) apply(e report.Event) {
	switch e.Kind {
	case report.PlanLoaded:
		s.planLoaded(e)
		return
	case report.UnitDeclared:
		s.declared(e)
		return
	case report.TemplateChanged:
		s.templateChanged(e)
		return
	case report.ResourceChanged:
		s.resourceChanged(e)
		return
	case report.Halted:
		s.halted = true
		s.setFree()
		return
	case report.Resumed:
		s.halted = false
		for _, u := range s.units {
			s.mark(u)
		}
		return
	case report.BudgetOver:
		s.budgetOver = true
		for _, u := range s.units {
			if !u.roundOver {
				s.mark(u)
			}
		}
		for _, t := range s.templates {
			s.markTemplate(t)
		}
		return
	case report.Settled:
		s.settled = true
		return
	case report.ClockStepped:
		s.clockStepped(e)
		return
	}
	u := s.byID[e.Unit]
	if u == nil {
		return
	}
	s.mark(u)
	switch e.Kind {
	case report.AttemptStarted:
		s.attemptStarted(u, e)
	case report.AttemptEnded:
		s.attemptEnded(u, e)
	case report.AttemptCancelled:
		u.cancelled = true
	case report.Progressed:
		u.progress = e
	case report.UnitChanged:
		s.unitChanged(u, e)
	case report.NeedLost:
		if e.Resource != "" && !u.standsOn(plan.Resource(e.Resource)) {
			break // what it stands on in another way: recorded by its action
		}
		u.noted = e.Presence != report.Present
		if !u.noted {
			u.remember()
		}
	case report.Commanded:
		u.order, u.why = e.Command, e.Reason
	}
}

// standsOn tells whether the unit names r.
func (u *unit) standsOn(r plan.Resource) bool {
	for _, n := range u.requires {
		for _, e := range n.edges {
			if e.r.name == r {
				return true
			}
		}
	}
	return false
}

// clockStepped: what failed because of the clock is due now, not at the end of its pause.
func (s *state) clockStepped(e report.Event) {
	s.stepped = e.At
	for _, u := range s.units {
		if u.phase == idle && u.err != nil && u.err.Clock && retryable(u, u.err) {
			u.retryAt = 0
			s.mark(u)
		}
	}
}

func (s *state) planLoaded(e report.Event) {
	s.origin, s.budget = e.Plan.Origin, e.Plan.Budget
	s.loaded, s.toCome = true, e.Plan.Units
	s.remind(timer{at: s.origin + s.budget})
}

// declared joins a unit to the graph: one of the plan, or an instance.
func (s *state) declared(e report.Event) {
	pu := s.planned[e.Unit]
	var t *template
	if len(e.Instance) > 0 {
		pu = new(plan.Unit)
		if json.Unmarshal(e.Instance, pu) != nil {
			return // not written by us
		}
		for _, x := range s.templates {
			if x.t.ID == pu.Template {
				t = x
				t.have++
				s.markTemplate(t)
			}
		}
	}
	if pu == nil || s.byID[e.Unit] != nil {
		return
	}
	u := &unit{ix: len(s.units), u: pu, template: t, attempt: e.Attempt}
	s.setState(u, report.Waiting)
	s.units = append(s.units, u)
	s.byID[pu.ID] = u
	s.open++
	if pu.Milestone {
		s.milestones = append(s.milestones, u)
	} else {
		s.openUnits++
	}
	s.schedule(u, e.At)
	if pu.Batch != "" && s.rules.batches(pu.Kind) {
		k := batchKey{pu.Kind, pu.Batch}
		if s.byBatch[k] == nil {
			s.byBatch[k] = &batch{key: k}
			s.batches = append(s.batches, s.byBatch[k])
		}
		u.batch = s.byBatch[k]
	}
	s.connect(u, e.At)
	if pu.Milestone && pu.ID == plan.ReadyID {
		s.ready = u
	}
	s.mark(u)
	if s.toCome > 0 {
		if s.toCome--; s.toCome == 0 {
			s.exempt()
		}
	} else {
		s.exempt()
	}
}

// lookAround is the least that a unit waits for what it needs: an orchestrator
// that goes on after another begins late in the boot, and has not seen the world
// yet.
const lookAround = 3 * time.Second

// schedule sets when the unit's first round must be over. What joins after
// the budget has a budget of its own.
func (s *state) schedule(u *unit, now time.Duration) {
	from := s.origin
	if u.template != nil {
		from = max(from, now)
	}
	u.roundBy = s.origin + s.budget
	if now >= u.roundBy && u.template != nil {
		u.roundBy = now + s.budget
	}
	u.waitBy = u.roundBy
	if w := time.Duration(u.u.Policy.Wait); w > 0 {
		u.waitBy = from + w
		if u.waitBy <= now+lookAround && now >= from+lookAround {
			u.waitBy = now + lookAround
		}
		u.waitBy = min(u.roundBy, u.waitBy)
	}
	s.remind(timer{at: u.roundBy, u: u})
	if u.waitBy != u.roundBy {
		s.remind(timer{at: u.waitBy, u: u})
	}
}

// connect ties the unit's needs, claims and provisions to resources.
func (s *state) connect(u *unit, now time.Duration) {
	for i := range u.u.Needs {
		pn := &u.u.Needs[i]
		n := &need{u: u, n: pn, want: max(pn.Min, 1), since: now, ix: i}
		for _, name := range pn.AnyOf {
			r := s.resource(name)
			if slices.ContainsFunc(n.edges, func(e *edge) bool { return e.r == r }) {
				continue
			}
			e := &edge{n: n, r: r}
			r.edges = append(r.edges, e)
			n.edges = append(n.edges, e)
		}
		if pn.Mode == plan.After || len(n.edges) == 0 {
			n.want = len(n.edges)
		} else {
			u.requires = append(u.requires, n)
		}
		u.needs = append(u.needs, n)
		if !n.met() {
			u.unmet++
		}
	}
	for _, name := range u.u.Provides {
		r := s.resource(name)
		if r.provider == nil {
			r.provider = u
			u.provides = append(u.provides, r)
		}
		s.reconnect(r, now)
	}
	for _, name := range u.u.Claims {
		r := s.resource(name)
		r.claims = append(r.claims, u)
		u.claims = append(u.claims, r)
		s.reclaim(r, now)
	}
	for _, n := range u.needs {
		for _, e := range n.edges {
			s.count(e, now)
		}
	}
}

// exempt finds the units that wait for ready: ready does not wait for them.
func (s *state) exempt() {
	if s.ready == nil {
		return
	}
	work := []*unit{s.ready}
	for len(work) > 0 {
		u := work[0]
		work = work[1:]
		for _, r := range u.provides {
			for _, e := range r.edges {
				if o := e.n.u; !o.exempt && o != s.ready {
					o.exempt = true
					if !o.u.Milestone && !o.roundOver {
						s.openUnits--
						s.mark(s.ready)
					}
					work = append(work, o)
				}
			}
		}
	}
}

func (s *state) attemptStarted(u *unit, e report.Event) {
	if e.Op == report.Check {
		u.attempt, u.begun = e.Attempt, e.At
		u.made, u.cancelled, u.final, u.noted = false, false, false, false
		u.err, u.retryAt, u.object = nil, 0, ""
		u.look, u.looking = false, u.unmet > 0
		u.remember()
		if u.batch != nil {
			u.batch.checking++
		}
	} else {
		u.made = true
		s.unqueue(u)
	}
	u.phase, u.op, u.opAt, u.opBy = busy, e.Op, e.At, e.By
	u.progress = report.Event{}
	u.waits = nil
	if e.State != "" {
		s.setState(u, e.State)
		u.reason = ""
	}
	s.remind(timer{at: u.opBy, u: u})
}

func (s *state) attemptEnded(u *unit, e report.Event) {
	u.opBy = 0
	u.object = e.Object
	switch e.Op {
	case report.Check:
		u.phase, u.answer, u.err, u.found = checked, Answer(e.Answer), e.Error, e.Reason
		if b := u.batch; b != nil {
			b.checking--
			s.markBatch(b)
			if e.Error == nil && (u.answer == Absent || u.answer == Partial) && u.order == "" && !u.vain() {
				s.enqueue(u, e.At)
			}
		}
	case report.Rollback:
		u.phase = rolled
		if e.Error != nil && u.err != nil {
			x := *u.err
			x.Text += "; and cleaning up failed: " + e.Error.Text
			u.err = &x
		}
	default:
		u.phase, u.err = applied, e.Error
	}
	if e.PID != 0 {
		u.pid, u.wchan = e.PID, e.Wchan
	}
	u.jammed = e.Jammed
}

func (s *state) enqueue(u *unit, now time.Duration) {
	b := u.batch
	u.phase = queued
	if len(b.ready) == 0 {
		b.since = now
		s.remind(timer{at: now + s.rules.batchHold, b: b})
	}
	i := sort.Search(len(b.ready), func(i int) bool { return b.ready[i].ix > u.ix })
	b.ready = slices.Insert(b.ready, i, u)
}

func (s *state) unqueue(u *unit) {
	if u.batch == nil {
		return
	}
	if i := slices.Index(u.batch.ready, u); i >= 0 {
		u.batch.ready = slices.Delete(u.batch.ready, i, i+1)
	}
}

// unitChanged is a decision about a unit.
func (s *state) unitChanged(u *unit, e report.Event) {
	u.waits = e.Waits
	if e.State == "" { // only what it waits for changed
		return
	}
	if u.phase == queued {
		s.unqueue(u)
	}
	if u.phase != busy {
		if u.cancelled || u.phase == checked && u.vain() {
			u.attempt = max(0, u.attempt-1)
		}
		u.phase, u.cancelled = idle, false
	}
	s.setState(u, e.State)
	u.reason = e.Reason
	if e.Ordered != "" {
		s.ordered(u, e)
	}
	switch {
	case e.State.OK():
		u.ran, u.err, u.final = true, nil, false
		u.attempt = 0
		if u.u.Milestone {
			u.remember()
		}
	case e.Error != nil:
		u.err, u.retryAt = e.Error, e.RetryAt
		u.final = e.RetryAt == 0 && e.State != report.Stuck
		s.remind(timer{at: u.retryAt, u: u})
		if u.batch != nil && u.retryAt > 0 {
			u.batch.retryAt = u.retryAt
		}
	}
	s.setHalting(u)
	if e.State.Settled() {
		s.closeRound(u, e.At)
	}
	s.claimsChanged(u, e.At)
}

// setState keeps count of the units that wait or run.
func (s *state) setState(u *unit, to report.State) {
	if u.state != "" && !u.state.Settled() {
		s.active--
	}
	u.state = to
	if !to.Settled() {
		s.active++
	}
}

// ordered clears what an operator's order ends.
func (s *state) ordered(u *unit, e report.Event) {
	if u.order == e.Ordered {
		u.order, u.why = "", ""
	}
	if e.Ordered == "retry" || e.Ordered == "unstuck" {
		u.asked, u.jammed, u.final, u.retryAt, u.attempt = true, false, false, 0, 0
		u.look = e.Ordered == "retry" && !u.u.Milestone
		u.pid, u.wchan = 0, ""
	}
}

// closeRound: what comes after the unit may start.
func (s *state) closeRound(u *unit, now time.Duration) {
	if u.roundOver {
		return
	}
	u.roundOver = true
	s.open--
	if !u.u.Milestone && !u.exempt {
		s.openUnits--
	}
	s.mark(s.ready)
	if s.openUnits == 0 {
		for _, m := range s.milestones {
			if !m.roundOver {
				s.mark(m)
			}
		}
	}
	for _, r := range u.provides {
		s.reconnect(r, now)
	}
}

// setHalting keeps count of the units that hold the boot.
func (s *state) setHalting(u *unit) {
	p := u.u.Policy.OnFailure
	halting := (p == plan.Halt || p == plan.Reboot) && !u.ran &&
		(u.state == report.Failed || u.state == report.Stuck || u.state == report.Degraded ||
			u.halting && (u.state == report.Waiting || u.state == report.Running))
	if halting == u.halting {
		return
	}
	u.halting = halting
	if halting {
		s.halting++
	} else {
		s.halting--
	}
	if s.halted {
		s.setFree()
	}
}

// setFree finds what may start while the boot is halted: the units that hold
// it, what they stand on, and who has that to itself.
func (s *state) setFree() {
	var work []*unit
	for _, u := range s.units {
		u.free = u.u.Stage == plan.Network || u.u.Stage == plan.Time || u.halting
		if u.halting {
			work = append(work, u)
		}
		s.mark(u)
	}
	allow := func(u *unit) {
		if u != nil && !u.free {
			u.free = true
			work = append(work, u)
		}
	}
	for len(work) > 0 {
		u := work[0]
		work = work[1:]
		for _, n := range u.requires {
			for _, e := range n.edges {
				allow(e.r.provider)
				for _, o := range s.names(e.r) {
					for _, c := range o.claims {
						allow(c)
					}
				}
			}
		}
	}
}

// remember takes down which resources, in which generation, the unit stands
// on from now on.
func (u *unit) remember() {
	for _, n := range u.requires {
		n.stood = n.met()
		for _, e := range n.edges {
			e.seen = 0
			if e.ok {
				e.seen = e.r.gen
			}
		}
	}
}

// disturbed returns the first need that is no longer met by what met it when
// the unit was last looked at. What was not met even then and yet was found
// up, by an operator's order, stands without it.
func (u *unit) disturbed() *need {
	for _, n := range u.requires {
		if !n.stood {
			continue
		}
		same := 0
		for _, e := range n.edges {
			if e.ok && e.seen == e.r.gen {
				same++
			}
		}
		if same < n.want {
			return n
		}
	}
	return nil
}
