package kmip

import (
	"context"
	"time"
)

// race starts n attempts in order: the first at once, each next one stagger
// after the one before it, or as soon as any attempt fails. The first success
// wins; the others are cancelled and awaited, and what they still bring is
// discarded. It returns the winner's index, or -1 and the error of each attempt.
// onStart, if given, hears of each start in order, with the time since the one before.
func race[T any](ctx context.Context, n int, stagger time.Duration, onStart func(i int, after time.Duration), attempt func(context.Context, int) (T, error), discard func(T)) (winner T, index int, errs []error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type outcome struct {
		i     int
		value T
		err   error
	}
	outcomes := make(chan outcome)
	started, ended := 0, 0
	last := time.Now()
	start := func() {
		if i := started; i < n {
			started++
			if onStart != nil {
				onStart(i, time.Since(last))
			}
			last = time.Now()
			go func() {
				v, err := attempt(ctx, i)
				outcomes <- outcome{i, v, err}
			}()
		}
	}
	errs = make([]error, n)
	start()
	timer := time.NewTimer(stagger)
	defer timer.Stop()
	for ended < started {
		select {
		case <-timer.C:
			if ctx.Err() == nil {
				start()
				timer.Reset(stagger)
			}
		case o := <-outcomes:
			ended++
			if o.err != nil {
				errs[o.i] = o.err
				if ctx.Err() == nil {
					start()
					timer.Reset(stagger)
				}
				continue
			}
			cancel()
			for ; ended < started; ended++ {
				if late := <-outcomes; late.err == nil {
					discard(late.value)
				}
			}
			return o.value, o.i, nil
		}
	}
	for i := started; i < n; i++ {
		errs[i] = context.Cause(ctx)
	}
	return winner, -1, errs
}
