package engine

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"initd/boot/plan"
	"initd/boot/report"
)

// resourceChanged: something is there, or gone.
func (s *state) resourceChanged(e report.Event) {
	r := s.resource(plan.Resource(e.Resource))
	was := r.dev
	if e.Presence == report.Present && !r.present && r.provider == nil && r.name.Class() == plan.ClassBlock {
		s.came(e.At)
	}
	r.known, r.reason, r.present = true, e.Reason, e.Presence == report.Present
	if r.provider != nil && !r.name.World() {
		r.provider.providing = r.present
		s.mark(r.provider)
	}
	r.dev = ""
	if r.present {
		r.ever, r.gen, r.attrs, r.dev = true, e.Generation, e.Attrs, e.Attrs["dev"]
	}
	if r.dev != was {
		s.moveDevice(r, was, e.At)
		if s.halted {
			s.setFree()
		}
	}
	s.reconnect(r, e.At)
	if r.present {
		s.matchTemplates(r)
	}
}

// moveDevice keeps the index of which names one device answers to.
func (s *state) moveDevice(r *resource, was string, now time.Duration) {
	if was != "" {
		s.devices[was] = slices.DeleteFunc(s.devices[was], func(o *resource) bool { return o == r })
		s.reclaimDevice(was, now)
	}
	if r.dev != "" {
		s.devices[r.dev] = append(s.devices[r.dev], r)
		s.reclaimDevice(r.dev, now)
	}
}

// reconnect counts a resource anew for everything that needs it.
func (s *state) reconnect(r *resource, now time.Duration) {
	for _, e := range r.edges {
		s.count(e, now)
		s.mark(e.n.u) // the generation or the reason may have changed
	}
}

// count decides whether the resource counts towards the need.
func (s *state) count(e *edge, now time.Duration) {
	ok := false
	if e.n.n.Mode == plan.After {
		ok = e.r.provider == nil || e.r.provider.roundOver
	} else {
		ok = e.r.present && s.claimant(e.r, e.n.u) == nil
	}
	if ok == e.ok {
		return
	}
	n := e.n
	was := n.met()
	e.ok = ok
	if ok {
		n.have++
	} else {
		n.have--
	}
	if met := n.met(); met != was {
		if met {
			n.u.unmet--
		} else {
			n.u.unmet++
			n.since = now
			n.u.cursor = min(n.u.cursor, n.ix)
		}
	}
	s.mark(n.u)
}

// claimant returns the unfinished unit that has r's device to itself, other
// than u. Two units that claim the same name share it; of two that claim one
// device by different names, one that needs none of its names goes first, for it
// makes something of the device (a map over a leg), and else the one that stands
// first in the plan.
func (s *state) claimant(r *resource, u *unit) *unit {
	same := s.names(r)
	mine := slices.ContainsFunc(same, func(o *resource) bool { return slices.Contains(o.claims, u) })
	for _, o := range same {
		for _, c := range o.claims {
			if c == u || c.up() || slices.Contains(o.claims, u) {
				continue
			}
			if !mine || !needsOneOf(c, same) || c.ix < u.ix {
				return c
			}
		}
	}
	return nil
}

// needsOneOf tells whether a unit needs one of these.
func needsOneOf(u *unit, list []*resource) bool {
	return slices.ContainsFunc(u.needs, func(n *need) bool {
		return slices.ContainsFunc(n.edges, func(e *edge) bool { return slices.Contains(list, e.r) })
	})
}

// names lists the resources that the device of r answers to; r at least.
func (s *state) names(r *resource) []*resource {
	if r.dev == "" {
		return []*resource{r}
	}
	return s.devices[r.dev]
}

// claimsChanged: a claimant is done, or no longer.
func (s *state) claimsChanged(u *unit, now time.Duration) {
	for _, r := range u.claims {
		s.reclaim(r, now)
	}
}

func (s *state) reclaim(r *resource, now time.Duration) {
	s.reconnect(r, now)
	if r.dev != "" {
		s.reclaimDevice(r.dev, now)
	}
}

func (s *state) reclaimDevice(dev string, now time.Duration) {
	for _, r := range s.devices[dev] {
		s.reconnect(r, now)
	}
}

