package scenario

import (
	"regexp"
	"testing"

	breport "initd/boot/report"
	"initd/qemu-tests/vm"
)

// says matches the progress of a unit by what it waits for or does, as a
// regular expression.
func says(id, pattern string) func(vm.Event) bool {
	re := regexp.MustCompile(pattern)
	return func(e vm.Event) bool {
		return vm.Is("progress", "unit", id)(e) && (re.MatchString(e.Field("waiting")) || re.MatchString(e.Field("text")))
	}
}

// order checks that units came up in this order, each once.
func order(t *testing.T, events []breport.Event, ids ...string) {
	t.Helper()
	var got []string
	for _, e := range events {
		for _, id := range ids {
			if e.Kind == breport.UnitChanged && e.Unit == id && e.State.OK() {
				got = append(got, id)
			}
		}
	}
	for i, id := range ids {
		if i >= len(got) || got[i] != id || len(got) != len(ids) {
			t.Errorf("units came up in the order %v, want %v", got, ids)
			return
		}
	}
}

// attempts counts how often a unit was applied.
func attempts(events []breport.Event, id string) int {
	n := 0
	for _, e := range events {
		if e.Kind == breport.AttemptStarted && e.Unit == id && e.Op == breport.Apply {
			n++
		}
	}
	return n
}
