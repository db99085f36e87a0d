// Package shutdown takes a running machine down: services first, then what is
// set up on it, holders first and in parallel, within a budget, and always to
// an end.
//
// It owns the phases and their shares of the budget, and what is done about
// something that is busy. What stands on what is read anew from the live
// system before every wave (stack), whoever set it up; the order is order's.
// It never takes the root down and never reboots: init does, when Run returns.
package shutdown

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"initd/shutdown/order"
	"initd/shutdown/stack"
)

// Ops of a Job.
const (
	OpUnmount  = "unmount"
	OpLazy     = "unmount-lazy"
	OpReadOnly = "remount-read-only"
	OpDM       = "remove-dm"
	OpLoop     = "detach-loop"
	OpSwap     = "swapoff"
	OpSync     = "sync"
)

// Job is one operation that can sleep in the kernel.
type Job struct {
	Op   string `json:"op"`
	Path string `json:"path,omitempty"`
}

// System is what Run needs of the machine.
type System interface {
	// Read reads the live stack.
	Read() (*stack.Stack, error)
	// Users finds who uses what lies at or below points; never the callers' own processes.
	Users(points []string) []stack.User
	// Do runs a job in a process that is given up when ctx ends.
	Do(ctx context.Context, j Job) error
	// StopServices stops all services, what needs others first, and returns a
	// line for each one that did not end by itself.
	StopServices(ctx context.Context) []string
	// End sends sig to u and waits until it is gone or ctx ends.
	End(ctx context.Context, u stack.User, sig syscall.Signal) error
}

// Event tells how it goes.
type Event struct {
	Op     string        // "services", a Job's Op, "process", "left"
	Object string        // "/srv/tank0", "tank0", "sleep (pid 123)"
	State  string        // started, done, failed
	Reason string        // why it failed, or what was in the way
	Took   time.Duration // of done and failed
}

// Left is something that is still there at the end, and why.
type Left struct {
	Object string `json:"object"`
	Reason string `json:"reason"`
}

// Result is how the way down went.
type Result struct {
	Left []Left        `json:"left,omitempty"`
	Took time.Duration `json:"took"`
}

// The shares of the budget, in percent of the whole, at which a phase ends.
const (
	servicesEnd = 40 // services have stopped, or were killed
	stackEnd    = 80 // the stack is down, users of busy mounts were ended
	forceEnd    = 92 // what is left is read-only or detached
	// The rest is for sync.
)

// Run takes the machine down. It returns within the budget, or earlier when
// ctx ends.
func Run(ctx context.Context, budget time.Duration, sys System, tell func(Event)) Result {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	r := &run{sys: sys, tell: tell, failed: map[string]string{}}
	until := func(percent int) (context.Context, context.CancelFunc) {
		return context.WithDeadline(ctx, start.Add(budget*time.Duration(percent)/100))
	}

	c, done := until(servicesEnd)
	r.services(c)
	done()
	c, done = until(stackEnd)
	r.stack(c)
	done()
	c, done = until(forceEnd)
	r.force(c)
	done()
	r.do(ctx, Job{Op: OpSync}, "all file systems")
	res := Result{Left: r.left(), Took: time.Since(start)}
	for _, l := range res.Left {
		tell(Event{Op: "left", Object: l.Object, State: "failed", Reason: l.Reason})
	}
	return res
}

type run struct {
	sys  System
	tell func(Event)

	mu     sync.Mutex
	failed map[string]string // guarded by mu; node ID -> why it could not go
}

func (r *run) services(ctx context.Context) {
	start := time.Now()
	r.tell(Event{Op: "services", State: "started"})
	e := Event{Op: "services", State: "done"}
	if lines := r.sys.StopServices(ctx); len(lines) > 0 {
		e.State, e.Reason = "failed", strings.Join(lines, "; ")
	}
	e.Took = time.Since(start)
	r.tell(e)
}

// stack takes down wave after wave until nothing is left that can go. The
// stack is read again before each: things appear and disappear meanwhile.
func (r *run) stack(ctx context.Context) {
	for ctx.Err() == nil {
		s, err := r.sys.Read()
		if err != nil {
			r.tell(Event{Op: "read", Object: "the live stack", State: "failed", Reason: err.Error()})
			return
		}
		wave := r.next(s)
		if len(wave) == 0 {
			return
		}
		var wg sync.WaitGroup
		for _, n := range wave {
			wg.Go(func() { r.takeDown(ctx, n) })
		}
		wg.Wait()
	}
}

