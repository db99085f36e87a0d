package engine

import (
	"time"

	"initd/boot/plan"
)

// impatient notes the unit whose being up ends the waiting for devices (plan.Unit.Patience).
func (s *state) impatient(u *unit, now time.Duration) {
	if s.last == nil && u.u.Patience > 0 {
		s.last = u
	}
	s.came(now)
}

// came notes that a device came, or a unit that may wait for one.
func (s *state) came(now time.Duration) {
	s.arrived = now
	if s.last != nil {
		s.remind(timer{at: s.waitedEnough()})
	}
}

func (s *state) waitedEnough() time.Duration { return s.arrived + time.Duration(s.last.u.Patience) }

// decideMissing ends the first round of a unit that waits for a device: once all else is through, nothing that is on its way
// can bring that device any more. Whoever says in his own policy how long it is to be waited for, or that the boot is not to
// go on without him, is waited for.
func (s *state) decideMissing(now time.Duration) (decision, bool) {
	if s.last == nil || !s.last.up() || s.settled || s.halted || s.openUnits == 0 || now < s.waitedEnough() {
		return decision{}, false
	}
	var first *unit
	for _, u := range s.units {
		if u.roundOver || u.exempt || u.u.Milestone {
			continue
		}
		lacks, only := s.lacksDevice(u)
		switch {
		case u.phase != idle || u.unmet == 0 || !only:
			return decision{}, false
		case !lacks:
			continue // it waits for another of these
		case u.u.Policy.Wait > 0 || u.u.Policy.OnFailure != plan.Degrade:
			return decision{}, false
		case first == nil:
			first = u
		}
	}
	if first == nil {
		return decision{}, false
	}
	return s.giveUp(first, now, "still waiting for "+s.explainFirst(first)+"; all else is done, and no device has come for "+short(time.Duration(s.last.u.Patience))), true
}

// lacksDevice tells whether the unit waits for a device that is not there, and whether it waits for nothing else but units.
func (s *state) lacksDevice(u *unit) (lacks, only bool) {
	for _, n := range u.requires {
		if n.met() {
			continue
		}
		for _, e := range n.edges {
			switch {
			case e.ok || e.r.present || e.r.provider != nil:
			case e.r.name.Class() == plan.ClassBlock:
				lacks = true
			default:
				return lacks, false
			}
		}
	}
	return lacks, true
}
