package engine

import (
	"fmt"
	"hash/fnv"
	"math"
	"time"

	"initd/boot/plan"
	"initd/boot/report"
)

// decision is one step of the engine: events that are logged and applied in
// this order, and then what the shell does.
type decision struct {
	events []report.Event
	effect effect
}

// effect is work for the shell. The zero effect is none.
type effect struct {
	do    effectKind
	units []*unit
	by    time.Duration // deadline of the attempt; zero: none
}

type effectKind uint8

const (
	doNothing effectKind = iota
	doCheck
	doApply
	doBatch
	doChange
	doRollback
	doCancel
	doReboot
)

// next returns what is to be done now, one decision at a time: the caller
// logs, applies and carries it out before it asks again. It is a function of
// the applied events and of now; it changes nothing but caches.
func (s *state) next(now time.Duration) (decision, bool) {
	if !s.loaded || s.toCome > 0 {
		return decision{}, false
	}
	s.due(now)
	if d, ok := s.decideBoot(now); ok {
		return d, true
	}
	for len(s.dirtyTemplates) > 0 {
		t := s.dirtyTemplates[0]
		t.dirty = false
		s.dirtyTemplates = s.dirtyTemplates[1:]
		if d, ok := s.decideTemplate(t, now); ok {
			s.markTemplate(t)
			return d, true
		}
	}
	for {
		ix, ok := s.dirty.take()
		if !ok {
			break
		}
		if d, ok := s.decideUnit(s.units[ix], now); ok {
			s.dirty.add(ix)
			return d, true
		}
	}
	for len(s.dirtyBatches) > 0 {
		b := s.dirtyBatches[0]
		b.dirty = false
		s.dirtyBatches = s.dirtyBatches[1:]
		if d, ok := s.decideBatch(b, now); ok {
			s.markBatch(b)
			return d, true
		}
	}
	if d, ok := s.decideMissing(now); ok {
		return d, true
	}
	if !s.settled && s.open == 0 && (s.active == 0 || now >= s.origin+s.budget) {
		return one(report.Event{Kind: report.Settled, At: now}), true
	}
	return decision{}, false
}

func one(e report.Event) decision { return decision{events: []report.Event{e}} }

// decideBoot is what concerns the boot as a whole; it comes first, so that
// nothing starts after the failure that halts it.
func (s *state) decideBoot(now time.Duration) (decision, bool) {
	switch {
	case s.halting > 0 && !s.halted:
		for _, u := range s.units {
			if u.halting {
				return one(report.Event{Kind: report.Halted, At: now, Unit: u.u.ID, Reason: u.trouble()}), true
			}
		}
	case s.halting == 0 && s.halted:
		return one(report.Event{Kind: report.Resumed, At: now}), true
	case !s.budgetOver && !s.settled && s.open > 0 && now >= s.origin+s.budget:
		return one(report.Event{Kind: report.BudgetOver, At: now, Reason: "boot budget of " + short(s.budget) + " over"}), true
	}
	return decision{}, false
}

// trouble is why the unit is not up, in words.
func (u *unit) trouble() string {
	if u.err != nil {
		return u.err.Text
	}
	return u.reason
}

func (s *state) decideUnit(u *unit, now time.Duration) (decision, bool) {
	if u.order != "" {
		if d, ok := s.decideOrder(u, now); ok {
			return d, true
		}
	}
	switch u.phase {
	case busy:
		return s.decideBusy(u, now)
	case queued:
		if !u.roundOver && now >= u.roundBy {
			return s.giveUp(u, now, s.budgetText()), true
		}
		return decision{}, false
	case checked:
		return s.decideChecked(u, now), true
	case applied:
		return s.decideApplied(u, now), true
	case rolled:
		return s.fail(u, now, u.err), true
	}
	switch {
	case u.state == report.Skipped || u.state == report.Orphan || u.jammed:
		return decision{}, false
	case u.up():
		return s.decideUp(u, now)
	case u.state == report.Lost:
		if u.unmet > 0 {
			return decision{}, false
		}
		return one(s.change(u, now, report.Waiting, "what it stands on is back")), true
	case u.look && u.unmet > 0:
		return s.begin(u, now, report.Check, effect{do: doCheck, units: []*unit{u}}), true
	case u.unmet > 0 || s.held(u):
		return s.decideUnmet(u, now)
	}
	return s.decideStart(u, now)
}

