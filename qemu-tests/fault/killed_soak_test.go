package fault

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"testing"

	"initd/qemu-tests/guest/tracer/order"
)

// Every call of the classes that an undisturbed boot makes, from the first
// driver to the last unmount, is killed at, before it and after it: the
// orchestrator with whoever makes the call, and, where that is a child, the child
// alone. It takes hours: `make soak-kill` runs it; docs/soak.md says when it
// was run and what it found.
//
// Calls that are the same but for chance (see order.Point.Call) are one. A boot
// takes the kills of two calls that are far apart, each at the first such call
// that any orchestrator of the boot makes: init would wait a minute after a
// fifth death. A kill that never came, because what made the call necessary was
// done already, is tried again in a boot of its own; what does not come there
// either is told, and counted as not reached. After a boot that failed, each of its kills
// has one of its own, so that it is known which.
func TestSoakKilledAtEachPoint(t *testing.T) {
	chosen, err := regexp.Compile(os.Getenv("SOAK_POINTS"))
	if err != nil {
		t.Fatalf("SOAK_POINTS: %v", err)
	}
	s := newScene(t)
	calm, want := s.boot()
	s.calm = want
	list := points(t, calm)
	kills := slices.DeleteFunc(everyCall(list), func(k []order.Kill) bool {
		return !chosen.MatchString(string(k[0].Class) + " " + k[0].Same)
	})
	sum := tally{calls: len(kills), of: len(list), classes: len(counts(list))}
	defer func() { t.Log(sum.String()) }()
	for i := range (len(kills) + 1) / 2 {
		both := kills[i]
		if far := i + (len(kills)+1)/2; far < len(kills) {
			both = slices.Concat(both, kills[far])
		}
		for _, k := range s.through(t, &sum, want, both...) {
			if left := s.through(t, &sum, want, k); len(left) > 0 && !t.Failed() {
				t.Logf("not reached: %s", k)
			}
		}
	}
}

// through boots once with these kills, and returns those that have to be tried
// alone: all, if it failed, and else those that never came. One that was alone already
// is counted.
func (s *scene) through(t *testing.T, sum *tally, want outcome, kills ...order.Kill) []order.Kill {
	var came []order.Kill
	sum.boots++
	passed := t.Run(fmt.Sprintf("boot %d", sum.boots), func(t *testing.T) {
		s.of(t)
		for _, k := range kills {
			t.Log(k)
		}
		got, list := s.bootThrough(kills)
		came = list
		if diff := same(want, got); diff != "" {
			t.Errorf("what the machine is like (-undisturbed +killed):\n%s", diff)
		}
	})
	s.of(t)
	if !passed {
		if len(kills) > 1 {
			return kills
		}
		sum.failed = append(sum.failed, kills[0].String())
		return nil
	}
	sum.passed += len(came)
	left := slices.DeleteFunc(slices.Clone(kills), func(k order.Kill) bool { return slices.Contains(came, k) })
	if len(kills) == 1 && len(left) == 1 {
		sum.missed = append(sum.missed, kills[0].String())
	}
	return left
}

// tally is what the soak came to.
type tally struct {
	calls, of, classes, boots, passed int
	failed, missed                    []string
}

func (y tally) String() string {
	text := fmt.Sprintf("soak: %d calls (the %d points of an undisturbed boot, without those that are the same call) of %d classes; %d kills in %d boots: %d passed, %d failed, %d not reached",
		y.calls, y.of, y.classes, y.passed+len(y.failed), y.boots, y.passed, len(y.failed), len(y.missed))
	for _, f := range y.failed {
		text += "\n  failed: " + f
	}
	for _, m := range y.missed {
		text += "\n  not reached: " + m
	}
	return text
}

// everyCall are the ways to kill at each of the calls, in the order of their
// first points. The text of a key's or init's call says too little to tell
// whether two are the same: there, each one counts.
func everyCall(list []order.Point) [][]order.Kill {
	var calls [][]order.Kill
	seen := map[string]int{}
	for _, p := range list {
		call := string(p.Class) + " " + p.Call()
		if seen[call]++; seen[call] > 1 && p.Class != order.Key && p.Class != order.Init {
			continue
		}
		calls = append(calls, killsAt(p, seen[call]))
	}
	return calls
}

// killsAt are the ways to kill at the nth call like p. The child alone comes
// first: the wait for the next attempt grows with each that failed.
func killsAt(p order.Point, n int) []order.Kill {
	var list []order.Kill
	for _, v := range []order.Victim{order.Caller, order.All} {
		if v == order.Caller && p.Of == "boot" {
			continue
		}
		for _, late := range []bool{false, true} {
			list = append(list, order.Kill{Class: p.Class, Same: p.Call(), N: n, After: late, Victim: v})
		}
	}
	return list
}
