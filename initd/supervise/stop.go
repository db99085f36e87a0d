package supervise

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Stuck is the error of a service that SIGKILL does not end: it sleeps in the
// kernel.
type Stuck struct {
	Name  string
	PID   int
	Wchan string // the kernel function it sleeps in, if that can be seen
}

func (e *Stuck) Error() string {
	return fmt.Sprintf("stop %s: process %d sleeps in the kernel (%s) and cannot be ended", e.Name, e.PID, e.Wchan)
}

// killTime is how long a killed service may take to end.
const killTime = 5 * time.Second

// Stop ends a service and whatever is left in its cgroup: its signal, then
// SIGKILL after its timeout. One that does not run is no error.
func (m *Manager) Stop(ctx context.Context, name string) error {
	u := m.known(name)
	if u == nil {
		return nil
	}
	u.mu.Lock()
	if u.retry != nil {
		u.retry.Stop()
	}
	was := u.phase
	def := u.def.withDefaults()
	idle := was == Down || was == Failed || was == Waiting || was == Skipped
	if was != Stopping {
		u.move(Stopping, "being stopped")
	}
	if u.proc != nil {
		u.proc.cancel()
	}
	p := u.proc
	u.mu.Unlock()
	if idle {
		u.release()
		u.mu.Lock()
		defer u.mu.Unlock()
		u.move(Down, "stopped")
		return nil
	}
	sig, err := parseSignal(def.Stop.Signal)
	if err != nil {
		sig = unix.SIGTERM
	}
	if p != nil {
		u.signal(ctx, p, sig, false)
	} // else it is being spawned, and killed then
	if u.wait(ctx, def.Stop.Timeout) {
		return nil
	}
	u.mu.Lock()
	p = u.proc
	u.because(fmt.Sprintf("did not end within %s of SIG%s: killed", def.Stop.Timeout, strings.TrimPrefix(strings.ToUpper(def.Stop.Signal), "SIG")))
	u.mu.Unlock()
	if p != nil {
		u.signal(ctx, p, unix.SIGKILL, true)
	}
	if u.wait(ctx, killTime) {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("stop %s: %w", name, context.Cause(ctx))
	}
	pid := 0
	if p != nil {
		pid = p.PID
	}
	return &Stuck{Name: name, PID: pid, Wchan: wchan(pid)}
}

func (u *unit) signal(ctx context.Context, p *proc, s syscall.Signal, whole bool) {
	err := u.m.init.Signal(ctx, p.ID, s, whole)
	if err != nil && whole { // without cgroups: the process at least
		_ = u.m.init.Signal(ctx, p.ID, s, false)
	}
}

// wait waits for the service to be down.
func (u *unit) wait(ctx context.Context, limit time.Duration) bool {
	t := time.NewTimer(limit)
	defer t.Stop()
	for {
		u.mu.Lock()
		down, moved := u.phase == Down, u.moved
		u.mu.Unlock()
		if down {
			return true
		}
		select {
		case <-moved:
		case <-t.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

func wchan(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", pid))
	if err != nil || len(b) == 0 || string(b) == "0" {
		return "unknown"
	}
	return string(b)
}

// StopAll stops services in waves: those of one wave together, a wave after
// the one before has ended. It returns what could not be stopped.
func (m *Manager) StopAll(ctx context.Context, waves [][]string) []error {
	var failed []error
	for _, wave := range waves {
		var mu sync.Mutex
		var wg sync.WaitGroup
		for _, name := range wave {
			wg.Go(func() {
				if err := m.Stop(ctx, name); err != nil {
					mu.Lock()
					defer mu.Unlock()
					failed = append(failed, err)
				}
			})
		}
		wg.Wait()
	}
	return failed
}
