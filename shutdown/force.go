package shutdown

import (
	"context"
	"sync"
	"time"

	"initd/shutdown/stack"
)

// force saves what can be saved of mounts that did not go: read-only, so that
// nothing is lost when the power goes, or at least detached, so that what lies
// below may be flushed when its last user ends. Then what that has freed goes.
func (r *run) force(ctx context.Context) {
	s, err := r.sys.Read()
	if err != nil {
		r.tell(Event{Op: "read", Object: "the live stack", State: "failed", Reason: err.Error()})
		return
	}
	var wg sync.WaitGroup
	for _, n := range s.Nodes {
		if n.Kind == stack.Mount && n.Keep == "" {
			wg.Go(func() { r.save(ctx, n) })
		}
	}
	wg.Wait()
	r.takeDown(ctx)
}

// save has half of the time that is left for the first attempt: a device that
// does not answer must not keep what lies around its mount point.
func (r *run) save(ctx context.Context, n stack.Node) {
	first := ctx
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		first, cancel = context.WithTimeout(ctx, time.Until(end)/2)
		defer cancel()
	}
	if r.do(first, Job{Op: OpReadOnly, Path: n.Path}, n.Name) == nil {
		return
	}
	if r.do(ctx, Job{Op: OpLazy, Path: n.Path}, n.Name) != nil {
		return // told there; it stays among what is left
	}
	r.mu.Lock()
	reason := "detached while it was in use"
	if t := r.tries[key(n)]; t != nil {
		reason += ": " + t.reason
	}
	r.progress++
	r.mu.Unlock()
	r.outOfSight(n, reason)
}