// next returns the nodes that nothing holds and that have not failed.
func (r *run) next(s *stack.Stack) []stack.Node {
	below := map[string][]string{}
	for _, n := range s.Nodes {
		if n.Keep == "" {
			below[n.ID] = n.Below
		}
	}
	waves, _ := order.Waves(below) // nodes of a cycle come last, and are tried
	r.mu.Lock()
	defer r.mu.Unlock()
	blocked := map[string]bool{}
	for _, wave := range waves {
		var list []stack.Node
		for _, id := range wave {
			_, bad := r.failed[id]
			if bad || blocked[id] {
				for _, b := range below[id] {
					blocked[b] = true
				}
				continue
			}
			list = append(list, *s.Node(id))
		}
		if len(list) > 0 {
			return list
		}
	}
	return nil
}

func (r *run) takeDown(ctx context.Context, n stack.Node) {
	j, ok := job(n)
	if !ok {
		return
	}
	err := r.do(ctx, j, n.Name)
	if err == nil {
		return
	}
	if n.Kind == stack.Mount {
		named := r.endUsers(ctx, n)
		if err = r.do(ctx, j, n.Name); err == nil {
			return
		}
		if named != "" {
			err = fmt.Errorf("%w; %s", err, named)
		}
	}
	r.mu.Lock()
	r.failed[n.ID] = err.Error()
	r.mu.Unlock()
}

func job(n stack.Node) (Job, bool) {
	op, ok := map[stack.Kind]string{stack.Mount: OpUnmount, stack.DM: OpDM, stack.Loop: OpLoop, stack.Swap: OpSwap}[n.Kind]
	return Job{Op: op, Path: n.Path}, ok
}

// do runs one job and tells of it.
func (r *run) do(ctx context.Context, j Job, object string) error {
	start := time.Now()
	err := r.sys.Do(ctx, j)
	e := Event{Op: j.Op, Object: object, State: "done", Took: time.Since(start)}
	if err != nil {
		e.State, e.Reason = "failed", err.Error()
	}
	r.tell(e)
	return err
}

// Patience with a process that keeps a mount busy: so long for SIGTERM, then
// so long for SIGKILL.
const (
	termPatience = 3 * time.Second
	killPatience = 2 * time.Second
)

// endUsers ends the processes that keep n busy, and names those that had to be
// killed or could not be.
func (r *run) endUsers(ctx context.Context, n stack.Node) string {
	users := r.sys.Users([]string{n.Path})
	var mu sync.Mutex
	var named []string
	var wg sync.WaitGroup
	for _, u := range users {
		wg.Go(func() {
			who := fmt.Sprintf("%s (pid %d, %s)", u.Comm, u.PID, u.How)
			said := ""
			start := time.Now()
			switch {
			case r.end(ctx, u, syscall.SIGTERM, termPatience) == nil:
				r.tell(Event{Op: "process", Object: who, State: "done", Reason: "used " + n.Name, Took: time.Since(start)})
				return
			case r.end(ctx, u, syscall.SIGKILL, killPatience) == nil:
				said = who + " ignored SIGTERM and was killed"
			default:
				said = who + " cannot be killed"
			}
			r.tell(Event{Op: "process", Object: who, State: "failed", Reason: "used " + n.Name + "; " + said, Took: time.Since(start)})
			mu.Lock()
			named = append(named, said)
			mu.Unlock()
		})
	}
	wg.Wait()
	slices.Sort(named)
	return strings.Join(named, ", ")
}

func (r *run) end(ctx context.Context, u stack.User, sig syscall.Signal, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return r.sys.End(ctx, u, sig)
}

// force saves what can be saved of mounts that did not go: read-only, or at
// least detached. Deepest points first.
func (r *run) force(ctx context.Context) {
	s, err := r.sys.Read()
	if err != nil {
		return
	}
	for i := len(s.Nodes) - 1; i >= 0; i-- {
		n := s.Nodes[i]
		if n.Kind != stack.Mount || n.Keep != "" {
			continue
		}
		if r.do(ctx, Job{Op: OpReadOnly, Path: n.Path}, n.Name) != nil {
			_ = r.do(ctx, Job{Op: OpLazy, Path: n.Path}, n.Name) // told there
		}
	}
}

// left lists what is still there, with the reason where one was seen.
func (r *run) left() []Left {
	s, err := r.sys.Read()
	if err != nil {
		return []Left{{Object: "the live stack", Reason: err.Error()}}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []Left
	for _, n := range s.Nodes {
		if n.Keep != "" {
			continue
		}
		reason := r.failed[n.ID]
		if reason == "" {
			reason = "something on top of it is still there, or the time was over"
		}
		list = append(list, Left{Object: n.Name, Reason: reason})
	}
	return list
}
