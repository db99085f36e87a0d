// Package enginetest holds what every engine.Action is held to: a suite that
// the tests of each kind run, on fakes and on the real thing alike.
//
// It owns the contract as code (check-apply-check, kill and rerun, undo twice).
// It is for tests only, and knows no kind.
package enginetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"initd/boot/engine"
	"initd/boot/plan"
)

// Subject is an action, a unit, and the machine that they are about.
type Subject struct {
	// Unit is what is applied. It can be applied on the machine as Clean leaves it.
	Unit *plan.Unit
	// New returns the action as an orchestrator that has just started has it:
	// nothing in memory, the same machine.
	New func(t *testing.T) engine.Action
	// Clean puts the machine where nothing of the unit is there.
	Clean func(t *testing.T)
	// Applied fails the test unless the machine is as the unit wants it; nil
	// trusts Check.
	Applied func(t *testing.T)
	// Snapshot describes the machine as far as the unit may change it, for
	// comparison; nil compares nothing.
	Snapshot func(t *testing.T) any
	// Kills are the points at which an attempt is ended: after so many
	// messages of progress, or, with a zero, at once. Nil takes 0, 1 and 2.
	Kills []int
	// Hang bounds each call; zero takes a minute.
	Hang time.Duration
	// KeepsPartial is for kinds whose failed Apply leaves what the next Apply
	// goes on with: after it Check may answer partial.
	KeepsPartial bool
}

// Conformance runs the suite. Each part starts from a clean machine.
func Conformance(t *testing.T, s Subject) {
	if s.Hang == 0 {
		s.Hang = time.Minute
	}
	if s.Kills == nil {
		s.Kills = []int{0, 1, 2}
	}
	t.Run("check changes nothing and says the same twice", s.checkOnly)
	t.Run("check, apply, check", s.checkApplyCheck)
	t.Run("a successor finds what is there", s.successor)
	t.Run("apply on what is partly there completes it", s.killAndRerun)
	t.Run("rollback undoes, and may be called twice", s.undoTwice)
	t.Run("rollback of nothing is no error", s.undoNothing)
	t.Run("an attempt ends with its context", s.endsWithContext)
	if _, ok := s.New(t).(engine.Batcher); ok {
		t.Run("a batch answers once for each unit", s.batch)
	}
}

func (s Subject) context(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), s.Hang)
}

// check checks, and fails the test unless the answer is one of want.
func (s Subject) check(t *testing.T, a engine.Action, when string, want ...engine.Answer) engine.Answer {
	t.Helper()
	ctx, cancel := s.context(t)
	defer cancel()
	c, err := a.Check(ctx, s.Unit)
	if err != nil {
		t.Fatalf("check %s: %v", when, err)
	}
	for _, w := range want {
		if c.Answer == w {
			return c.Answer
		}
	}
	t.Fatalf("check %s: %s (%s), want %v", when, c.Answer, c.Reason, want)
	return ""
}

func (s Subject) apply(t *testing.T, a engine.Action) {
	t.Helper()
	ctx, cancel := s.context(t)
	defer cancel()
	if err := a.Apply(ctx, s.Unit, func(engine.Progress) {}); err != nil {
		t.Fatalf("apply: %v", err)
	}
}

func (s Subject) rollback(t *testing.T, a engine.Action, when string) {
	t.Helper()
	ctx, cancel := s.context(t)
	defer cancel()
	if err := a.Rollback(ctx, s.Unit); err != nil {
		t.Fatalf("rollback %s: %v", when, err)
	}
}

func (s Subject) snapshot(t *testing.T) any {
	t.Helper()
	if s.Snapshot == nil {
		return nil
	}
	return s.Snapshot(t)
}

// same fails the test if the machine changed.
func (s Subject) same(t *testing.T, before any, what string) {
	t.Helper()
	if after := s.snapshot(t); !reflect.DeepEqual(before, after) {
		t.Errorf("%s changed the machine: before %v, after %v", what, before, after)
	}
}

// wanted fails the test unless the unit is in place.
func (s Subject) wanted(t *testing.T, a engine.Action, when string) {
	t.Helper()
	s.check(t, a, when, engine.Same)
	if s.Applied != nil {
		s.Applied(t)
	}
}

func (s Subject) checkOnly(t *testing.T) {
	s.Clean(t)
	before := s.snapshot(t)
	a := s.New(t)
	s.check(t, a, "of nothing", engine.Absent)
	s.check(t, a, "of nothing, again", engine.Absent)
	s.same(t, before, "check")
}

