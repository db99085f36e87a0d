package fault

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"initd/qemu-tests/guest/tracer/order"
)

// Every call of the classes that an undisturbed boot makes, from the first
// driver to the last unmount, is killed at, before it and after it: the
// orchestrator with whoever makes the call, and, where that is a child, the child
// alone. It takes hours: `make soak-kill` runs it, and with SOAK_DONE=LOG goes on
// after a run that was broken off; docs/soak.md says when it was run and what it
// found.
//
// Calls that are the same but for chance (see order.Point.Call) are one. A boot
// takes several kills, of calls that are far apart, each at the first such call
// that any orchestrator of the boot makes; at most four of them end the
// orchestrator, for init would wait a minute after a fifth death. A kill that
// never came, because what made the call necessary was done already, is tried
// again with one other, and then in a boot of its own; what does not come there
// either is told, and counted as not reached. After a boot that failed, each of
// its kills has one of its own, so that it is known which.
func TestSoakKilledAtEachPoint(t *testing.T) {
	chosen, err := regexp.Compile(os.Getenv("SOAK_POINTS"))
	if err != nil {
		t.Fatalf("SOAK_POINTS: %v", err)
	}
	done, err := doneBefore(os.Getenv("SOAK_DONE"))
	if err != nil {
		t.Fatal(err)
	}
	s := newScene(t)
	s.waits = 20 * time.Minute
	s.save()
	calm, want := s.boot()
	s.calm = want
	list := points(t, calm)
	calls := slices.DeleteFunc(everyCall(list), func(k order.Kill) bool {
		return !chosen.MatchString(string(k.Class) + " " + k.Same)
	})
	y := &soak{scene: s, want: want, points: len(list), calls: len(calls), classes: map[order.Class]bool{}}
	defer func() { t.Log(y.String()) }()
	var first, second []order.Kill
	for _, boot := range packed(calls, done) {
		first = append(first, y.boot(t, boot...)...)
	}
	half := (len(first) + 1) / 2
	for i := range half {
		pair := []order.Kill{first[i]}
		if i+half < len(first) {
			pair = append(pair, first[i+half])
		}
		second = append(second, y.boot(t, pair...)...)
	}
	for _, k := range append(second, y.suspects...) {
		y.boot(t, k)
	}
}

// packed are the kills of all calls that are not done yet, by boots: the
// orchestrator at two calls, and a child alone at a third, each before and
// after, and all as far from each other as can be.
func packed(calls []order.Kill, done map[string]bool) [][]order.Kill {
	ways := func(at int, v order.Victim) []order.Kill {
		before, after := calls[at], calls[at]
		before.Victim, after.Victim, after.After = v, v, true
		return slices.DeleteFunc([]order.Kill{before, after}, func(k order.Kill) bool { return done[k.String()] })
	}
	var all, children []int // places of calls
	for i, k := range calls {
		if len(ways(i, order.All)) > 0 {
			all = append(all, i)
		}
		if !strings.HasPrefix(k.Same, "boot: ") && len(ways(i, order.Caller)) > 0 {
			children = append(children, i)
		}
	}
	var boots [][]order.Kill
	half := (len(all) + 1) / 2
	for i := range half {
		mine := []int{all[i]}
		if i+half < len(all) {
			mine = append(mine, all[i+half])
		}
		var boot []order.Kill
		if len(children) > 0 {
			distance := func(at int) int {
				d := len(calls)
				for _, m := range mine {
					d = min(d, max(at-m, m-at))
				}
				return d
			}
			far := slices.MaxFunc(children, func(a, b int) int { return distance(a) - distance(b) })
			children = slices.DeleteFunc(children, func(c int) bool { return c == far })
			boot = ways(far, order.Caller)
		}
		for _, m := range mine {
			boot = append(boot, ways(m, order.All)...)
		}
		boots = append(boots, boot)
	}
	for _, c := range children {
		boots = append(boots, ways(c, order.Caller))
	}
	return boots
}

// doneBefore reads the kills that passed in a run that was broken off: its log.
func doneBefore(file string) (map[string]bool, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	done := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		if _, kill, ok := strings.Cut(strings.TrimSpace(line), "passed: "); ok {
			done[kill] = true
		}
	}
	return done, nil
}

// soak is a run, and what it came to.
type soak struct {
	*scene
	want           outcome
	points, calls  int
	boots, passed  int
	classes        map[order.Class]bool // of the kills that took place
	suspects       []order.Kill         // of boots that failed
	failed, missed []string
}

// boot boots once with these kills, and returns those that never came. One that
// was alone is counted as what it is.
func (y *soak) boot(t *testing.T, kills ...order.Kill) []order.Kill {
	var came []order.Kill
	y.boots++
	passed := t.Run(fmt.Sprintf("boot %d", y.boots), func(t *testing.T) {
		y.of(t)
		for _, k := range kills {
			t.Log(k)
		}
		got, list := y.bootThrough(kills)
		came = list
		if diff := same(y.want, got); diff != "" {
			t.Errorf("what the machine is like (-undisturbed +killed):\n%s", diff)
		}
	})
	y.of(t)
	switch {
	case !passed && len(kills) > 1:
		y.suspects = append(y.suspects, kills...)
		return nil
	case !passed:
		y.failed = append(y.failed, kills[0].String())
		return nil
	case len(kills) == 1 && len(came) == 0:
		y.missed = append(y.missed, kills[0].String())
		return nil
	}
	y.passed += len(came)
	for _, k := range came {
		y.classes[k.Class] = true
	}
	for _, k := range came {
		t.Logf("passed: %s", k)
	}
	return slices.DeleteFunc(slices.Clone(kills), func(k order.Kill) bool { return slices.Contains(came, k) })
}

func (y *soak) String() string {
	text := fmt.Sprintf("soak: an undisturbed boot makes %d calls, %d without those that are the same; %d classes, %d kills in %d boots: %d passed, %d failed, %d not reached",
		y.points, y.calls, len(y.classes), y.passed+len(y.failed), y.boots, y.passed, len(y.failed), len(y.missed))
	for _, f := range y.failed {
		text += "\n  failed: " + f
	}
	for _, m := range y.missed {
		text += "\n  not reached: " + m
	}
	return text
}

// everyCall are the calls, in the order of their first points. The text of a
// record to init says too little to tell whether two are the same: there, each
// one counts.
func everyCall(list []order.Point) []order.Kill {
	var calls []order.Kill
	seen := map[string]int{}
	for _, p := range list {
		call := string(p.Class) + " " + p.Call()
		if seen[call]++; seen[call] == 1 || p.Class == order.Init {
			calls = append(calls, order.Kill{Class: p.Class, Same: p.Call(), N: seen[call]})
		}
	}
	return calls
}
