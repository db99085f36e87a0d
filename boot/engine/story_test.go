package engine

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"pgregory.net/rapid"

	"initd/boot/plan"
)

// story is a random plan, how its units behave, and what the world does.
type story struct {
	units   []plan.Unit
	scripts []script
	there   []bool
	world   []turn
	cures   bool // every failure ends some day
}

// turn is something that the world does.
type turn struct {
	at      time.Duration
	what    plan.Resource
	present bool
	gen     uint64
	order   string // not the world's turn, but an operator's, about unit what
	drop    bool   // lost on its way: only a resync tells
	wipe    bool   // what stands on it is gone as well
	resync  bool
}

const storyEnd = 10 * time.Minute // of the world's turns
const clockStep = "clock"         // among the orders: somebody sets the clock

func drawStory(rt *rapid.T, cures bool) story {
	st := story{cures: cures}
	worlds := rapid.IntRange(1, 4).Draw(rt, "worlds")
	name := func(i int) plan.Resource { return plan.Resource(fmt.Sprintf("block/w%d", i)) }
	n := rapid.IntRange(1, 10).Draw(rt, "units")
	needed := map[plan.Resource]bool{}
	for i := range n {
		st.units = append(st.units, drawUnit(rt, i, worlds, name, needed))
		s := script{
			took:   rapid.SampledFrom([]time.Duration{0, 0, time.Second, 20 * time.Second}).Draw(rt, "took"),
			checks: rapid.SampledFrom([]time.Duration{0, 0, 300 * time.Millisecond, 5 * time.Second}).Draw(rt, "checks"),
			fails:  rapid.SampledFrom([]int{0, 0, 0, 1, 3}).Draw(rt, "fails"),
		}
		if rapid.IntRange(0, 3).Draw(rt, "clock") == 0 {
			s.err = ofTheClock{errors.New("expired by this clock")}
		}
		if !cures {
			switch rapid.IntRange(0, 12).Draw(rt, "trouble") {
			case 0:
				s.fails = -1
			case 1:
				s.hang = true
			case 2:
				s.answer = Foreign
			case 3:
				s.deaf = 2 * time.Minute
			case 4:
				s.fails, s.err = 1, final(fmt.Errorf("cannot be helped"))
			case 5:
				s.fails, s.err = 1, stuckError{} // forever: a channel made out here would stop virtual time
			}
		}
		st.scripts = append(st.scripts, s)
		st.there = append(st.there, rapid.IntRange(0, 5).Draw(rt, "there") == 0)
	}
	st.world = drawWorld(rt, worlds, name, cures, !cures)
	return st
}

// drawUnit draws unit i, which may need units before it. It claims only what
// no earlier unit needs: else the two could wait for each other.
func drawUnit(rt *rapid.T, i, worlds int, name func(int) plan.Resource, needed map[plan.Resource]bool) plan.Unit {
	x := u(fmt.Sprintf("u/%d", i))
	for range rapid.IntRange(0, 3).Draw(rt, "needs") {
		n := plan.Need{Mode: rapid.SampledFrom([]plan.Mode{plan.Require, plan.Require, plan.After}).Draw(rt, "mode")}
		for range rapid.IntRange(1, 3).Draw(rt, "anyOf") {
			if k := rapid.IntRange(0, i+worlds-1).Draw(rt, "need"); k < i {
				n.AnyOf = append(n.AnyOf, plan.Resource(fmt.Sprintf("u/%d", k)))
			} else {
				n.AnyOf = append(n.AnyOf, name(k-i))
			}
		}
		slices.Sort(n.AnyOf)
		n.AnyOf = slices.Compact(n.AnyOf)
		if n.Mode == plan.Require {
			n.Min = rapid.IntRange(1, len(n.AnyOf)).Draw(rt, "min")
		}
		x.Needs = append(x.Needs, n)
	}
	attempts(rapid.IntRange(1, 3).Draw(rt, "attempts"))(&x)
	x.Policy.Retry.Jitter = 0.2
	x.OnLoss = rapid.SampledFrom([]plan.OnLoss{plan.LossReport, plan.LossRecheck, plan.LossStop}).Draw(rt, "loss")
	if rapid.IntRange(0, 3).Draw(rt, "wait") == 0 {
		x.Policy.Wait = plan.Duration(20 * time.Second)
	}
	if rapid.IntRange(0, 5).Draw(rt, "patience") == 0 {
		x.Patience = plan.Duration(2 * time.Second)
	}
	if rapid.IntRange(0, 7).Draw(rt, "halt") == 0 {
		x.Policy.OnFailure = plan.Halt
	}
	if w := rapid.IntRange(0, 2*worlds).Draw(rt, "claim"); w < worlds && !needed[name(w)] {
		x.Claims = []plan.Resource{name(w)}
	}
	for _, n := range x.Needs {
		for _, r := range n.AnyOf {
			needed[r] = true
		}
	}
	switch rapid.IntRange(0, 5).Draw(rt, "kind") {
	case 0, 1:
		batched(fmt.Sprint("b", rapid.IntRange(0, 1).Draw(rt, "batch")))(&x)
	case 2:
		x.Uninterruptible = true
	}
	return x
}

// drawWorld: resources come and go; in the end all are there, or any, and
// whoever lost track enumerates again.
func drawWorld(rt *rapid.T, worlds int, name func(int) plan.Resource, allBack, orders bool) []turn {
	var list []turn
	for range rapid.IntRange(0, 12).Draw(rt, "turns") {
		if orders && rapid.IntRange(0, 3).Draw(rt, "order") == 0 {
			list = append(list, turn{
				at:    time.Duration(rapid.Int64Range(0, int64(storyEnd/time.Millisecond)).Draw(rt, "at")) * time.Millisecond,
				what:  plan.Resource(fmt.Sprintf("u/%d", rapid.IntRange(0, 9).Draw(rt, "whose"))),
				order: rapid.SampledFrom([]string{"skip", "retry", "stop", "unstuck", "lose", clockStep}).Draw(rt, "what order"),
			})
			continue
		}
		list = append(list, turn{
			at:      time.Duration(rapid.Int64Range(0, int64(storyEnd/time.Millisecond)).Draw(rt, "at")) * time.Millisecond,
			what:    name(rapid.IntRange(0, worlds-1).Draw(rt, "what")),
			present: rapid.Bool().Draw(rt, "present"),
			drop:    rapid.Bool().Draw(rt, "drop"),
			wipe:    rapid.Bool().Draw(rt, "wipe"),
		})
	}
	slices.SortStableFunc(list, func(a, b turn) int { return int(a.at - b.at) })
	for i := range worlds {
		if allBack || rapid.Bool().Draw(rt, "back") {
			list = append(list, turn{at: storyEnd, what: name(i), present: true, drop: rapid.Bool().Draw(rt, "drop")})
		}
	}
	now := map[plan.Resource]turn{}
	var out []turn
	for _, t := range list {
		if t.order != "" {
			out = append(out, t)
			continue
		}
		old := now[t.what]
		t.gen = old.gen
		if t.present && !old.present {
			t.gen++
		}
		if t.present == old.present {
			continue
		}
		t.wipe = t.wipe && !t.present
		now[t.what] = t
		out = append(out, t)
		if t.drop && rapid.IntRange(0, 2).Draw(rt, "resync") == 0 {
			out = append(out, turn{at: t.at + time.Millisecond, resync: true})
		}
	}
	return append(out, turn{at: storyEnd + time.Second, resync: true})
}