func (s Subject) checkApplyCheck(t *testing.T) {
	s.Clean(t)
	a := s.New(t)
	s.check(t, a, "before", engine.Absent)
	s.apply(t, a)
	s.wanted(t, a, "after apply")
	before := s.snapshot(t)
	s.wanted(t, a, "after apply, again")
	s.same(t, before, "check")
	s.Clean(t)
	s.check(t, s.New(t), "after cleaning up", engine.Absent)
}

func (s Subject) successor(t *testing.T) {
	s.Clean(t)
	s.apply(t, s.New(t))
	before := s.snapshot(t)
	s.wanted(t, s.New(t), "by a successor")
	s.same(t, before, "a successor's check")
	s.Clean(t)
}

// killAndRerun ends attempts at several points, as a deadline or the death of
// the orchestrator does, and lets a successor do it again.
func (s Subject) killAndRerun(t *testing.T) {
	for _, n := range s.Kills {
		t.Run(fmt.Sprintf("ended after %d messages", n), func(t *testing.T) {
			s.Clean(t)
			s.killed(t, n)
			a := s.New(t)
			if s.check(t, a, "by the successor", engine.Absent, engine.Partial, engine.Same) != engine.Same {
				s.apply(t, a)
			}
			s.wanted(t, a, "by the successor, after apply")
			s.Clean(t)
		})
	}
}

// killed starts an attempt and ends it after n messages of progress.
func (s Subject) killed(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := s.context(t)
	defer cancel()
	var mu sync.Mutex
	seen := 0
	hear := func(engine.Progress) {
		mu.Lock()
		defer mu.Unlock()
		if seen++; seen >= n {
			cancel()
		}
	}
	if n == 0 {
		cancel()
	}
	if err := s.New(t).Apply(ctx, s.Unit, hear); err == nil {
		t.Logf("apply was done before it could be ended")
	}
}

func (s Subject) undoTwice(t *testing.T) {
	for _, n := range s.Kills {
		s.Clean(t)
		before := s.snapshot(t)
		s.killed(t, n)
		a := s.New(t)
		if s.check(t, a, "after an attempt that was ended", engine.Absent, engine.Partial, engine.Same) == engine.Same {
			continue // it was done
		}
		s.rollback(t, a, "once")
		s.rollback(t, a, "twice")
		if s.KeepsPartial {
			s.check(t, a, "after rollback", engine.Absent, engine.Partial)
		} else {
			s.check(t, a, "after rollback", engine.Absent)
			s.same(t, before, "an attempt and its rollback")
		}
		s.apply(t, a)
		s.wanted(t, a, "after rollback and apply")
	}
	s.Clean(t)
}

func (s Subject) undoNothing(t *testing.T) {
	s.Clean(t)
	before := s.snapshot(t)
	a := s.New(t)
	s.rollback(t, a, "of nothing")
	s.check(t, a, "after it", engine.Absent)
	s.same(t, before, "rollback of nothing")
}

func (s Subject) endsWithContext(t *testing.T) {
	s.Clean(t)
	ctx, cancel := s.context(t)
	cancel()
	done := make(chan error, 1)
	go func() { done <- s.New(t).Apply(ctx, s.Unit, func(engine.Progress) {}) }()
	guard := time.NewTimer(s.Hang)
	defer guard.Stop()
	select {
	case err := <-done:
		if err != nil && s.Unit.Uninterruptible && errors.Is(err, context.Canceled) {
			t.Logf("an uninterruptible unit was interrupted: %v", err)
		}
	case <-guard.C:
		t.Fatalf("apply goes on %s after its context ended", s.Hang)
	}
	s.Clean(t)
}

func (s Subject) batch(t *testing.T) {
	s.Clean(t)
	a := s.New(t).(engine.Batcher)
	ctx, cancel := s.context(t)
	defer cancel()
	var mu sync.Mutex
	answers := map[int]int{}
	var failed error
	a.ApplyBatch(ctx, []engine.Part{{Unit: s.Unit, Context: ctx}}, func(int, engine.Progress) {}, func(i int, err error) {
		mu.Lock()
		defer mu.Unlock()
		answers[i]++
		if err != nil {
			failed = err
		}
	})
	mu.Lock()
	defer mu.Unlock()
	if failed != nil {
		t.Fatalf("batch: %v", failed)
	}
	if len(answers) != 1 || answers[0] != 1 {
		t.Errorf("answers by index: %v, want one for 0", answers)
	}
	s.wanted(t, a, "after a batch of one")
	s.Clean(t)
}
