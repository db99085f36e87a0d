package fault

import (
	"fmt"
	"testing"

	"initd/qemu-tests/guest/tracer/order"
)

// Every call of the classes that an undisturbed boot makes, from the first
// driver to the last unmount, is killed at, before it and after it, in a boot
// of its own: the orchestrator with whoever makes the call, and, where that is a
// child, the child alone. It takes hours: `make soak` runs it.
//
// The number of a call is its place in the undisturbed boot; two boots do not
// make their calls in exactly the same order, so it says which call only
// roughly. All places are covered all the same. A boot that makes fewer calls
// of a class than the undisturbed one may end before the last: that one is told,
// and is not a failure.
func TestSoakKilledAtEachPoint(t *testing.T) {
	s := newScene(t)
	calm, want := s.boot()
	list := points(t, calm)
	t.Logf("an undisturbed boot makes %v", counts(list))
	for _, p := range list {
		for _, k := range killsAt(p) {
			t.Run(fmt.Sprintf("%s %d after=%v victim=%s", k.Class, k.N, k.After, k.Victim), func(t *testing.T) {
				s.of(t)
				got, happened := s.bootOnce(k)
				if !happened {
					t.Logf("this boot made fewer calls of the class %s", k.Class)
				}
				if diff := same(want, got); diff != "" {
					t.Errorf("what the machine is like (-undisturbed +killed):\n%s", diff)
				}
			})
		}
	}
}

// killsAt are the ways to kill at a call.
func killsAt(p order.Point) []order.Kill {
	var list []order.Kill
	for _, late := range []bool{false, true} {
		k := order.Kill{Generation: 1, Class: p.Class, N: p.N, After: late, Victim: order.All}
		list = append(list, k)
		if p.Of != "boot" {
			k.Victim = order.Caller
			list = append(list, k)
		}
	}
	return list
}
