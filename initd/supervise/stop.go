package supervise

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"initd/hw/process"
)

// Stuck is the error of a service that SIGKILL does not end: it sleeps in the
// kernel.
type Stuck struct {
	Name  string
	PID   int
	Wchan string // the kernel function it sleeps in, if that can be seen

	freed <-chan struct{}
}

func (e *Stuck) Error() string {
	return fmt.Sprintf("stop %s: process %d sleeps in the kernel (%s) and cannot be ended", e.Name, e.PID, e.Wchan)
}

// Stuck returns what the report shows.
func (e *Stuck) Stuck() (pid int, wchan string) { return e.PID, e.Wchan }

// Freed is closed when the service is down after all.
func (e *Stuck) Freed() <-chan struct{} { return e.freed }

// Code returns the stable code of this error.
func (e *Stuck) Code() string { return "SERVICE-STUCK" }

// stuck is the error if the service's process sleeps so that it cannot be
// ended; nil if it does not.
func (u *unit) stuck(p *proc) error {
	if p == nil {
		return nil
	}
	wchan, asleep := process.Asleep(p.PID)
	if !asleep {
		return nil
	}
	freed := make(chan struct{})
	go func() {
		u.awaitDown()
		close(freed)
	}()
	return &Stuck{Name: u.name, PID: p.PID, Wchan: wchan, freed: freed}
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
	if p != nil && was != Loading { // else nobody is there who could end in order
		u.signal(ctx, p, sig, false)
	} // without a process it is being spawned, and killed then
	if was != Loading && u.wait(ctx, def.Stop.Timeout) {
		return nil
	}
	u.mu.Lock()
	p = u.proc
	if was != Loading {
		u.because(fmt.Sprintf("did not end within %s of SIG%s: killed", def.Stop.Timeout, strings.TrimPrefix(strings.ToUpper(def.Stop.Signal), "SIG")))
	}
	u.mu.Unlock()
	if p != nil {
		u.signal(ctx, p, unix.SIGKILL, true)
	}
	if u.wait(ctx, killTime) {
		return nil
	}
	if err := u.stuck(p); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("stop %s: %w", name, context.Cause(ctx))
	}
	return fmt.Errorf("stop %s: no end within %s of SIGKILL", name, killTime)
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

// awaitDown waits for the service to be down, however long that takes.
func (u *unit) awaitDown() {
	for {
		u.mu.Lock()
		down, moved := u.phase == Down, u.moved
		u.mu.Unlock()
		if down {
			return
		}
		<-moved
	}
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
