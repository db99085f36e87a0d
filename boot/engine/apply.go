package engine

import (
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
	u.phase, u.op, u.opBy = busy, e.Op, e.By
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
