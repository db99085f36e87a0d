package shutdown

import (
	"context"
	"sync"

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

func (r *run) save(ctx context.Context, n stack.Node) {
	if r.do(ctx, Job{Op: OpReadOnly, Path: n.Path}, n.Name) == nil {
		return
	}
	if r.do(ctx, Job{Op: OpLazy, Path: n.Path}, n.Name) != nil {
		return // told there; it stays among what is left
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	reason := "detached while it was in use"
	if t := r.tries[key(n)]; t != nil {
		reason += ": " + t.reason
	}
	r.detached = append(r.detached, Left{Object: n.Name, Reason: reason})
	r.progress++
}
