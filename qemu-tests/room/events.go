package room

import (
	"testing"

	breport "initd/boot/report"
	"initd/qemu-tests/vm"
)

// Unit matches the event by which a unit comes into a state.
func Unit(id, state string) func(vm.Event) bool { return vm.Is("unit", "unit", id, "state", state) }

// Told gives initd's own events of a boot so far, in their order.
func Told(t testing.TB, m *vm.VM) []breport.Event {
	t.Helper()
	var list []breport.Event
	for _, e := range m.Events() {
		if e.Field("seq") != "" {
			list = append(list, Decode(t, e))
		}
	}
	return list
}

// Decode reads one of initd's own events.
func Decode(t testing.TB, e vm.Event) breport.Event {
	t.Helper()
	var x breport.Event
	if err := e.Decode(&x); err != nil {
		t.Fatalf("%s: %v", e.Line, err)
	}
	return x
}

// NothingLeft checks that the way down said so.
func NothingLeft(t testing.TB, m *vm.VM) {
	t.Helper()
	last := ""
	for _, e := range m.Events() {
		if e.Name != "shutdown" {
			continue
		}
		var x breport.Event
		if err := e.Decode(&x); err != nil {
			t.Fatal(err)
		}
		if x.Step != nil && x.Step.Phase == "end" {
			last = x.Step.Reason
		}
		if x.Step != nil && x.Step.Action == "left" {
			t.Errorf("left behind: %s: %s", x.Step.Object, x.Step.Reason)
		}
	}
	if last == "" {
		t.Error("the way down did not come to its end")
	}
}
