package engine

import (
	"encoding/json"
	"fmt"
	"time"

	"initd/boot/plan"
	"initd/boot/report"
)

// templateChanged declares a template of the plan, or says how it stands.
func (s *state) templateChanged(e report.Event) {
	var t *template
	for _, x := range s.templates {
		if x.t.ID == e.Unit {
			t = x
		}
	}
	if t == nil {
		for i := range s.plan.Templates {
			if pt := &s.plan.Templates[i]; pt.ID == e.Unit {
				t = &template{ix: len(s.templates), t: pt, state: report.Waiting, failed: map[plan.Resource]string{}}
			}
		}
		if t == nil {
			return
		}
		t.by = s.origin + s.budget
		if w := time.Duration(t.t.Expect.Within); w > 0 {
			t.by = min(t.by, s.origin+w)
		}
		s.templates = append(s.templates, t)
		s.remind(timer{at: t.by, t: t})
		s.open++
	}
	if e.Error != nil {
		t.failed[plan.Resource(e.Resource)] = e.Error.Text
	}
	if e.State != "" {
		t.state = e.State
		if e.State.Settled() && !t.roundOver {
			t.roundOver = true
			s.open--
			s.mark(s.ready)
		}
	}
	s.markTemplate(t)
}

// matchTemplates hands a resource that is there to the templates of its class.
func (s *state) matchTemplates(r *resource) {
	for _, t := range s.templates {
		if t.t.Class == r.name.Class() {
			t.pending = append(t.pending, plan.Fact{Resource: r.name, Present: true, Generation: r.gen, Attrs: r.attrs})
			s.markTemplate(t)
		}
	}
}

// decideTemplate turns facts into instances and says when the template is
// whole, or late.
func (s *state) decideTemplate(t *template, now time.Duration) (decision, bool) {
	for len(t.pending) > 0 {
		f := t.pending[0]
		t.pending = t.pending[1:] // what gives no event is the same when asked again
		if d, ok := s.instances(t, f, now); ok {
			return d, true
		}
	}
	if t.state == report.Done {
		return decision{}, false
	}
	want := t.t.Expect.Count
	e := report.Event{Kind: report.TemplateChanged, At: now, Unit: t.t.ID, Have: t.have, Want: want}
	switch {
	case t.have >= want:
		e.State = report.Done
	case !t.roundOver && now >= t.by:
		e.State = report.Degraded
		e.Reason = fmt.Sprintf("%d of %d there after %s", t.have, want, short(now-s.origin))
	default:
		return decision{}, false
	}
	return decision{events: []report.Event{e}}, true
}

func (s *state) instances(t *template, f plan.Fact, now time.Duration) (decision, bool) {
	units, err := s.rules.expand(t.t, f)
	if err != nil {
		if t.failed[f.Resource] == err.Error() {
			return decision{}, false
		}
		return decision{events: []report.Event{{
			Kind: report.TemplateChanged, At: now, Unit: t.t.ID, Resource: string(f.Resource),
			Have: t.have, Want: t.t.Expect.Count, Error: &report.Error{Text: err.Error()},
		}}}, true
	}
	var d decision
	seen := map[string]bool{}
	for i := range units {
		u := &units[i]
		if s.byID[u.ID] != nil || seen[u.ID] {
			continue
		}
		seen[u.ID] = true
		u.Template = t.t.ID
		if u.Kind == "" {
			u.Kind = t.t.Kind
		}
		if u.Stage == "" {
			u.Stage = t.t.Stage
		}
		plan.Defaults(u)
		b, err := json.Marshal(u)
		if err != nil { // a spec that is no JSON
			d.events = append(d.events, report.Event{Kind: report.Notice, At: now, Text: fmt.Sprintf("%s: instance %s left out: %v", t.t.ID, u.ID, err)})
			continue
		}
		d.events = append(d.events, report.Event{Kind: report.UnitDeclared, At: now, Unit: u.ID, Info: info(u), Instance: b})
	}
	return d, len(d.events) > 0
}

// info is a unit in short, for the report.
func info(u *plan.Unit) *report.UnitInfo {
	i := &report.UnitInfo{
		Kind: u.Kind, Stage: string(u.Stage), Batch: u.Batch, Milestone: u.Milestone,
		OnFailure: string(u.Policy.OnFailure), Template: u.Template, Origin: u.Origin,
	}
	for _, n := range u.Needs {
		rn := report.Need{After: n.Mode == plan.After}
		if n.Min > 1 {
			rn.Min = n.Min
		}
		for _, r := range n.AnyOf {
			rn.AnyOf = append(rn.AnyOf, string(r))
		}
		i.Needs = append(i.Needs, rn)
	}
	for _, r := range u.Provides {
		i.Provides = append(i.Provides, string(r))
	}
	return i
}

// short is a duration for people: "3m", "1.5s".
func short(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		d = d.Round(time.Second)
	case d >= time.Second:
		d = d.Round(100 * time.Millisecond)
	default:
		d = d.Round(time.Millisecond)
	}
	if d >= time.Minute && d%time.Minute == 0 {
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return d.String()
}
