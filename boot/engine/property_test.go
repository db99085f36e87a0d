package engine

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"initd/boot/plan"
	"initd/boot/report"
)

// asked is one call of next as the loop made it.
type asked struct {
	applied int // events logged before it
	now     time.Duration
	d       decision
	ok      bool
}

// outcome is what became of a story.
type outcome struct {
	events []report.Event
	states map[string]report.State
	there  map[string]bool
	asked  []asked
	errs   []string
	plan   *plan.Plan
	end    time.Duration
	rules  rules
}

// tell runs a story in virtual time; honest: nothing is dropped.
func tell(t *testing.T, st story, honest bool, long time.Duration) (o outcome) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, slices.Clone(st.units)...)
		for i := range st.units {
			s := st.scripts[i]
			g.m.script[st.units[i].ID] = &s
			g.m.there[st.units[i].ID] = st.there[i]
		}
		g.cfg.decided = func(now time.Duration, d decision, ok bool) {
			o.asked = append(o.asked, asked{g.log.len(), now, d, ok})
		}
		e, err := New(g.cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { _ = e.Run(ctx); close(done) }()
		g.e = e
		play(g, st, honest)
		time.Sleep(long)
		synctest.Wait()
		o.end = g.m.clock()
		o.events, o.states = g.log.all(), g.log.states()
		cancel()
		time.Sleep(10 * time.Minute) // actions that ignore their context
		<-done
		o.plan, o.there, o.errs = g.cfg.Plan, g.m.there, g.m.errs
		o.rules = newRun(e, ctx).s.rules
	})
	return o
}

// play posts the world's turns at their times.
func play(g *rig, st story, honest bool) {
	now := map[plan.Resource]plan.Fact{}
	at := time.Duration(0)
	for _, w := range st.world {
		time.Sleep(w.at - at)
		at = w.at
		if w.order == clockStep {
			_ = g.e.Record(report.Anchor(time.Now()))
		} else if w.order != "" {
			_ = g.e.order(string(w.what), w.order) // some are for units that are not there
		}
		if w.order != "" {
			continue
		}
		if w.resync {
			var all []plan.Fact
			for _, f := range now {
				all = append(all, f)
			}
			slices.SortFunc(all, func(a, b plan.Fact) int { return len(a.Resource) - len(b.Resource) })
			_ = g.e.Post(all...)
			continue
		}
		f := plan.Fact{Resource: w.what, Present: w.present, Generation: w.gen, Reason: "unplugged"}
		now[w.what] = f
		if w.wipe {
			for _, x := range st.units {
				if x.OnLoss != plan.LossReport && requires(x, w.what) {
					g.m.remove(x.ID)
				}
			}
		}
		if honest || !w.drop {
			_ = g.e.Post(f)
		}
	}
}

// requires tells that a unit cannot do without a resource.
func requires(x plan.Unit, r plan.Resource) bool {
	return slices.ContainsFunc(x.Needs, func(n plan.Need) bool {
		return n.Mode == plan.Require && slices.Contains(n.AnyOf, r) && n.Min == len(n.AnyOf)
	})
}

// oracle checks a log by the rules, knowing nothing of how the engine works.
func oracle(o outcome) []string {
	var errs []string
	bad := func(format string, args ...any) { errs = append(errs, fmt.Sprintf(format, args...)) }
	state := map[string]report.State{}
	through := map[string]bool{}
	present := map[plan.Resource]bool{}
	provider := map[plan.Resource]string{}
	for _, u := range o.plan.Units {
		for _, r := range u.Provides {
			provider[r] = u.ID
		}
	}
	busy := map[string]report.Op{}
	asked, looks, vain := map[string]bool{}, map[string]bool{}, map[string]bool{}
	settled := time.Duration(-1)
	halted := false
	for _, e := range o.events {
		switch e.Kind {
		case report.ResourceChanged:
			present[plan.Resource(e.Resource)] = e.Presence == report.Present
		case report.Commanded:
			asked[e.Unit] = true
			looks[e.Unit] = looks[e.Unit] || e.Command == "retry" // one look, whatever is missing
		case report.Halted:
			halted = true
		case report.Resumed:
			halted = false
		case report.AttemptStarted:
			if op := busy[e.Unit]; op != "" {
				bad("%s: %s starts while %s runs", e.Unit, e.Op, op)
			}
			busy[e.Unit] = e.Op
			if state[e.Unit].OK() {
				bad("%s: %s starts although it is %s", e.Unit, e.Op, state[e.Unit])
			}
			early := needsOf(o, e.Unit, provider, through, present, state)
			if e.Op != report.Check {
				if vain[e.Unit] && e.Op != report.Rollback && len(early) > 0 {
					bad("%s: %s at %s before its need %v", e.Unit, e.Op, e.At, early)
				}
				break
			}
			vain[e.Unit] = len(early) > 0
			if halted && !through[e.Unit] && !asked[e.Unit] && e.Attempt == 1 && !free(o, e.Unit, state) {
				bad("%s starts while the boot is halted", e.Unit)
			}
			if len(early) > 0 && !looks[e.Unit] {
				bad("%s starts at %s before its need %v", e.Unit, e.At, early)
			}
			looks[e.Unit] = false
		case report.AttemptEnded:
			busy[e.Unit] = ""
		case report.Settled:
			settled = e.At
			for id, s := range state {
				if !s.Settled() && (!through[id] || e.At < time.Second+time.Duration(o.plan.Budget)) {
					bad("settled while %s is %s", id, s)
				}
			}
		}
		if e.Kind == report.UnitDeclared {
			state[e.Unit] = report.Waiting
		}
		if e.State != "" {
			state[e.Unit] = e.State
			through[e.Unit] = through[e.Unit] || e.State.Settled()
		}
	}
	if settled < 0 || settled > time.Second+time.Duration(o.plan.Budget) {
		bad("settled at %s, want it by %s", settled, time.Second+time.Duration(o.plan.Budget))
	}
	return append(errs, o.errs...)
}

