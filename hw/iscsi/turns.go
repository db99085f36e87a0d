package iscsi

import (
	"context"
	"sync"
	"time"
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

// turnWait bounds the wait for others: it is a matter of order, and a request that the kernel sleeps in is to hold nobody up.
const turnWait = 2 * time.Second

// wait returns when no session is being made, or that takes long, or when ctx ends.
func (t *turns) wait(ctx context.Context) {
	t.mu.Lock()
	if t.busy == 0 {
		t.mu.Unlock()
		return
	}
	if t.idle == nil {
		t.idle = make(chan struct{})
	}
	idle := t.idle
	t.mu.Unlock()
	bounded, cancel := context.WithTimeout(ctx, turnWait)
	defer cancel()
	select {
	case <-idle:
	case <-bounded.Done():
	}
}
