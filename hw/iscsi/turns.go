package iscsi

import (
	"context"
	"sync"
)

// turns lets all connections that are logged in become sessions before anybody looks for disks: a target holds the connection of a
// session that is not there yet, and to look for disks is most of the kernel's work. What is still being logged in to is not waited for. The
// zero value is ready.
type turns struct {
	mu   sync.Mutex
	busy int           // guarded by mu
	idle chan struct{} // closed when busy is zero again; nil while nobody waits; guarded by mu
}

// take begins to make a session; the returned function ends it.
func (t *turns) take() (end func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.busy++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.busy--; t.busy == 0 && t.idle != nil {
			close(t.idle)
			t.idle = nil
		}
	}
}

// wait returns when no session is being made.
func (t *turns) wait(ctx context.Context) error {
	t.mu.Lock()
	if t.busy == 0 {
		t.mu.Unlock()
		return nil
	}
	if t.idle == nil {
		t.idle = make(chan struct{})
	}
	idle := t.idle
	t.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
