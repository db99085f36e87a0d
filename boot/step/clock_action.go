package step

import (
	"context"
	"fmt"
	"time"

	"initd/boot/engine"
	"initd/boot/plan"
	"initd/hw/clock"
)

// clockAction asks the time servers once and steps the clock.
type clockAction struct{ deps *Deps }

func newClockAction(d *Deps) engine.Action { return &clockAction{deps: d} }

// Check: nothing tells whether the clock is right; asking again is cheap.
func (a *clockAction) Check(context.Context, *plan.Unit) (engine.Checked, error) {
	return engine.Checked{Answer: engine.Absent}, nil
}

// stepThreshold: an error below it is not worth a step that others notice.
const stepThreshold = 20 * time.Millisecond

func (a *clockAction) Apply(ctx context.Context, u *plan.Unit, progress func(engine.Progress)) error {
	s, err := spec[clockSpec](u)
	if err != nil {
		return err
	}
	progress(engine.Progress{Waiting: "an answer of a time server"})
	// A server whose time is before the floor is wrong for certain, and so is a step back below it.
	got, err := clock.Client{Servers: s.Servers, Floor: a.deps.ClockFloor}.Query(ctx)
	if err != nil {
		return err
	}
	told := engine.Progress{Server: got.Server, Text: fmt.Sprintf("the clock was off by %v", (-got.Offset).Round(time.Millisecond))}
	if got.Disputed {
		told.Note = fmt.Sprintf("the time servers do not agree; the clock follows %s, %v from where it was", got.Server, got.Offset.Round(time.Millisecond))
	}
	progress(told)
	if got.Offset.Abs() < stepThreshold {
		return nil
	}
	return clock.Set(got.Now()) // holds whoever set the clock meanwhile
}

// Rollback: a clock that was set stays set.
func (a *clockAction) Rollback(context.Context, *plan.Unit) error { return nil }