// held tells that the milestone ready must wait although its needs are met:
// it is reached when every other unit is through its first round.
func (s *state) held(u *unit) bool {
	if u != s.ready {
		return false
	}
	if s.openUnits > 0 {
		return true
	}
	for _, t := range s.templates {
		if !t.roundOver {
			return true
		}
	}
	return false
}

// decideUnmet: the unit waits for needs.
func (s *state) decideUnmet(u *unit, now time.Duration) (decision, bool) {
	if !u.roundOver && !(u.u.Milestone && (s.openUnits > 0 || u == s.ready)) {
		if now >= u.roundBy {
			return s.giveUp(u, now, s.budgetText()+", still waiting for "+s.explainFirst(u)), true
		}
		if now >= u.waitBy {
			return s.giveUp(u, now, "waited "+short(time.Duration(u.u.Policy.Wait))+" for "+s.explainFirst(u)), true
		}
		for _, n := range u.requires {
			if !n.met() && s.hopeless(n) {
				return s.giveUp(u, now, "needs "+s.explain(n)), true
			}
		}
	}
	waits := s.waitsOf(u)
	if equalWaits(waits, u.waits) {
		return decision{}, false
	}
	return one(report.Event{Kind: report.UnitChanged, At: now, Unit: u.u.ID, Waits: waits, Unmet: u.unmet}), true
}

func (s *state) explainFirst(u *unit) string {
	for i := u.cursor; i < len(u.needs); i++ {
		if n := u.needs[i]; !n.met() {
			return s.explain(n)
		}
	}
	return "other units"
}

func (s *state) budgetText() string { return "boot budget of " + short(s.budget) + " over" }

// decideStart: the needs are met.
func (s *state) decideStart(u *unit, now time.Duration) (decision, bool) {
	if s.halted && !u.free && !u.asked && u.attempt == 0 && !u.ran {
		if !u.roundOver && now >= u.roundBy {
			return s.giveUp(u, now, s.budgetText()+"; the boot is halted"), true
		}
		if u.reason != haltedText && u.state == report.Waiting {
			return one(s.change(u, now, report.Waiting, haltedText)), true
		}
		return decision{}, false
	}
	if u.u.Milestone {
		d := one(s.change(u, now, report.Done, ""))
		kind := report.MilestoneReached
		if u == s.ready {
			kind = report.ReadyReached
		}
		d.events = append(d.events, report.Event{Kind: kind, At: now, Unit: u.u.ID})
		return d, true
	}
	if u.final || now < u.retryAt {
		if u.disturbed() == nil { // else what it needs is another one now
			if !u.roundOver && now >= u.roundBy {
				return s.giveUp(u, now, s.budgetText()+"; "+u.trouble()), true
			}
			return decision{}, false
		}
	}
	return s.begin(u, now, report.Check, effect{do: doCheck, units: []*unit{u}}), true
}

const haltedText = "the boot is halted"

// begin starts an action for one unit.
func (s *state) begin(u *unit, now time.Duration, op report.Op, f effect) decision {
	e := report.Event{Kind: report.AttemptStarted, At: now, Unit: u.u.ID, Op: op, Attempt: u.attempt, Background: u.roundOver}
	if op == report.Check {
		e.Attempt++
	}
	if u.state == report.Waiting {
		e.State = report.Running
	}
	if !u.u.Uninterruptible {
		f.by = now + time.Duration(u.u.Policy.Deadline)
		e.By = f.by + s.rules.grace
	}
	return decision{events: []report.Event{e}, effect: f}
}

