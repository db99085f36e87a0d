package engine

import (
	"fmt"
	"slices"
	"time"

	"initd/boot/plan"
	"initd/boot/report"
)

// Codes of the errors that the engine itself makes.
const (
	codeDifferent = "different"
	codeForeign   = "foreign"
)

// decideBusy: an action runs. It may have to be called off, be given up as
// stuck, or outlast the budget.
func (s *state) decideBusy(u *unit, now time.Duration) (decision, bool) {
	if u.opBy > 0 && now >= u.opBy && u.state != report.Stuck && u.state != report.Skipped {
		e := s.change(u, now, report.Stuck, fmt.Sprintf("%s did not return within %s of its deadline", u.op, short(s.rules.grace)))
		return s.orReboot(u, e), true
	}
	if !u.roundOver && now >= u.roundBy {
		text := s.budgetText() + " during " + string(u.op)
		switch {
		case u.progress.Waiting != "":
			text += ", waiting for " + u.progress.Waiting
		case u.progress.Text != "":
			text += ": " + u.progress.Text
		}
		return s.giveUp(u, now, text), true
	}
	return decision{}, false
}

// decideChecked: Check answered.
func (s *state) decideChecked(u *unit, now time.Duration) decision {
	// Whoever asks for another try meanwhile gets another look, and nothing more either.
	if u.vain() && (u.order == "" || u.order == "retry") && !u.answer.there() && u.answer != Different && u.answer != Foreign {
		return s.backToWaiting(u, now)
	}
	if u.err != nil {
		return s.fail(u, now, u.err)
	}
	if !u.answer.there() && (u.order == "skip" || u.order == "stop") {
		return s.calledOff(u, now)
	}
	switch u.answer {
	case Same, Follows:
		return s.succeed(u, now)
	case Absent, Partial:
		return s.make(u, now, report.Apply, doApply)
	case Different:
		if s.rules.changes(u.u.Kind) {
			return s.make(u, now, report.Change, doChange)
		}
		return s.fail(u, now, &report.Error{
			Code: codeDifferent, Object: u.object, Text: "what is there differs: " + u.found,
			Hint: "compare it with the file; the engine changes nothing that it finds in use",
		})
	case Foreign:
		return s.fail(u, now, &report.Error{
			Code: codeForeign, Object: u.object, Text: "what is there is not ours: " + u.found,
			Hint: "remove it, or take the unit out of the file",
		})
	}
	return s.fail(u, now, &report.Error{Text: fmt.Sprintf("check answered %q, which is no answer", u.answer), Final: true})
}

// vain tells that a Check was made on an operator's order although needs were
// unmet, and they still are: it may find the unit up (a key that was fed by
// hand needs no way to a key server), and can lead to nothing else.
func (u *unit) vain() bool { return u.looking && u.unmet > 0 }

func (s *state) backToWaiting(u *unit, now time.Duration) decision {
	to := report.Waiting
	if u.roundOver {
		to = s.given(u)
	}
	reason := "tried on an operator's order: it still needs " + s.explainFirst(u)
	if u.err != nil {
		reason += "; and " + u.err.Text
	}
	e := s.change(u, now, to, reason)
	e.Waits, e.Unmet = s.waitsOf(u), u.unmet
	return one(e)
}

func (s *state) make(u *unit, now time.Duration, op report.Op, do effectKind) decision {
	d := s.begin(u, now, op, effect{do: do, units: []*unit{u}})
	if u.providing {
		d.events = append(s.withdraw(u, now, "it is not there any more"), d.events...)
	}
	return d
}

// decideApplied: Apply or Change returned.
func (s *state) decideApplied(u *unit, now time.Duration) decision {
	switch {
	case u.err == nil:
		return s.succeed(u, now)
	case u.jammed || u.op == report.Change:
		return s.fail(u, now, u.err)
	}
	return s.begin(u, now, report.Rollback, effect{do: doRollback, units: []*unit{u}})
}

// succeed: the unit is up.
func (s *state) succeed(u *unit, now time.Duration) decision {
	to := report.Done
	if !u.made && !u.ran && (u.answer != Follows || u.foundNeeds()) {
		to = report.Adopted
	}
	e := s.change(u, now, to, "")
	if u.order == "stop" { // it came too late to end the attempt
		e = s.change(u, now, report.Skipped, s.orderText(u))
		e.Ordered = u.order
	}
	return one(e)
}

// there tells that the unit is as it should be.
func (a Answer) there() bool { return a == Same || a == Follows }

