package engine

import (
	"maps"
	"slices"

	"initd/boot/report"
)

// Bounds of a log, in bytes. The beginning has the boot, which people ask
// about; the end has how things stand.
const (
	defaultKeepFirst = 8 << 20
	defaultTrimEvery = 16 << 20
	// lookEvery is how many events pass between two looks at the size.
	lookEvery = 1000
)

// trim lets a long log forget its middle.
func (r *run) trim() {
	t, ok := r.cfg.Log.(Trimmer)
	if !ok || r.logged < lookEvery {
		return
	}
	r.logged = 0
	size, err := t.Size()
	if err != nil || size < max(r.trimmed, r.cfg.keepFirst)+r.cfg.trimEvery {
		return
	}
	for _, e := range r.s.snapshot() {
		e.At, e.Gen = r.cfg.Clock(), r.cfg.Generation
		if t.Append(&e) != nil {
			return // no room for it: then nothing may be forgotten
		}
	}
	if err := t.Trim(max(r.trimmed, r.cfg.keepFirst), size); err != nil {
		r.commit(report.Event{Kind: report.Notice, At: r.cfg.Clock(), Text: err.Error()})
	}
	r.trimmed = size
}

// snapshot says how everything stands. It changes nothing: these events are
// for the report alone.
func (s *state) snapshot() []report.Event {
	var list []report.Event
	for _, name := range slices.Sorted(maps.Keys(s.resources)) {
		r := s.resources[name]
		if !r.known {
			continue
		}
		e := report.Event{Kind: report.ResourceChanged, Resource: string(name), Presence: report.Absent, Reason: r.reason}
		switch {
		case r.present:
			e.Presence, e.Generation, e.Attrs = report.Present, r.gen, r.attrs
		case r.ever:
			e.Presence = report.Gone
		}
		list = append(list, e)
	}
	for _, u := range s.units {
		list = append(list, report.Event{
			Kind: report.UnitSnapshot, Unit: u.u.ID, State: u.state, Reason: u.reason, Waits: u.waits, Unmet: u.unmet,
			Error: u.err, RetryAt: u.retryAt, Attempt: u.attempt, PID: u.pid, Wchan: u.wchan,
		})
	}
	return list
}
