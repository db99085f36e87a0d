package step

import (
	"maps"

	"initd/boot/plan"
)

// tracker posts what has changed of the resources that somebody asked for.
type tracker struct {
	post  func([]plan.Fact)
	now   func(plan.Resource) plan.Fact
	known map[plan.Resource]plan.Fact
}

// add begins to track resources; they are posted at the next update.
func (t *tracker) add(list []plan.Resource) {
	for _, r := range list {
		if _, ok := t.known[r]; !ok {
			t.known[r] = plan.Fact{}
		}
	}
}

// update posts every fact that differs from what was posted last.
func (t *tracker) update() {
	var changed []plan.Fact
	for r, old := range t.known {
		f := t.now(r)
		if f.Present == old.Present && f.Generation == old.Generation && f.Reason == old.Reason && old.Resource != "" && maps.Equal(f.Attrs, old.Attrs) {
			continue
		}
		t.known[r] = f
		changed = append(changed, f)
	}
	if len(changed) > 0 {
		t.post(changed)
	}
}

// satisfied: something was asked for, and all of it is present.
func (t *tracker) satisfied() bool {
	for _, f := range t.known {
		if !f.Present {
			return false
		}
	}
	return len(t.known) > 0
}
