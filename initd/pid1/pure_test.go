package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"initd/initd/pid1/wire"
)

func TestKernelCommandLine(t *testing.T) {
	usual := func(change func(*settings)) settings {
		s := settings{failureTime: defaultFailureTime, watchdog: "/dev/watchdog"}
		change(&s)
		return s
	}
	for _, row := range []struct {
		name, line string
		want       settings
	}{
		{"nothing for init", "root=/dev/vda quiet initd.mode=x\n", usual(func(*settings) {})},
		{"everything", "initd.exe=/x initd.debug initd.failure-time=90s initd.watchdog=/dev/watchdog1", usual(func(s *settings) {
			s.exe, s.debug, s.failureTime, s.watchdog = "/x", true, 90*time.Second, "/dev/watchdog1"
		})},
		{"a failure for ever and no watchdog", "initd.failure-time=0 initd.watchdog=off", usual(func(s *settings) { s.failureTime, s.watchdog = 0, "" })},
		{"a watchdog's own time", "initd.watchdog-time=10s", usual(func(s *settings) { s.watchdogTime = 10 * time.Second })},
		{"what cannot be is said and left out", "initd.exe=x initd.failure-time=-1s initd.watchdog=y initd.watchdog-time=0", usual(func(s *settings) {
			s.ignored = []string{"initd.exe=x ignored: want an absolute path", "initd.failure-time=-1s ignored: want a time like 10m",
				"initd.watchdog=y ignored: want a device or off", "initd.watchdog-time=0 ignored: want a time of a second or more, like 60s"}
		})},
		{"a locked image ignores all of it", "initd.exe=/x initd.locked initd.debug", usual(func(s *settings) {
			s.ignored = []string{"initd.exe ignored: the image is locked", "initd.debug ignored: the image is locked"}
		})},
	} {
		if diff := cmp.Diff(row.want, parseSettings(row.line), cmp.AllowUnexported(settings{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", row.name, diff)
		}
	}
}

func TestDeathsOfTheOrchestrator(t *testing.T) {
	start := time.Unix(1000, 0)
	type step struct {
		after   time.Duration
		wait    time.Duration
		failing bool
	}
	for name, steps := range map[string][]step{
		"one is an accident": {{0, 0, false}},
		"five at once are a crash loop, which stays one": {
			{0, 0, false}, {0, 100 * time.Millisecond, false}, {0, 400 * time.Millisecond, false}, {0, 1600 * time.Millisecond, false},
			{0, crashPause, true}, {time.Hour, crashPause, true}},
		"one in a while never is": {{0, 0, false}, {crashWindow, 0, false}, {crashWindow, 0, false}, {crashWindow, 0, false}, {crashWindow, 0, false}},
	} {
		var c crashes
		now := start
		for i, s := range steps {
			now = now.Add(s.after)
			if wait, failing := c.add(now); wait != s.wait || failing != s.failing {
				t.Errorf("%s: death %d: got %v %v, want %v %v", name, i+1, wait, failing, s.wait, s.failing)
			}
		}
	}
}

func TestWhichOrchestratorIsNext(t *testing.T) {
	p := newPaths("/x")
	p.failed(true)
	if p.current() != "/x" {
		t.Errorf("after one death: %s", p.current())
	}
	p.failed(true)
	if p.current() != usualExe {
		t.Errorf("after two deaths: %s", p.current())
	}
	for i, want := range []bool{true, true, false} {
		if again := p.failed(false); again != want {
			t.Errorf("place %d that cannot be loaded: again %v, want %v", i+1, again, want)
		}
	}
	p.proven()
	p.upgrade("/new")
	if diff := cmp.Diff([]string{"/new", usualExe, "/x", spareExe}, p.list); diff != "" || p.current() != "/new" {
		t.Errorf("after an upgrade: %s of (-want +got)\n%s", p.current(), diff)
	}
	for range 20 {
		p.upgrade("/new" + p.current())
	}
	if len(p.list) > maxPaths {
		t.Errorf("%d paths", len(p.list))
	}
}

func TestWhatSignalsAsk(t *testing.T) {
	for s, want := range map[unix.Signal]wire.Kind{
		unix.SIGINT: wire.KindReboot, unix.SIGTERM: wire.KindReboot, unix.SIGUSR1: wire.KindHalt, unix.SIGUSR2: wire.KindPowerOff,
		37: wire.KindHalt, 38: wire.KindPowerOff, 39: wire.KindReboot, 40: wire.KindKExec, unix.SIGPWR: wire.KindPowerOff,
		unix.SIGHUP: 0, unix.SIGWINCH: 0, unix.SIGPIPE: 0, 64: 0,
	} {
		if got, _ := asks(s); got != want {
			t.Errorf("signal %d: got %v, want %v", s, got, want)
		}
	}
}
