package iscsi

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func TestSessionsAreMadeBeforeDisksAreLookedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turn turns
		if err := turn.wait(t.Context()); err != nil {
			t.Errorf("nobody is at it: %v", err)
		}
		first, second := turn.take(), turn.take()
		var looked atomic.Int32
		for range 3 {
			go func() {
				if err := turn.wait(t.Context()); err != nil {
					t.Error(err)
				}
				looked.Add(1)
			}()
		}
		short, cancel := context.WithCancel(t.Context())
		cancel()
		if err := turn.wait(short); !errors.Is(err, context.Canceled) {
			t.Errorf("whose time is up: %v", err)
		}
		first()
		synctest.Wait()
		if looked.Load() != 0 {
			t.Errorf("%d looked while a session was being made", looked.Load())
		}
		second()
		synctest.Wait()
		if looked.Load() != 3 {
			t.Errorf("%d looked in the end, want 3", looked.Load())
		}
	})
}
