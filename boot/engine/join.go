package engine

import (
	"encoding/json"
	"slices"
	"time"

	"initd/boot/plan"
	"initd/boot/report"
)

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
	s.impatient(u, e.At)
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
