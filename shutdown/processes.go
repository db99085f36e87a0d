package shutdown

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"initd/hw/process"
	"initd/shutdown/stack"
)

// Patience with a process: so long for SIGTERM, then so long for SIGKILL.
const (
	termPatience = 3 * time.Second
	killPatience = 2 * time.Second
)

// processes ends who is left when the services have stopped: a shell, a daemon
// that somebody started by hand.
func (r *run) processes(ctx context.Context) {
	if users := r.sys.Everyone(); len(users) > 0 {
		r.endAll(ctx, users, "")
	}
}

// endAll ends processes, all at once, and names those that had to be killed or
// could not be. why is told with each.
func (r *run) endAll(ctx context.Context, users []stack.User, why string) string {
	var mu sync.Mutex
	var named []string
	var wg sync.WaitGroup
	for _, u := range users {
		wg.Go(func() {
			if said := r.endOne(ctx, u, why); said != "" {
				mu.Lock()
				defer mu.Unlock()
				named = append(named, said)
			}
		})
	}
	wg.Wait()
	slices.Sort(named)
	return strings.Join(named, ", ")
}

// endOne ends one process; what it returns names one that did not end when it
// was asked to.
func (r *run) endOne(ctx context.Context, u stack.User, why string) string {
	who := fmt.Sprintf("%s (pid %d, %s)", u.Comm, u.PID, u.How)
	if u.How == "" {
		who = fmt.Sprintf("%s (pid %d)", u.Comm, u.PID)
	}
	start := time.Now()
	e := Event{Op: "process", Object: who, State: "done", Reason: why}
	said := ""
	switch {
	case r.end(ctx, u, syscall.SIGTERM, termPatience) == nil:
	case r.end(ctx, u, syscall.SIGKILL, killPatience) == nil:
		said = who + " ignored SIGTERM and was killed"
	default:
		said = who + " cannot be killed"
		if wchan, asleep := process.Asleep(u.PID); asleep {
			said += ": it sleeps in the kernel (" + wchan + ")"
			e.State = "stuck"
		}
	}
	if said != "" {
		if e.State == "done" {
			e.State = "failed"
		}
		e.Reason = strings.TrimPrefix(why+"; "+said, "; ")
	}
	e.Took = time.Since(start)
	r.tell(e)
	return said
}

func (r *run) end(ctx context.Context, u stack.User, sig syscall.Signal, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return r.sys.End(ctx, u, sig)
}
