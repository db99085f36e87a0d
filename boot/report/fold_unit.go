package report

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// maxSpans bounds the spans that a report keeps of a unit; a unit that tries
// for days keeps the first ones and the last.
const maxSpans = 64

// maxReasons bounds how many different waits are kept of a unit.
const maxReasons = 40

// unitFold folds what happens to one unit.
type unitFold struct {
	u      Unit
	open   *Span           // the stretch that lasts
	waits  map[Waited]bool // open waits, by For and Reason; Time is when they began
	sums   map[Waited]time.Duration
	failed *Error // what it is not up for: nil while an attempt runs, and while needs are unmet
	stale  bool   // a later plan does not have it
	wasUp  bool
}

func (f *Folder) declare(e Event) {
	u := f.byID[e.Unit]
	if u == nil {
		u = &unitFold{waits: map[Waited]bool{}, sums: map[Waited]time.Duration{}}
		u.u.ID = e.Unit
		f.byID[e.Unit] = u
		f.units = append(f.units, u)
	}
	u.stale = false
	if i := e.Info; i != nil {
		u.u.Kind, u.u.Stage, u.u.Batch, u.u.Milestone, u.u.Template, u.u.File = i.Kind, i.Stage, i.Batch, i.Milestone, i.Template, i.Origin
		u.u.Needs, u.u.Provides = i.Needs, i.Provides
		for _, name := range i.Provides {
			f.provided[name] = true
		}
	}
	u.u.State, u.u.Reason, u.u.Since = Waiting, "", e.At
	u.u.Doing, u.u.WaitingFor, u.u.RetryAt, u.u.Lost, u.u.PID, u.u.Wchan = "", "", 0, "", 0, ""
}

// unit folds an event about one unit.
func (f *Folder) unit(u *unitFold, e Event) {
	x := &u.u
	if e.State != "" {
		if e.State != x.State {
			x.Since = e.At
		}
		x.State = e.State
		if e.State.Settled() && x.Ended == 0 {
			x.Ended = e.At
		}
		u.wasUp = u.wasUp || e.State.OK()
	}
	switch e.Kind {
	case UnitChanged:
		f.changed(u, e)
	case UnitSnapshot:
		u.close(e.At) // what went on before it is not in the file
		f.changed(u, e)
		x.Attempts = max(x.Attempts, e.Attempt)
	case AttemptStarted:
		f.started(u, e)
	case AttemptEnded:
		f.ended(u, e)
	case Progressed:
		f.progressed(u, e)
	case NeedLost:
		x.Lost = ""
		if e.Presence != Present {
			x.Lost = e.Reason
		}
	}
	switch {
	case e.Error != nil:
		u.failed = e.Error
	case e.Kind == AttemptStarted || e.Kind == UnitChanged && len(e.Waits) > 0:
		u.failed = nil
	}
	x.Next = f.next(x, u.failed)
}

func (f *Folder) changed(u *unitFold, e Event) {
	x := &u.u
	running := u.open != nil && (u.open.Kind == SpanWork || u.open.Kind == SpanIdle)
	f.stopWaiting(u, e.At)
	if !running {
		u.close(e.At)
	}
	if e.State != "" {
		x.Reason, x.RetryAt = e.Reason, e.RetryAt
		x.PID, x.Wchan = e.PID, e.Wchan
	}
	if e.Error != nil {
		x.LastError, x.ErrorAt = e.Error, e.At
		x.Object, x.Server = cmp.Or(e.Error.Object, x.Object), cmp.Or(e.Error.Server, x.Server)
	}
	if e.State.OK() {
		x.Doing, x.WaitingFor = "", ""
	}
	if running || x.State.OK() || x.State == Skipped || x.State == Stuck {
		return
	}
	switch {
	case len(e.Waits) > 0:
		x.Waits, x.Unmet = e.Waits, e.Unmet
		for _, w := range e.Waits {
			for _, name := range w.AnyOf {
				if f.waiters[name] == nil {
					f.waiters[name] = map[*unitFold]bool{}
				}
				f.waiters[name][u] = true
			}
		}
		u.openNeed(f, e.At)
	case e.RetryAt > 0:
		reason := e.Reason
		if e.Error != nil {
			reason = e.Error.Text
		}
		u.begin(Span{Kind: SpanRetry, From: e.At, Reason: reason})
		u.wait(Waited{Reason: "next attempt after: " + reason}, e.At)
	case x.State == Waiting && x.Reason != "":
		u.begin(Span{Kind: SpanNeed, From: e.At, Reason: x.Reason})
		u.wait(Waited{Reason: x.Reason}, e.At)
	}
}

func (f *Folder) started(u *unitFold, e Event) {
	x := &u.u
	f.stopWaiting(u, e.At)
	if u.open != nil && (u.open.Kind == SpanWork || u.open.Kind == SpanBatch && e.At == u.open.From) {
		u.open.Kind = SpanWork // from one call into the next
	} else {
		u.close(e.At)
		u.begin(Span{Kind: SpanWork, From: e.At})
	}
	x.Reason, x.RetryAt, x.WaitingFor, x.Doing = "", 0, "", ""
	if e.Op == Check {
		x.Attempts++
		x.Started = cmp.Or(x.Started, e.At)
	}
}

