package supervise

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// ErrDifferent is the error of starting a service that runs already with
// another definition.
var ErrDifferent = errors.New("it runs with another definition; stop it first")

// ErrSkipped is the error of a service whose conditions do not hold.
var ErrSkipped = errors.New("skipped")

// Found is what Check sees.
type Found string

// The answers of Check.
const (
	Absent    Found = "absent"    // it does not run
	Partial   Found = "partial"   // it runs and is not ready, or waits to be started again
	Same      Found = "same"      // it runs and is ready
	Different Found = "different" // it runs with another definition
)

// Check tells whether a service runs as s says.
func (m *Manager) Check(s Service) (found Found, reason string) {
	u := m.known(s.Name)
	if u == nil {
		return Absent, ""
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.phase == Down || u.phase == Failed || u.phase == Skipped:
		return Absent, u.reason
	case u.digest != "" && u.digest != s.withDefaults().digest():
		return Different, ErrDifferent.Error()
	case u.phase == Running:
		return Same, ""
	}
	return Partial, u.reason
}

// Start starts a service and returns once it is ready. waiting hears what is
// still missing, with the service's name before it. One that runs already is
// only waited for. When ctx ends first the service goes on; Stop ends it.
func (m *Manager) Start(ctx context.Context, s Service, waiting func(string)) error {
	s = s.withDefaults()
	if err := s.check(); err != nil {
		return err
	}
	if err := m.hold(ctx, s); err != nil {
		return err
	}
	u := m.unit(s.Name)
	if err := u.begin(s); err != nil {
		return fmt.Errorf("start %s: %w", s.Name, err)
	}
	told := ""
	for {
		u.mu.Lock()
		phase, reason, moved := u.phase, u.reason, u.moved
		u.mu.Unlock()
		switch phase {
		case Running:
			return nil
		case Down, Failed:
			return fmt.Errorf("start %s: %s", s.Name, reason)
		}
		if reason != told && waiting != nil {
			waiting(s.Name + ": " + reason)
			told = reason
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("start %s: %s: %w", s.Name, reason, context.Cause(ctx))
		}
	}
}

// hold looks at the conditions.
func (m *Manager) hold(ctx context.Context, s Service) error {
	for _, path := range s.Conditions {
		ok, err := m.opt.Exists(ctx, path)
		if err != nil {
			return fmt.Errorf("start %s: look for %s: %w", s.Name, path, err)
		}
		if !ok {
			u := m.unit(s.Name)
			u.mu.Lock()
			defer u.mu.Unlock()
			if u.phase == Down || u.phase == Failed {
				u.move(Skipped, path+" is not there")
			}
			return fmt.Errorf("start %s: %w: %s is not there", s.Name, ErrSkipped, path)
		}
	}
	return nil
}

// begin starts the service, unless it runs.
func (u *unit) begin(s Service) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch u.phase {
	case Down, Failed, Skipped:
	case Stopping:
		if err := u.stuck(u.proc); err != nil {
			return err
		}
		return errors.New("it is being stopped")
	default:
		if u.digest != "" && u.digest != s.digest() {
			return ErrDifferent
		}
		if u.digest == "" { // adopted: only now is it known how readiness shows
			u.def, u.digest = s, s.digest()
			u.save()
			if u.phase == Starting {
				u.await()
			}
		}
		return nil
	}
	u.def, u.digest, u.restarts, u.adopted = s, s.digest(), 0, false
	u.launch()
	return nil
}

// launch spawns the process; mu is held.
func (u *unit) launch() {
	u.text = ""
	u.move(Loading, "waiting for "+u.def.Command[0]+" to be loaded")
	go u.spawned()
}

// spawned asks init for the process and takes it over.
func (u *unit) spawned() {
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	p, err := u.spawn(ctx)
	if err != nil {
		u.mu.Lock()
		stopping := u.phase == Stopping
		u.mu.Unlock()
		if stopping {
			u.release()
		}
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.phase == Stopping {
			u.move(Down, err.Error())
			return
		}
		u.move(Failed, err.Error())
		return
	}
	u.mu.Lock()
	u.proc = &proc{Process: p, started: time.Now(), cancel: func() {}}
	u.save()
	u.stir() // it has a pid now
	stop := u.phase == Stopping
	u.mu.Unlock()
	u.m.own(p.ID, u)
	if stop {
		_ = u.m.init.Signal(ctx, p.ID, unix.SIGKILL, false) // it has just begun
	}
}
