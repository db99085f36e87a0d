// Package shutdown takes a running machine down: services first, then
// processes, then what is set up on it, holders first and in parallel, within
// a budget, and always to an end.
//
// It owns the phases and their shares of the budget, and what is done about
// something that is busy. What stands on what is read anew from the live
// system after every step (stack), whoever set it up; the order is order's.
// It never takes the root down and never reboots: init does, when Run returns.
package shutdown

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"initd/shutdown/stack"
)

// Ops of a Job.
const (
	OpUnmount  = "unmount"
	OpLazy     = "unmount-lazy"
	OpReadOnly = "remount-read-only"
	OpDM       = "remove-dm"
	OpLoop     = "detach-loop"
	OpMD       = "stop-array"
	OpSwap     = "swapoff"
	OpNVMe     = "disconnect-nvme"
	OpISCSI    = "log-out-iscsi"
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
	// Users finds who uses what lies at or below points (folders, or nodes of devices); never the callers' own processes.
	Users(points []string) []stack.User
	// Everyone lists the processes that are to be ended before the stack goes down, whatever they use; none where
	// processes are somebody else's.
	Everyone() []stack.User
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
	State  string        // started, done, failed, stuck (a process of it cannot be ended)
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

// The shares of the budget, in percent of the whole, at which a phase ends. A
// phase that is through earlier leaves its time to those after it.
const (
	servicesEnd  = 40 // services have stopped, or were killed
	processesEnd = 50 // so have all other processes
	stackEnd     = 80 // the stack is down, users of busy mounts were ended
	forceEnd     = 92 // what is left is read-only or detached
	// The rest is for sync.
)

// Run takes the machine down. It returns within the budget, or earlier when
// ctx ends; tell is called from several goroutines, one at a time.
func Run(ctx context.Context, budget time.Duration, sys System, tell func(Event)) Result {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	var telling sync.Mutex
	r := &run{sys: sys, tries: map[string]*try{}, tell: func(e Event) {
		telling.Lock()
		defer telling.Unlock()
		tell(e)
	}}
	phase := func(percent int, act func(context.Context)) {
		c, done := context.WithDeadline(ctx, start.Add(budget*time.Duration(percent)/100))
		defer done()
		act(c)
	}
	phase(servicesEnd, r.services)
	phase(processesEnd, r.processes)
	phase(stackEnd, r.takeDown)
	phase(forceEnd, r.force)
	_ = r.do(ctx, Job{Op: OpSync}, "all file systems") // told there
	res := Result{Left: r.left(), Took: time.Since(start)}
	for _, l := range res.Left {
		r.tell(Event{Op: "left", Object: l.Object, State: "failed", Reason: l.Reason})
	}
	return res
}

type run struct {
	sys  System
	tell func(Event)

	mu sync.Mutex
	// tries is what was tried on each node, by its key; guarded by mu.
	tries map[string]*try
	// progress counts what has gone; guarded by mu.
	progress int
	// unseen are mounts that are out of the kernel's table and yet not through:
	// detached in use, or with an unmount that never came back (it takes the
	// mount out first, then writes); guarded by mu.
	unseen []Left
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

// do runs one job and tells of it.
func (r *run) do(ctx context.Context, j Job, object string) error {
	start := time.Now()
	err := r.sys.Do(ctx, j)
	e := Event{Op: j.Op, Object: object, State: "done", Took: time.Since(start)}
	if err != nil {
		e.State, e.Reason = "failed", err.Error()
	}
	if s := (interface{ Stuck() (int, string) })(nil); errors.As(err, &s) {
		e.State = "stuck"
	}
	r.tell(e)
	return err
}

// left lists what is still there, with the reason where one was seen.
func (r *run) left() []Left {
	s, err := r.sys.Read()
	if err != nil {
		return []Left{{Object: "the live stack", Reason: err.Error()}}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	list := slices.Clone(r.unseen)
	for _, n := range s.Nodes {
		if n.Keep != "" || slices.ContainsFunc(list, func(l Left) bool { return l.Object == n.Name }) {
			continue
		}
		reason := "something on top of it is still there, or the time was over"
		if t := r.tries[key(n)]; t != nil {
			reason = t.reason
		}
		list = append(list, Left{Object: n.Name, Reason: reason})
	}
	return list
}
