package luks

import (
	"context"
	"slices"
	"sync"
	"time"
)

// turns lets some in at a time, those with the least work first. One that stays longer than its work explains does not keep
// others out any more.
type turns struct {
	mu      sync.Mutex
	free    int
	missing int // who has still to come before the first is let in, for patience at most
	waiting []*turn
}

type turn struct {
	work  uint64
	ready chan struct{}
}

// allowance is how long work may keep others out: a hundred times what a usual machine takes for it, within bounds. More at a
// time than there are processors is slower for all of them, so that a machine that is slow itself is given time.
func allowance(work uint64) time.Duration {
	return min(max(time.Duration(min(work, 1<<32))*100*time.Microsecond, patience), longest)
}

// newTurns lets so many in at a time, once those expected have come or passed.
func newTurns(atOnce, expected int) *turns {
	t := &turns{free: atOnce, missing: expected}
	if expected > 0 {
		time.AfterFunc(patience, func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.missing = 0
			t.serve()
		})
	}
	return t
}

// enter waits for a turn; leave ends it.
func (t *turns) enter(ctx context.Context, work uint64) (leave func(), err error) {
	w := &turn{work, make(chan struct{})}
	t.mu.Lock()
	at := len(t.waiting)
	for at > 0 && t.waiting[at-1].work > work {
		at--
	}
	t.waiting = slices.Insert(t.waiting, at, w)
	t.missing--
	t.serve()
	t.mu.Unlock()
	select {
	case <-w.ready:
		give := sync.OnceFunc(t.leave)
		timer := time.AfterFunc(allowance(work), give)
		return func() { timer.Stop(); give() }, nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.waiting, w); i >= 0 {
		t.waiting = slices.Delete(t.waiting, i, i+1)
	} else { // it was let in at the same moment
		t.free++
		t.serve()
	}
	return nil, &UnfinishedError{Err: context.Cause(ctx)}
}

// pass says that one of those expected will not enter.
func (t *turns) pass() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.missing--
	t.serve()
}

func (t *turns) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.free++
	t.serve()
}

func (t *turns) serve() {
	for t.missing <= 0 && t.free > 0 && len(t.waiting) > 0 {
		t.free--
		close(t.waiting[0].ready)
		t.waiting = t.waiting[1:]
	}
}
