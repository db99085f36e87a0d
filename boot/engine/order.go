package engine

import (
	"time"

	"initd/boot/report"
)

// decideOrder carries out an operator's order; false if the attempt that runs
// has to end first.
func (s *state) decideOrder(u *unit, now time.Duration) (decision, bool) {
	if u.phase == busy {
		return s.orderBusy(u, now)
	}
	if u.phase == checked || u.phase == applied || u.phase == rolled {
		return decision{}, false // it ends by itself, now
	}
	e := s.change(u, now, u.state, u.reason)
	e.Ordered = u.order
	var d decision // resources first: a unit that is skipped provides nothing
	switch u.order {
	case "skip":
		if !u.up() {
			e.State, e.Reason = report.Skipped, s.orderText(u)
		}
	case "stop":
		e.State, e.Reason = report.Skipped, s.orderText(u)
		d.events = s.withdraw(u, now, u.u.ID+" was stopped")
	case "lose":
		if u.up() {
			e.State, e.Reason = report.Lost, s.orderText(u)
			d.events = s.withdraw(u, now, u.why)
		}
	case "unstuck":
		if u.state == report.Stuck {
			e.State, e.Reason = report.Waiting, s.orderText(u)
		}
	default:
		e.State, e.Reason = report.Waiting, s.orderText(u)
	}
	d.events = append(d.events, e)
	return d, true
}

// orderBusy: what can be ended is told to end; of a batch, that unit's part alone.
func (s *state) orderBusy(u *unit, now time.Duration) (decision, bool) {
	var d decision
	give := u.order == "skip" || u.order == "stop"
	if give && u.state != report.Skipped && !u.up() {
		d.events = append(d.events, s.change(u, now, report.Skipped, s.orderText(u)))
	}
	if (give || u.order == "retry") && !u.cancelled && !u.u.Uninterruptible && u.op != report.Rollback {
		d.events = append(d.events, report.Event{Kind: report.AttemptCancelled, At: now, Unit: u.u.ID, Reason: s.orderText(u)})
		d.effect = effect{do: doCancel, units: []*unit{u}}
	}
	if u.order == "lose" || u.order == "unstuck" {
		e := s.change(u, now, u.state, u.reason)
		e.Ordered = u.order
		d.events = append(d.events, e)
	}
	return d, len(d.events) > 0
}

func (s *state) orderText(u *unit) string {
	if u.why != "" {
		return u.why
	}
	switch u.order {
	case "skip":
		return "skipped by an operator"
	case "stop":
		return "stopped by an operator"
	case "unstuck":
		return "the process that was stuck is gone"
	}
	return "tried again by an operator's order"
}