// needsOf returns the first need of a unit that is not met.
func needsOf(o outcome, id string, provider map[plan.Resource]string, through map[string]bool, present map[plan.Resource]bool, state map[string]report.State) []plan.Resource {
	for _, n := range o.plan.Unit(id).Needs {
		have := 0
		for _, r := range n.AnyOf {
			if n.Mode == plan.After && (provider[r] == "" || through[provider[r]]) || n.Mode == plan.Require && present[r] && !claimed(o, r, id, state) {
				have++
			}
		}
		if n.Mode == plan.After && have < len(n.AnyOf) || n.Mode == plan.Require && have < n.Min {
			return n.AnyOf
		}
	}
	return nil
}

// claimed tells whether an unfinished unit other than id, which does not share
// the claim, has r to itself.
func claimed(o outcome, r plan.Resource, id string, state map[string]report.State) bool {
	if slices.Contains(o.plan.Unit(id).Claims, r) {
		return false
	}
	return slices.ContainsFunc(o.plan.Units, func(c plan.Unit) bool {
		return c.ID != id && slices.Contains(c.Claims, r) && !state[c.ID].OK()
	})
}

// free tells whether a unit may start in a halted boot: it holds the boot, or
// something that does stands on it.
func free(o outcome, id string, state map[string]report.State) bool {
	needed := map[string]bool{}
	for range o.plan.Units {
		freeOnce(o, needed, state)
	}
	return needed[id]
}

func freeOnce(o outcome, needed map[string]bool, state map[string]report.State) {
	for i := range o.plan.Units {
		x := &o.plan.Units[i]
		if needed[x.ID] || x.Policy.OnFailure == plan.Halt && state[x.ID].Settled() && !state[x.ID].OK() {
			needed[x.ID] = true
			for _, n := range x.Needs {
				for _, r := range n.AnyOf {
					if n.Mode != plan.Require {
						continue
					}
					needed[string(r)] = true
					for _, c := range o.plan.Units {
						if slices.Contains(c.Claims, r) {
							needed[c.ID] = true
						}
					}
				}
			}
		}
	}
}

func TestPropertyEveryRunKeepsTheRulesAndSettles(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		st := drawStory(rt, false)
		o := tell(t, st, rapid.Bool().Draw(rt, "honest"), time.Hour)
		if errs := oracle(o); len(errs) > 0 {
			rt.Fatalf("%d rules broken: %v\nlog:\n%s", len(errs), errs, dump(o.events))
		}
	})
}

func TestPropertyWhatIsLostAndReturnsIsNeverWaitedForInVain(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		st := drawStory(rt, true)
		o := tell(t, st, true, 2*time.Hour)
		errs := oracle(o)
		for id, s := range o.states {
			if !s.OK() {
				errs = append(errs, fmt.Sprintf("%s is %s in the end", id, s))
			}
			if !o.there[id] && id != plan.ReadyID {
				errs = append(errs, fmt.Sprintf("%s is not in place in the end", id))
			}
		}
		if len(errs) > 0 {
			rt.Fatalf("%v\nlog:\n%s", errs, dump(o.events))
		}
	})
}

func TestPropertyDroppedEventsChangeNothingButTime(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		st := drawStory(rt, true)
		honest := tell(t, st, true, 2*time.Hour)
		dropped := tell(t, st, false, 2*time.Hour)
		for _, o := range []outcome{honest, dropped} {
			for id, s := range o.states {
				if s == report.Adopted { // done or adopted depends on who came first
					o.states[id] = report.Done
				}
			}
		}
		if diff := cmp.Diff(honest.states, dropped.states); diff != "" {
			rt.Fatalf("states (-all events +some dropped):\n%s\nlog:\n%s", diff, dump(dropped.events))
		}
		if diff := cmp.Diff(honest.there, dropped.there); diff != "" {
			rt.Fatalf("machine (-all events +some dropped):\n%s", diff)
		}
	})
}

func TestPropertyAnyPrefixReplaysToTheSameNextActions(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		st := drawStory(rt, false)
		o := tell(t, st, true, time.Minute)
		for range 10 {
			a := o.asked[rapid.IntRange(0, len(o.asked)-1).Draw(rt, "prefix")]
			s := newState(o.plan, o.rules)
			for _, e := range o.events[:a.applied] {
				s.apply(e)
			}
			s.markAll()
			d, ok := s.next(a.now)
			if diff := cmp.Diff(flat(a.d, a.ok), flat(d, ok)); diff != "" {
				rt.Fatalf("next after %d of %d events (-live +replayed):\n%s\nlog:\n%s", a.applied, len(o.events), diff, dump(o.events[:a.applied]))
			}
		}
	})
}

// flat is a decision without pointers.
func flat(d decision, ok bool) map[string]any {
	m := map[string]any{"ok": ok, "events": d.events, "do": int(d.effect.do), "by": d.effect.by}
	var units []string
	for _, u := range d.effect.units {
		units = append(units, u.u.ID)
	}
	m["units"] = units
	return m
}

func dump(events []report.Event) string {
	text := ""
	for _, e := range events {
		text += fmt.Sprintf("%9.3f %-9s %-6s %s%s %s %s %s\n", (e.At - time.Second).Seconds(), e.Kind, e.Unit, e.Resource, e.Op, e.State, e.Presence, e.Reason)
	}
	return text
}
