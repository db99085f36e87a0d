//go:build guest

package clock

import (
	"context"
	"testing"
	"time"
)

// The machine's own clock is set here, and set back.
func TestAClockThatIsBelowItsFloorIsRaisedAndTheStepIsNoticed(t *testing.T) {
	before := Now()
	defer func() {
		if err := Set(before.At(Boottime())); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	timer, err := stepTimer()
	if err != nil {
		t.Fatal(err)
	}
	steps := make(chan Anchor, 100)
	ended := make(chan error, 1)
	go func() { ended <- follow(ctx, timer, func() { steps <- Now() }) }()
	step := func() Anchor {
		t.Helper()
		select {
		case a := <-steps:
			return a
		case <-time.After(hang):
			t.Fatal("the step was not noticed")
			return Anchor{}
		}
	}
	// An offset is exact but for what passes between two calls of the kernel.
	about := func(what string, got, want time.Duration) {
		t.Helper()
		if (got - want).Abs() > hang {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}

	floor := time.Now().Add(1000 * time.Hour)
	raised, err := Raise(floor)
	floor = floor.Round(0)
	if err != nil || !raised || time.Now().Before(floor) {
		t.Fatalf("raise: got %v, %v, and it is %v; want %v at least", raised, err, time.Now(), floor)
	}
	first := step()
	about("the first step", first.Step(before), 1000*time.Hour)
	if raised, err = Raise(floor); raised || err != nil {
		t.Errorf("a second time: got %v, %v; want nothing done", raised, err)
	}
	// A watch that has told of one step tells of the next.
	if err := Set(time.Now().Add(-500 * time.Hour)); err != nil {
		t.Fatal(err)
	}
	about("the second step", step().Step(first), -500*time.Hour)
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("the watch ended with %v", err)
	}
}

// What a server says holds, although somebody sets the clock before it is used.
func TestASampleOutlivesAStep(t *testing.T) {
	before := Now()
	s := Sample{Offset: time.Hour, sent: before}
	if err := Set(before.Wall.Add(-300 * time.Hour)); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := Set(before.At(Boottime())); err != nil {
			t.Error(err)
		}
	}()
	if got := s.Now().Sub(before.Wall); (got - time.Hour).Abs() > hang {
		t.Errorf("got %v after the start, want an hour", got)
	}
}