func (f *Folder) ended(u *unitFold, e Event) {
	x := &u.u
	x.Object, x.Server = cmp.Or(e.Object, x.Object), cmp.Or(e.Server, x.Server)
	if e.Error != nil {
		x.LastError, x.ErrorAt = e.Error, e.At
	}
	if e.Op == Check && e.Error == nil && (e.Answer == "same" || e.Answer == "follows") {
		x.Attempts-- // nothing was to be tried
	}
	u.close(e.At)
	if e.Op == Check && e.Error == nil && (e.Answer == "absent" || e.Answer == "partial") {
		u.begin(Span{Kind: SpanBatch, From: e.At})
	}
}

func (f *Folder) progressed(u *unitFold, e Event) {
	x := &u.u
	x.Doing, x.WaitingFor = e.Text, e.Waiting
	x.Object, x.Server = cmp.Or(e.Object, x.Object), cmp.Or(e.Server, x.Server)
	if u.open == nil || u.open.Kind != SpanWork && u.open.Kind != SpanIdle || u.open.Reason == e.Waiting {
		return
	}
	u.close(e.At)
	if e.Waiting == "" {
		u.begin(Span{Kind: SpanWork, From: e.At})
		return
	}
	u.begin(Span{Kind: SpanIdle, From: e.At, Reason: e.Waiting})
	u.wait(Waited{Reason: e.Waiting}, e.At)
}

// openNeed begins a stretch of waiting for the unit's needs.
func (u *unitFold) openNeed(f *Folder, at time.Duration) {
	first := u.u.Waits[0]
	for _, w := range u.u.Waits { // what the world has a reason for says more than the order of the plan
		if f.reason(w) != "" {
			first = w
			break
		}
	}
	u.begin(Span{Kind: SpanNeed, From: at, For: strings.Join(first.AnyOf, " or "), Reason: f.reason(first)})
	for _, w := range u.u.Waits {
		u.wait(Waited{For: strings.Join(w.AnyOf, " or "), Reason: f.reason(w)}, at)
	}
}

// reasonChanged: the world says something else of what the unit waits for.
func (u *unitFold) reasonChanged(f *Folder, at time.Duration) {
	if u.open == nil || u.open.Kind != SpanNeed || len(u.u.Waits) == 0 {
		return
	}
	u.close(at)
	u.openNeed(f, at)
}

// reason is why a need is not met: the engine's word, else the world's.
func (f *Folder) reason(w Wait) string {
	if w.Reason != "" {
		return w.Reason
	}
	var list, names []string
	for _, name := range w.AnyOf {
		r := f.resources[name]
		if r == nil || r.Reason == "" || r.Presence == Present {
			continue
		}
		list = append(list, r.Reason)
		names = append(names, Lacking(name, r.Reason))
	}
	if same := slices.Compact(slices.Clone(list)); len(same) < 2 {
		return strings.Join(same, "")
	}
	return strings.Join(names, "; ")
}

// wait opens an account of waiting.
func (u *unitFold) wait(w Waited, at time.Duration) {
	w.Time = at
	u.waits[w] = true
}

func (u *unitFold) begin(s Span) { u.open = &s }

// close ends the stretch that lasts, and its accounts.
func (u *unitFold) close(at time.Duration) {
	for w := range u.waits {
		key := Waited{For: w.For, Reason: w.Reason}
		if _, known := u.sums[key]; !known && len(u.sums) >= maxReasons {
			key = Waited{Reason: "other reasons"}
		}
		u.sums[key] += at - w.Time
	}
	clear(u.waits)
	if u.open == nil {
		return
	}
	s := *u.open
	u.open = nil
	s.To = at
	u.account(&u.u, s)
	if s.To == s.From {
		return
	}
	if n := len(u.u.Spans); n > 0 {
		if last := &u.u.Spans[n-1]; last.Kind == s.Kind && last.For == s.For && last.Reason == s.Reason && last.To == s.From {
			last.To = s.To
			return
		}
		if n == maxSpans {
			u.u.Spans = slices.Delete(u.u.Spans, maxSpans/2, maxSpans/2+1)
		}
	}
	u.u.Spans = append(u.u.Spans, s)
}

// account adds a stretch to the sums.
func (u *unitFold) account(x *Unit, s Span) {
	d := s.To - s.From
	switch s.Kind {
	case SpanWork:
		x.Took += d
	case SpanIdle:
		x.Took += d
		x.Idle += d
	default:
		x.Waited += d
	}
}

// unit is the unit as of now, sharing nothing.
func (u *unitFold) unit(now time.Duration) Unit {
	x := u.u
	x.Spans = slices.Clone(x.Spans)
	sums := make(map[Waited]time.Duration, len(u.sums))
	for k, d := range u.sums {
		sums[k] += d
	}
	for w := range u.waits {
		sums[Waited{For: w.For, Reason: w.Reason}] += now - w.Time
	}
	if u.open != nil {
		s := *u.open
		s.To = now
		u.account(&x, s)
		s.To = 0
		x.Spans = append(x.Spans, s)
	}
	x.WaitedFor = nil
	for k, d := range sums {
		if d > 0 {
			x.WaitedFor = append(x.WaitedFor, Waited{k.For, k.Reason, d})
		}
	}
	slices.SortFunc(x.WaitedFor, func(a, b Waited) int {
		return cmp.Or(cmp.Compare(b.Time, a.Time), cmp.Compare(a.For, b.For), cmp.Compare(a.Reason, b.Reason))
	})
	if u.stale {
		x.State, x.Reason = Orphan, "no longer in the file"
	}
	return x
}