// foundNeeds tells that no unit which provides what u requires was made by this
// orchestrator.
func (u *unit) foundNeeds() bool {
	return !slices.ContainsFunc(u.requires, func(n *need) bool {
		return slices.ContainsFunc(n.edges, func(e *edge) bool {
			return e.r.provider != nil && e.r.provider.state == report.Done
		})
	})
}

// fail: an attempt is over without success.
func (s *state) fail(u *unit, now time.Duration, err *report.Error) decision {
	if u.cancelled {
		return s.calledOff(u, now)
	}
	if u.jammed {
		e := s.change(u, now, report.Stuck, err.Text)
		e.Error, e.PID, e.Wchan = err, u.pid, u.wchan
		return s.orReboot(u, e)
	}
	e := report.Event{Kind: report.UnitChanged, At: now, Unit: u.u.ID, Error: err, Attempt: u.attempt}
	again := retryable(u, err)
	if again {
		e.RetryAt = s.retryAt(u, now, u.attempt)
		if err.Clock && s.stepped > u.begun { // the clock was another one when the attempt began
			e.RetryAt = now
		}
	}
	most := firstRound(u.u.Policy)
	switch {
	case u.state == report.Skipped:
		e.State, e.Reason, e.RetryAt = report.Skipped, u.reason, 0
	case !u.roundOver && again && u.attempt < most:
		e.State = report.Waiting
		e.Reason = fmt.Sprintf("attempt %d of %d failed: %s", u.attempt, most, err.Text)
	default:
		e.State, e.Reason = s.given(u), err.Text
		if !again {
			e.State = report.Failed
		}
		return s.orReboot(u, e)
	}
	return decision{events: []report.Event{e}}
}

// given is the state of a unit whose first round is over without success.
func (s *state) given(u *unit) report.State {
	if p := u.u.Policy.OnFailure; !u.ran && (p == plan.Halt || p == plan.Reboot) {
		return report.Failed
	}
	return report.Degraded
}

// giveUp ends the first round of a unit that still waits or runs; it goes on
// in the background.
func (s *state) giveUp(u *unit, now time.Duration, reason string) decision {
	e := s.change(u, now, s.given(u), reason)
	e.Waits, e.Unmet = s.waitsOf(u), u.unmet
	return s.orReboot(u, e)
}

// orReboot adds what the policy asks for when the first round failed.
func (s *state) orReboot(u *unit, e report.Event) decision {
	d := one(e)
	if u.u.Policy.OnFailure == plan.Reboot && !u.roundOver && !u.ran && e.State.Settled() {
		d.effect = effect{do: doReboot, units: []*unit{u}}
	}
	return d
}

// calledOff: an attempt that was told to end has ended; it does not count.
func (s *state) calledOff(u *unit, now time.Duration) decision {
	e := s.change(u, now, u.state, u.reason)
	e.Ordered = u.order
	switch {
	case u.order == "retry":
		e.State, e.Reason = report.Waiting, s.orderText(u)
	case u.state == report.Running:
		e.State, e.Reason = report.Waiting, "called off"
	}
	return one(e)
}

// decideUp watches over a unit that is done.
func (s *state) decideUp(u *unit, now time.Duration) (decision, bool) {
	n := u.disturbed()
	if n == nil {
		list := s.provide(u, now)
		return decision{events: list}, len(list) > 0
	}
	if u.u.OnLoss != plan.LossRecheck && u.u.OnLoss != plan.LossStop {
		return s.noteLoss(u, now)
	}
	reason := "what it stands on is another one now"
	if !n.met() {
		reason = "lost " + s.explain(n)
	}
	var d decision
	if u.u.OnLoss == plan.LossStop {
		d.events = s.withdraw(u, now, u.u.ID+" is lost: "+reason)
	}
	d.events = append(d.events, s.change(u, now, report.Lost, reason))
	return d, true
}

// noteLoss reports a lost need, and its return, of a unit that stays; and
// provides what a unit that stays provides.
func (s *state) noteLoss(u *unit, now time.Duration) (decision, bool) {
	e := report.Event{Kind: report.NeedLost, At: now, Unit: u.u.ID, Presence: report.Gone}
	for _, n := range u.requires {
		if !n.met() {
			if u.noted {
				list := s.provide(u, now)
				return decision{events: list}, len(list) > 0
			}
			e.Resource, e.Reason = string(n.edges[0].r.name), s.explain(n)
			return one(e), true
		}
	}
	e.Presence, e.Reason = report.Present, "everything it needs is there again"
	if !u.noted {
		e.Reason = "what it stands on is another one now"
	}
	return one(e), true
}
