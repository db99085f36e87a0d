package iscsi

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestSessionsAreMadeBeforeDisksAreLookedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turn turns
		turn.wait(t.Context()) // nobody is at it
		first, second := turn.take(), turn.take()
		var looked atomic.Int32
		for range 3 {
			go func() {
				turn.wait(t.Context())
				looked.Add(1)
			}()
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		turn.wait(ended) // whose time is up does not wait
		first()
		synctest.Wait()
		if n := looked.Load(); n != 0 {
			t.Errorf("%d looked while a session was being made", n)
		}
		second()
		synctest.Wait()
		if n := looked.Load(); n != 3 {
			t.Errorf("%d looked in the end, want 3", n)
		}
		stuck := turn.take()
		begun := time.Now()
		turn.wait(t.Context())
		if got := time.Since(begun); got != turnWait {
			t.Errorf("one that the kernel sleeps in held another up for %s, want %s", got, turnWait)
		}
		stuck()
	})
}
