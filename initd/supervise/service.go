// Package supervise runs the services of an appliance through init: start and
// readiness, restart, stop, logs, and their adoption by the next orchestrator.
//
// It owns the state of each service and what is said about it. The processes
// are init's: it is their parent and reaper, and hands descriptors on, so
// that services live through the death of this process. This package never
// forks, and never asks the kernel about a path that may lie on a device
// (Options.Exists does, in a child).
package supervise

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Service says how a daemon is run. It stays in the foreground.
type Service struct {
	Name    string            `json:"name"`
	Command []string          `json:"command"` // the program: an absolute path, or a name that is looked for in PATH
	User    string            `json:"user,omitempty"`
	Group   string            `json:"group,omitempty"`
	Env     map[string]string `json:"env,omitempty"` // never a secret
	Dir     string            `json:"dir,omitempty"`
	// Conditions are paths without which it is skipped, which is no failure.
	Conditions  []string `json:"conditions,omitempty"`
	Ready       Ready    `json:"ready"`
	Restart     Restart  `json:"restart"`
	Stop        Stop     `json:"stop"`
	SuccessExit []int    `json:"success-exit,omitempty"` // besides 0
	NoNewPrivs  bool     `json:"no-new-privs,omitempty"`
}

// Ready says how readiness shows; at most one field is set. None: the service
// is ready as soon as its program has been loaded.
type Ready struct {
	Exec   []string `json:"exec,omitempty"`   // exits 0 once the service is ready
	TCP    string   `json:"tcp,omitempty"`    // HOST:PORT that accepts connections
	Notify bool     `json:"notify,omitempty"` // it sends READY=1, as sd_notify(3)
	File   string   `json:"file,omitempty"`   // path that appears
}

// Restart says what follows the end of a service. Zero values: on-failure,
// 100 ms growing to 30 s, without a limit.
type Restart struct {
	When  string        `json:"when,omitempty"` // on-failure, always, never
	First time.Duration `json:"first,omitempty"`
	Max   time.Duration `json:"max,omitempty"`
	Limit int           `json:"limit,omitempty"` // restarts in a row before it counts as failed
}

// Stop says how a service is asked to end. Zero values: TERM, 10 s, then
// everything in its cgroup is killed.
type Stop struct {
	Signal  string        `json:"signal,omitempty"` // TERM or SIGTERM
	Timeout time.Duration `json:"timeout,omitempty"`
}

// withDefaults fills in what was left out.
func (s Service) withDefaults() Service {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	if s.Restart.When == "" {
		s.Restart.When = OnFailure
	}
	def(&s.Restart.First, 100*time.Millisecond)
	def(&s.Restart.Max, 30*time.Second)
	if s.Stop.Signal == "" {
		s.Stop.Signal = "TERM"
	}
	def(&s.Stop.Timeout, 10*time.Second)
	return s
}

// The values of Restart.When.
const (
	OnFailure = "on-failure"
	Always    = "always"
	Never     = "never"
)

// check finds what could only fail later.
func (s Service) check() error {
	switch {
	case s.Name == "" || strings.ContainsAny(s.Name, "/\x00") || strings.HasPrefix(s.Name, ".") || len(s.Name) > maxName:
		return fmt.Errorf("service %q: want a name of at most %d bytes without a slash", s.Name, maxName)
	case len(s.Command) == 0:
		return fmt.Errorf("service %s: the command is empty", s.Name)
	case s.Restart.When != OnFailure && s.Restart.When != Always && s.Restart.When != Never:
		return fmt.Errorf("service %s: restart is %q, want on-failure, always or never", s.Name, s.Restart.When)
	}
	if _, err := parseSignal(s.Stop.Signal); err != nil {
		return fmt.Errorf("service %s: %w", s.Name, err)
	}
	return nil
}

// maxName leaves room in init's names for what belongs to a service.
const maxName = 40

func parseSignal(name string) (syscall.Signal, error) {
	up := strings.ToUpper(name)
	if !strings.HasPrefix(up, "SIG") {
		up = "SIG" + up
	}
	if n := unix.SignalNum(up); n != 0 {
		return n, nil
	}
	return 0, fmt.Errorf("%q is no signal", name)
}

// digest tells one definition from another.
func (s Service) digest() string {
	b, err := json.Marshal(s) // maps are sorted
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