// decideBatch dispatches what is ready, once nothing of the batch is being
// checked any more or that takes too long.
func (s *state) decideBatch(b *batch, now time.Duration) (decision, bool) {
	if len(b.ready) == 0 || b.checking > 0 && now < b.since+s.rules.batchHold {
		return decision{}, false
	}
	d := decision{effect: effect{do: doBatch}}
	forever := false
	for _, u := range b.ready {
		one := s.begin(u, now, report.Apply, effect{})
		if u.providing {
			d.events = append(d.events, s.withdraw(u, now, "it is not there any more")...)
		}
		d.events = append(d.events, one.events...)
		d.effect.units = append(d.effect.units, u)
		d.effect.by = max(d.effect.by, one.effect.by)
		forever = forever || one.effect.by == 0
	}
	if forever {
		d.effect.by = 0
	}
	for i := range d.events {
		if e := &d.events[i]; e.Kind == report.AttemptStarted {
			e.By = 0
			if d.effect.by > 0 {
				e.By = d.effect.by + s.rules.grace
			}
		}
	}
	return d, true
}

// change is the event that puts a unit into a state.
func (s *state) change(u *unit, now time.Duration, to report.State, reason string) report.Event {
	return report.Event{Kind: report.UnitChanged, At: now, Unit: u.u.ID, State: to, Reason: reason}
}

// provide makes the resources of a unit that is up present; what was gone in
// between is a new generation.
func (s *state) provide(u *unit, now time.Duration) []report.Event {
	var list []report.Event
	for _, r := range u.provides {
		if r.present || r.name.World() && r.known { // the world knows better
			continue
		}
		list = append(list, report.Event{
			Kind: report.ResourceChanged, At: now, Resource: string(r.name), Presence: report.Present, Generation: r.gen + 1,
		})
	}
	return list
}

// withdraw makes the unit's resources lost.
func (s *state) withdraw(u *unit, now time.Duration, reason string) []report.Event {
	var list []report.Event
	for _, r := range u.provides {
		if r.present {
			list = append(list, report.Event{
				Kind: report.ResourceChanged, At: now, Resource: string(r.name), Presence: report.Gone, Reason: reason,
			})
		}
	}
	return list
}

// delay is the pause after the n-th failed attempt. The jitter is a function
// of the seed, so that a replay decides the same; units of one batch share it.
func (s *state) delay(u *unit, n int) time.Duration {
	r := u.u.Policy.Retry
	d := float64(r.Initial)
	if r.Factor > 1 {
		d *= math.Pow(r.Factor, float64(max(n-1, 0)))
	}
	if r.Max > 0 {
		d = min(d, float64(r.Max))
	}
	who := u.u.ID
	if u.batch != nil {
		who = u.batch.key.kind + "\x00" + u.batch.key.batch
	}
	h := fnv.New64a()
	fmt.Fprintf(h, "%d\x00%s\x00%d", s.rules.seed, who, n)
	// FNV's low bits mix best; 53 of them fill a float64 in [0,1).
	x := float64(h.Sum64()&(1<<53-1)) / (1 << 53)
	d *= 1 + r.Jitter*(2*x-1)
	return max(time.Duration(d), time.Millisecond)
}

// retryAt is when the attempt after the n-th is due. Units of a batch that
// failed together try again together.
func (s *state) retryAt(u *unit, now time.Duration, n int) time.Duration {
	d := s.delay(u, n)
	at := now + d
	if b := u.batch; b != nil && b.retryAt > now && b.retryAt > at-d/4 && b.retryAt < at+d/4 {
		at = b.retryAt
	}
	return at
}

func retryable(u *unit, err *report.Error) bool {
	return !err.Final && u.u.Policy.Retry.Initial > 0
}

// firstRound is how many attempts the first round has.
func firstRound(p plan.Policy) int { return max(p.Retry.Attempts, 1) }
