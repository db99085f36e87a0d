package convert

import (
	"context"
	"time"
)

// limiter holds what is read to a rate. The zero rate holds nothing. One goroutine uses it.
type limiter struct {
	rate int64 // bytes per second
	next time.Time
}

// wait returns when so many bytes may be read.
func (l *limiter) wait(ctx context.Context, bytes int64) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if l == nil || l.rate <= 0 {
		return nil
	}
	now := time.Now()
	// What was not used in a pause is not made up for, beyond half a second.
	if l.next.Before(now.Add(-time.Second / 2)) {
		l.next = now
	}
	pause := l.next.Sub(now)
	l.next = l.next.Add(time.Duration(float64(bytes) / float64(l.rate) * float64(time.Second)))
	if pause <= 0 {
		return nil
	}
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
