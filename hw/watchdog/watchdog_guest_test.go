//go:build guest

package watchdog

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The machine has softdog, without nowayout. If any of this goes wrong the machine resets, and every test of it fails.
const (
	device = "/dev/watchdog0"
	sys    = "/sys"
)

func state(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/sys/class/watchdog/watchdog0/state")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func open(t *testing.T) *Device {
	t.Helper()
	d, err := Open(device, sys)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestFeedingKeepsTheMachineAliveAndStoppingDisarms(t *testing.T) {
	d := open(t)
	if d.Identity() != "Software Watchdog" || !d.CanStop() {
		t.Errorf("got %q, can stop: %v", d.Identity(), d.CanStop())
	}
	if _, err := Open(device, sys); !errors.Is(err, unix.EBUSY) {
		t.Errorf("a second opening: got %v, want EBUSY", err)
	}
	granted, err := d.SetTimeout(3500 * time.Millisecond)
	if err != nil || granted != 4*time.Second {
		t.Errorf("timeout: got %v, %v; want 4s", granted, err)
	}
	if _, err := d.TimeLeft(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("time left: got %v", err)
	}
	if cause, err := d.BootStatus(); err != nil || cause != 0 {
		t.Errorf("boot status: got %q, %v; want none", cause, err)
	}
	// Longer than the timeout, fed much more often than needed: the machine that runs this may be slow.
	feed, end := time.NewTicker(100*time.Millisecond), time.NewTimer(6*time.Second)
	defer feed.Stop()
	for done := false; !done; {
		select {
		case <-feed.C:
			if err := d.Feed(); err != nil {
				t.Fatal(err)
			}
		case <-end.C:
			done = true
		}
	}
	if got := state(t); got != "active" {
		t.Errorf("state while open: got %q", got)
	}
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	if got := state(t); got != "inactive" {
		t.Errorf("state after Stop: got %q", got)
	}
}

func TestASuccessorTakesOverWhatWasLeftArmed(t *testing.T) {
	granted, err := open(t).Leave(5 * time.Minute)
	if err != nil || granted != 5*time.Minute {
		t.Fatalf("leave: got %v, %v; want 5 minutes", granted, err)
	}
	if got := state(t); got != "active" {
		t.Errorf("state after Leave: got %q", got)
	}
	d := open(t)
	if left, err := d.Timeout(); err != nil || left != 5*time.Minute {
		t.Errorf("timeout: got %v, %v; want what was left", left, err)
	}
	kept, err := From(d.File(), sys)
	if err != nil {
		t.Fatal(err)
	}
	if err := kept.Stop(); err != nil {
		t.Fatal(err)
	}
}

// nowayout cannot be set back, so this test is the last of the file; the timeout is longer than the machine lives.
func TestAWatchdogWithoutAWayOutStaysArmedAndOpen(t *testing.T) {
	d := open(t)
	if err := os.WriteFile("/sys/class/watchdog/watchdog0/nowayout", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := d.SetTimeout(12 * time.Hour); err != nil {
		t.Fatal(err)
	}
	d, err := From(d.File(), sys)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Stop(); !errors.Is(err, ErrNoWayOut) {
		t.Errorf("stop: got %v, want ErrNoWayOut", err)
	}
	if err := d.Feed(); err != nil {
		t.Errorf("feed after a refused stop: %v", err)
	}
	if _, err := d.Leave(12 * time.Hour); err != nil {
		t.Error(err)
	}
}
