// Package handover is what passes from an initramfs to the root that it hands
// the machine over to, by files below /run, which goes along.
//
// It owns those files: the plan for the orchestrator that lives on, what the
// new root's systemd, networkd and udev have to know, and the lock by which
// one orchestrator leads where no init of ours does. It never switches the
// root: init does (initd/pid1).
package handover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"initd/boot/plan"
)

// Schema is the version of State; fields are only ever added.
const Schema = "initd.handover/v1"

// State is what the orchestrator in the new root goes on with. It holds no
// secret.
type State struct {
	Schema     string     `json:"schema"`
	Generation uint64     `json:"generation"` // of the orchestrator that handed over
	Root       string     `json:"root"`       // where the root was mounted
	Init       string     `json:"init"`       // as the root sees it
	Config     string     `json:"config"`     // folder of the appliance file, in the initramfs
	Plan       *plan.Plan `json:"plan"`
}

func stateFile(run string) string { return filepath.Join(run, "handover.json") }

// Save writes s below run (/run/initd).
func Save(run string, s State) error {
	s.Schema = Schema
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("hand over: %w", err)
	}
	if err := renameio.WriteFile(stateFile(run), b, 0o600, renameio.WithTempDir(run)); err != nil {
		return fmt.Errorf("hand over: %w", err)
	}
	return nil
}

// Load reads what Save wrote; nil without an error if there is nothing. A
// state of another version is an error: nothing of it is believed.
func Load(run string) (*State, error) {
	b, err := os.ReadFile(stateFile(run))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what was handed over: %w", err)
	}
	var s State
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("read what was handed over: %s: %w", stateFile(run), err)
	}
	if s.Schema != Schema || s.Plan == nil || s.Plan.Schema != plan.Schema {
		return nil, fmt.Errorf("read what was handed over: %s is of another version (%q)", stateFile(run), s.Schema)
	}
	return &s, nil
}

// Lead waits until this process is the one orchestrator, and makes it that for
// as long as it lives: the kernel takes the lock from a dead one.
func Lead(ctx context.Context, run string) error {
	name := filepath.Join(run, "orchestrator.lock")
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("wait to lead: open %s: %w", name, err)
	}
	locked := make(chan error, 1)
	go func() {
		for {
			err := unix.Flock(fd, unix.LOCK_EX)
			if !errors.Is(err, unix.EINTR) {
				locked <- err
				return
			}
		}
	}()
	select {
	case err := <-locked:
		if err != nil {
			unix.Close(fd)
			return fmt.Errorf("wait to lead: lock %s: %w", name, err)
		}
		return nil // the descriptor stays open: it is the lock
	case <-ctx.Done():
		go func() { // flock(2) cannot be called off: what it gets later is given back
			<-locked
			unix.Close(fd)
		}()
		return fmt.Errorf("wait to lead: %w", context.Cause(ctx))
	}
}

// Unit is the systemd unit that waits beside the orchestrator that init
// started, leads when that has died, and is started again when it dies itself.
// Nothing orders or stops it: what it keeps is below everything else.
const Unit = `[Unit]
Description=initd, which keeps what it opened before this root
DefaultDependencies=no
IgnoreOnIsolate=yes
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart=@/run/initd/bin/initd @initd boot --adopt
Restart=always
RestartSec=1s
OOMScoreAdjust=-900
`

// Link is a network interface that initd keeps configured.
type Link struct {
	Name   string // in the appliance file
	Kernel string // the interface's name
}

// Prepare writes below runtime (/run) what the new root's systemd, networkd
// and udev have to know: the unit, and that the links are somebody's and keep
// their names. checked tells that the root's file system has been checked.
func Prepare(runtime string, links []Link, checked bool) error {
	files := map[string]string{"systemd/system/initd.service": Unit}
	for _, l := range links {
		base := "systemd/network/05-initd-" + l.Name
		files[base+".network"] = "# initd keeps this link: its addresses and leases are under this root.\n" +
			"[Match]\nName=" + l.Kernel + "\n\n[Link]\nUnmanaged=yes\n"
		// Without a policy the name stays (systemd.link(5)): a lease is kept by it.
		files[base+".link"] = "[Match]\nOriginalName=" + l.Kernel + "\n\n[Link]\nNamePolicy=\n"
	}
	if checked {
		files["initramfs/fsck-root"] = "" // systemd-fsck-root.service(8): not again
	}
	for name, text := range files {
		file := filepath.Join(runtime, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return fmt.Errorf("prepare the new root's systemd: %w", err)
		}
		if err := renameio.WriteFile(file, []byte(text), 0o644, renameio.WithTempDir(filepath.Dir(file))); err != nil {
			return fmt.Errorf("prepare the new root's systemd: %w", err)
		}
	}
	wants := filepath.Join(runtime, "systemd/system/sysinit.target.wants")
	if err := os.MkdirAll(wants, 0o755); err != nil {
		return fmt.Errorf("prepare the new root's systemd: %w", err)
	}
	err := os.Symlink("../initd.service", filepath.Join(wants, "initd.service"))
	if err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("prepare the new root's systemd: %w", err)
	}
	return nil
}

// InitName is what PID 1 calls itself: "systemd".
func InitName(proc string) string {
	b, err := os.ReadFile(filepath.Join(proc, "1/comm"))
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}
