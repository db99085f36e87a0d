package shutdown

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"initd/shutdown/order"
	"initd/shutdown/stack"
)

// try is what has been tried on one node.
type try struct {
	count  int
	at     int    // the progress when the last one began
	reason string // why the node is still there
}

// maxTries bounds how often one node is tried: again only after something else
// has gone, which may have been what held it.
const maxTries = 3

// key names a node across readings; an ID alone may be given to another mount.
func key(n stack.Node) string { return n.ID + " " + n.Path }

// takeDown takes down whatever nothing holds, all of it at once, and reads the
// stack again whenever something has gone: what has become free goes next,
// what has appeared goes too, and what hangs holds up only what it stands on.
func (r *run) takeDown(ctx context.Context) {
	running := map[string]stack.Node{}
	done := make(chan string)
	told := false
	for {
		if ctx.Err() == nil {
			s, err := r.sys.Read()
			if err != nil {
				r.tell(Event{Op: "read", Object: "the live stack", State: "failed", Reason: err.Error()})
			} else {
				free, cycle := r.free(s, running)
				if cycle != nil && !told {
					told = true
					r.tell(Event{Op: "order", Object: "the live stack", State: "failed", Reason: cycle.Error()})
				}
				for _, n := range free {
					running[key(n)] = n
					go func() {
						r.takeOne(ctx, n)
						done <- key(n)
					}()
				}
			}
		}
		if len(running) == 0 {
			return
		}
		delete(running, <-done)
	}
}

// free returns the nodes that nothing holds, that are not being taken down and
// that may be tried (again). Nodes that stand on each other are tried when
// nothing else is left to do.
//
// What is being taken down still holds what it stands on, though the kernel may
// show it no more: an unmount takes the mount out of the table first, and writes
// then [measured: a loop device below one was let go before its time].
func (r *run) free(s *stack.Stack, running map[string]stack.Node) ([]stack.Node, error) {
	below := map[string][]string{}
	for _, n := range s.Nodes {
		if n.Keep == "" {
			below[n.ID] = n.Below
		}
	}
	for k, n := range running {
		below[k] = n.Below
	}
	waves, cycle := order.Waves(below)
	if len(waves) == 0 {
		return nil, nil
	}
	first := waves[0]
	if cycle != nil && len(waves) == 1 && len(running) > 0 {
		return nil, cycle
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []stack.Node
	for _, id := range first {
		node := s.Node(id)
		if node == nil {
			continue // one that is being taken down, under its key
		}
		n, k := *node, key(*node)
		t := r.tries[k]
		if _, on := running[k]; on || t != nil && (t.count >= maxTries || t.at >= r.progress) {
			continue
		}
		if t == nil {
			t = &try{}
			r.tries[k] = t
		}
		t.count++
		t.at = r.progress
		t.reason = "it was let go, but something still holds it"
		list = append(list, n)
	}
	return list, cycle
}

// takeOne takes one node down, and ends who is in the way.
func (r *run) takeOne(ctx context.Context, n stack.Node) {
	j, ok := job(n)
	if !ok {
		r.failed(n, fmt.Errorf("nobody knows how to take down a %s", n.Kind))
		return
	}
	err := r.answer(ctx, j, n.Name)
	if at := points(n); err != nil && ctx.Err() == nil && len(at) > 0 {
		if users := r.sys.Users(at); len(users) > 0 {
			named := r.endAll(ctx, users, "used "+n.Name)
			if err = r.answer(ctx, j, n.Name); err != nil && named != "" {
				err = fmt.Errorf("%w; %s", err, named)
			}
		}
	}
	if err != nil {
		r.failed(n, err)
		if ctx.Err() != nil {
			r.outOfSight(n, err.Error())
		}
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress++
}

// maxDeaths is how often a job's process may die before that counts as an
// answer.
const maxDeaths = 3

// answer does a job. A process that died over it says nothing about the
// object, and nothing else will have gone that would start another try.
func (r *run) answer(ctx context.Context, j Job, object string) error {
	for n := 1; ; n++ {
		err := r.do(ctx, j, object)
		died := (interface{ Died() bool })(nil)
		if err == nil || ctx.Err() != nil || n == maxDeaths || !errors.As(err, &died) || !died.Died() {
			return err
		}
	}
}

func (r *run) failed(n stack.Node, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tries[key(n)].reason = err.Error()
}

// outOfSight keeps a node for the list of what is left, whether or not the
// kernel still shows it then.
func (r *run) outOfSight(n stack.Node, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.ContainsFunc(r.unseen, func(l Left) bool { return l.Object == n.Name }) {
		r.unseen = append(r.unseen, Left{Object: n.Name, Reason: reason})
	}
}

func job(n stack.Node) (Job, bool) {
	op, ok := map[stack.Kind]string{
		stack.Mount: OpUnmount, stack.DM: OpDM, stack.Loop: OpLoop, stack.MD: OpMD, stack.Swap: OpSwap, stack.NVMe: OpNVMe, stack.ISCSI: OpISCSI,
	}[n.Kind]
	if !ok {
		return Job{}, false
	}
	return Job{Op: op, Path: n.Path}, true
}

// points are the paths by which processes use a node.
func points(n stack.Node) []string {
	switch n.Kind {
	case stack.Mount, stack.Loop, stack.MD:
		return []string{n.Path}
	case stack.DM:
		return []string{"/dev/" + n.ID, "/dev/mapper/" + n.Path}
	}
	return nil
}