// fact turns an observation into an event; false if it says nothing new.
func (s *state) fact(f plan.Fact) (report.Event, bool) {
	r := s.resource(f.Resource)
	e := report.Event{Kind: report.ResourceChanged, Resource: string(f.Resource), Reason: f.Reason, Presence: report.Absent}
	switch {
	case f.Present:
		e.Presence, e.Attrs, e.Reason = report.Present, f.Attrs, ""
		e.Generation = f.Generation
		if e.Generation == 0 {
			e.Generation = r.gen
			if !r.present {
				e.Generation++
			}
		}
		if r.present && r.gen == e.Generation && equalAttrs(r.attrs, f.Attrs) {
			return e, false
		}
	case r.ever:
		e.Presence = report.Gone
		fallthrough
	default:
		if r.known && !r.present && r.reason == f.Reason {
			return e, false
		}
	}
	return e, true
}

// interesting tells whether facts about the resource matter now.
func (s *state) interesting(name plan.Resource) bool {
	if r := s.resources[name]; r != nil && (len(r.edges) > 0 || len(r.claims) > 0) {
		return true
	}
	return slices.ContainsFunc(s.templates, func(t *template) bool { return t.t.Class == name.Class() })
}

func equalAttrs(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || w != v {
			return false
		}
	}
	return true
}

// Bounds of what is said about one wait.
const (
	maxWaits     = 4
	manyNeeds    = 16 // a unit with more (ready) names one at a time
	maxExplained = 3
	maxText      = 400 // bytes of an explanation: reasons quote reasons
)

// waitsOf lists the first needs that hold the unit back.
func (s *state) waitsOf(u *unit) []report.Wait {
	limit := maxWaits
	if len(u.needs) > manyNeeds {
		limit = 1
	}
	var list []report.Wait
	first := true
	for i := u.cursor; i < len(u.needs) && len(list) < limit; i++ {
		n := u.needs[i]
		if n.met() {
			continue
		}
		if first {
			u.cursor, first = i, false
		}
		w := report.Wait{After: n.n.Mode == plan.After, Since: n.since}
		if n.want-n.have > 1 && !w.After {
			w.Min = n.want - n.have
		}
		for _, e := range n.edges {
			if e.ok {
				continue
			}
			w.AnyOf = append(w.AnyOf, string(e.r.name))
			if e.r.present && w.Reason == "" {
				if c := s.claimant(e.r, u); c != nil {
					w.Reason = "taken by " + c.u.ID + ", which is not done"
				}
			}
		}
		list = append(list, w)
	}
	return list
}

func equalWaits(a, b []report.Wait) bool {
	return slices.EqualFunc(a, b, func(x, y report.Wait) bool {
		return x.Min == y.Min && x.After == y.After && x.Reason == y.Reason && slices.Equal(x.AnyOf, y.AnyOf)
	})
}

// explain says in words what keeps a need from being met.
func (s *state) explain(n *need) string {
	var parts []string
	missing := 0
	for _, e := range n.edges {
		if e.ok {
			continue
		}
		if missing++; len(parts) < maxExplained {
			parts = append(parts, s.explainResource(e.r, n.u))
		}
	}
	if more := missing - len(parts); more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	text := strings.Join(parts, "; ")
	if n.want > 1 && n.n.Mode != plan.After {
		text = fmt.Sprintf("%d of %d: %s", n.want, len(n.edges), text)
	}
	if len(text) > maxText {
		text = text[:maxText] + "..."
	}
	return text
}

func (s *state) explainResource(r *resource, u *unit) string {
	text := string(r.name)
	if r.present {
		if c := s.claimant(r, u); c != nil {
			return text + " is taken by " + c.u.ID + ", which is " + string(c.state)
		}
	}
	p := r.provider
	switch {
	case r.name.World() && r.reason != "":
		return report.Lacking(text, r.reason)
	case p != nil:
		of := ""
		if p.u.ID != text {
			of = " of " + p.u.ID
		}
		text += of + ", which is " + string(p.state)
		switch {
		case p.err != nil:
			text += ": " + p.err.Text
		case p.reason != "":
			text += ": " + p.reason
		}
	}
	return text
}

// hopeless tells that too few of the need's resources can still come before
// their providers' first rounds are over: those that gave up go on trying, but
// nobody waits for them.
func (s *state) hopeless(n *need) bool {
	if n.n.Mode == plan.After {
		return false
	}
	possible := n.have
	for _, e := range n.edges {
		if e.ok {
			continue
		}
		if e.r.present {
			if c := s.claimant(e.r, n.u); c != nil && !c.roundOver {
				possible++
			}
			continue
		}
		if p := e.r.provider; p == nil || !p.roundOver || p.up() {
			possible++
		}
	}
	return possible < n.want
}
