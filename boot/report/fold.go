package report

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// maxFacts bounds how many lines of the kernel and of init a report keeps.
const maxFacts = 100

// maxNotices bounds how many different notices are kept: the first ones.
const maxNotices = 100

// maxComings bounds how many times of coming are kept of a resource.
const maxComings = 64

// Fold makes one report of the events of a boot, by however many
// orchestrators. Equal events give equal reports.
func Fold(events []Event) *Report {
	f := NewFolder()
	for _, e := range events {
		f.Add(e)
	}
	return f.Report()
}

// Folder folds events as they come.
type Folder struct {
	r         Report
	units     []*unitFold
	byID      map[string]*unitFold
	templates []*Template
	resources map[string]*Resource
	waiters   map[string]map[*unitFold]bool // by resource: units that wait for it
	provided  map[string]bool               // resources that units provide
	halted    bool
	down      bool
}

// NewFolder returns a folder that has seen nothing.
func NewFolder() *Folder {
	return &Folder{
		byID:      map[string]*unitFold{},
		resources: map[string]*Resource{},
		waiters:   map[string]map[*unitFold]bool{},
		provided:  map[string]bool{},
	}
}

// Add folds one event in. Kinds that it does not know change nothing.
func (f *Folder) Add(e Event) {
	e = sane(e)
	f.r.Now = max(f.r.Now, e.At)
	switch e.Kind {
	case Notice:
		if !slices.Contains(f.r.Notices, e.Text) && len(f.r.Notices) < maxNotices {
			f.r.Notices = append(f.r.Notices, e.Text)
		}
	case GenerationStarted:
		f.generation(e)
	case ClockStepped:
		if e.Wall != nil {
			f.r.Wall = append(f.r.Wall, WallAnchor{e.At, *e.Wall})
		}
	case PlanLoaded:
		f.plan(e)
	case UnitDeclared:
		f.declare(e)
	case TemplateChanged:
		f.template(e)
	case ResourceChanged:
		f.resource(e)
	case Halted:
		f.halted, f.r.HaltedBy, f.r.HaltReason = true, e.Unit, e.Reason
	case Resumed:
		f.halted, f.r.HaltedBy, f.r.HaltReason = false, "", ""
	case Settled:
		f.r.Settled = cmp.Or(f.r.Settled, e.At)
	case ReadyReached:
		f.r.Ready = cmp.Or(f.r.Ready, e.At)
	case ShutdownStep:
		f.down = true
		if e.Step != nil {
			f.r.Down = append(f.r.Down, DownStep{e.At, *e.Step})
		}
	case KernelFact, InitFact:
		f.r.Facts = append(f.r.Facts, Fact{e.At, e.Kind, e.Text, e.Object})
		if len(f.r.Facts) > maxFacts {
			f.r.Facts = f.r.Facts[1:]
		}
	default:
		if u := f.byID[e.Unit]; u != nil {
			f.unit(u, e)
		}
	}
}

// maxTime bounds the times of a file, so that sums of a few do not overflow:
// 70 years.
const maxTime = 70 * 365 * 24 * time.Hour

// sane is the event with times that can be. What writes garbage into the file
// gets a report of garbage, but a report.
func sane(e Event) Event {
	clamp := func(t *time.Duration) { *t = min(max(*t, 0), maxTime) }
	clamp(&e.At)
	clamp(&e.RetryAt)
	if e.Plan != nil {
		p := *e.Plan
		clamp(&p.Budget)
		clamp(&p.Origin)
		e.Plan = &p
	}
	e.Waits = slices.Clone(e.Waits)
	for i := range e.Waits {
		clamp(&e.Waits[i].Since)
	}
	return e
}

// generation: another orchestrator began. What the one before it was doing
// ended with it, at some time until now.
func (f *Folder) generation(e Event) {
	f.r.Generations = append(f.r.Generations, Generation{e.Gen, e.At, e.Text, e.Reason, e.PID})
	f.halted, f.r.HaltedBy, f.r.HaltReason = false, "", ""
	for _, u := range f.units {
		f.stopWaiting(u, e.At)
		u.close(e.At)
	}
}

func (f *Folder) plan(e Event) {
	if e.Plan == nil {
		return
	}
	p := e.Plan
	f.r.Name, f.r.Plan, f.r.Budget = p.Name, p.Digest, p.Budget
	if f.r.Origin == 0 {
		f.r.Origin = p.Origin
	}
	for _, u := range f.units {
		u.stale = true
	}
	f.templates = nil
}

func (f *Folder) template(e Event) {
	var t *Template
	for _, x := range f.templates {
		if x.ID == e.Unit {
			t = x
		}
	}
	if t == nil {
		t = &Template{ID: e.Unit, State: Waiting}
		f.templates = append(f.templates, t)
	}
	if e.Info != nil {
		t.Kind, t.Stage = e.Info.Kind, e.Info.Stage
	}
	t.Have, t.Want = e.Have, e.Want
	if e.State != "" {
		t.State, t.Reason = e.State, e.Reason
	}
	if e.Error != nil {
		t.Error = e.Error
	}
}

func (f *Folder) resource(e Event) {
	r := f.resources[e.Resource]
	if r == nil {
		r = &Resource{Name: e.Resource}
		f.resources[e.Resource] = r
	}
	if r.Presence != e.Presence || r.Generation != e.Generation && e.Presence == Present {
		r.Since = e.At
		if e.Presence == Present {
			if r.present = append(r.present, e.At); len(r.present) > maxComings {
				r.present = slices.Delete(r.present, 1, 2)
			}
		}
	}
	r.Presence, r.Reason, r.Attrs = e.Presence, e.Reason, e.Attrs
	if e.Presence == Present {
		r.Generation = e.Generation
	}
	for u := range f.waiters[e.Resource] { // each by itself: the order is of no matter
		u.reasonChanged(f, e.At)
	}
}

// Report is the report of what was added so far; it shares nothing with the
// folder, which may go on.
func (f *Folder) Report() *Report {
	r := f.r
	r.Schema = Schema
	r.Notices, r.Generations, r.Wall = slices.Clone(r.Notices), slices.Clone(r.Generations), slices.Clone(r.Wall)
	r.Down, r.Facts = slices.Clone(r.Down), slices.Clone(r.Facts)
	r.State = f.state()
	r.Units = []Unit{}
	for _, u := range f.units {
		if u.stale && !u.wasUp {
			continue // no longer in the file, and never came up
		}
		r.Units = append(r.Units, u.unit(r.Now))
	}
	for _, t := range f.templates {
		r.Templates = append(r.Templates, *t)
	}
	for _, name := range slices.Sorted(maps.Keys(f.resources)) {
		x := *f.resources[name]
		x.present = slices.Clone(x.present)
		r.Resources = append(r.Resources, x)
	}
	r.Critical = critical(&r)
	on := map[string]bool{}
	for _, l := range r.Critical {
		on[l.Unit] = true
	}
	for i := range r.Units {
		r.Units[i].Critical = on[r.Units[i].ID]
	}
	return &r
}

// state is how far the boot is.
func (f *Folder) state() BootState {
	switch {
	case f.down:
		return GoingDown
	case f.halted:
		return IsHalted
	case f.r.Ready > 0:
		return IsReady
	case f.r.Settled > 0:
		return IsSettled
	}
	return Booting
}

// stopWaiting ends a unit's wait for needs.
func (f *Folder) stopWaiting(u *unitFold, at time.Duration) {
	for _, w := range u.u.Waits {
		for _, name := range w.AnyOf {
			delete(f.waiters[name], u)
		}
	}
	u.u.Waits, u.u.Unmet = nil, 0
}
