package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"initd/initd/pid1/client"
	"initd/initd/pid1/pid1test"
	"initd/initd/pid1/wire"
)

func consoleSays(m *pid1test.Machine, text string) {
	m.Until("the console to say "+text, func() bool { return strings.Contains(m.Console(), text) })
}

func TestACrashLoopEndsAtTheFailureScreenAndServicesLive(t *testing.T) {
	m := pid1test.Boot(t, pid1test.Options{})
	o, c := lead(t, m)
	alive := spawn(t, c, "alive", role("wait"))
	running(t, c, alive.ID)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := c.Store(deadline(t), "log/flood", wire.FlagDrain, r); err != nil {
		t.Fatal(err)
	}
	spec := role("flood")
	spec.Files = []uint32{1}
	flooding := spawn(t, c, "flood", spec, w)
	w.Close()
	running(t, c, flooding.ID)
	o.Exit(3)
	for range 4 {
		m.Next().Exit(3)
	}
	consoleSays(m, "does not stay up")
	consoleSays(m, "(2 run)")
	consoleSays(m, "generation 5: exit status 3")
	written := func() string { return procIO(t, m, flooding) }
	before := written()
	m.Until("the log that nobody reads to be drained", func() bool { return written() != before })
	m.Type("\n")
	_, c = lead(t, m)
	if h := c.Hello(); h.Generation != 6 || h.Deaths != 5 {
		t.Errorf("hello: %+v", h)
	}
	ps, _, err := c.List(deadline(t))
	if err != nil || len(ps) != 2 || ps[0].PID != uint32(alive.PID) || ps[1].PID != uint32(flooding.PID) {
		t.Errorf("listed %+v, %v", ps, err)
	}
}

// procIO returns what a process has written so far, as /proc/PID/io says.
func procIO(t *testing.T, m *pid1test.Machine, p client.Process) string {
	t.Helper()
	b, err := os.ReadFile(m.Path(fmt.Sprintf("/proc/%d/io", p.PID)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestWithoutAWatchdogNobodyComingMeansReset(t *testing.T) {
	m := pid1test.Boot(t, pid1test.Options{CommandLine: "quiet initd.failure-time=1s"})
	for range 5 {
		m.Next().Exit(1)
	}
	ends(t, m, wire.KindReboot)
	if !strings.Contains(m.Console(), "nobody came: reset") {
		t.Error("the console does not say why")
	}
}

// silent is an orchestrator that has said hello, names 300 ms as its heartbeat's limit, and gives none.
func silent(t *testing.T, m *pid1test.Machine) *client.Client {
	t.Helper()
	c, err := client.New(deadline(t), m.Next().Conn, 300*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestASilentOrchestratorIsReplaced(t *testing.T) {
	m := pid1test.Boot(t, pid1test.Options{})
	c := silent(t, m)
	_, c2 := lead(t, m)
	if e := event(t, c2, wire.EventNote); e.Text == "" {
		t.Error("no reason is given")
	}
	consoleSays(m, "generation 1 killed: no heartbeat for")
	select {
	case <-c.Done():
	case <-time.After(pid1test.Guard):
		t.Error("the replaced one still has its link")
	}
	if err := c.Heartbeat(); !errors.Is(err, client.ErrLost) {
		t.Errorf("heartbeat of a replaced one: %v", err)
	}
}

// What comes from others than the engine's own loop is no heartbeat.
func TestABusyOrchestratorWithoutAHeartbeatIsReplaced(t *testing.T) {
	m := pid1test.Boot(t, pid1test.Options{})
	o := m.Next()
	c, err := client.New(deadline(t), o.Conn, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	asking := make(chan struct{})
	go func() {
		defer close(asking)
		for {
			if _, _, err := c.List(deadline(t)); err != nil {
				return
			}
		}
	}()
	lead(t, m)
	<-asking
	consoleSays(m, "generation 1 killed: no heartbeat for")
}

// On the way down the engine has ended, and with it the heartbeat: until the
// time is over that was named, that is no fault.
func TestOnTheWayDownNoHeartbeatIsWanted(t *testing.T) {
	m := pid1test.Boot(t, pid1test.Options{})
	c := silent(t, m)
	if err := c.Going(deadline(t), wire.KindReboot, time.Minute); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.Done():
		t.Fatal("it was replaced on its way down")
	case <-time.After(1500 * time.Millisecond): // five times the silence
	}
	if h, err := c.Again(deadline(t), 0); err != nil || h.Generation != 1 {
		t.Errorf("got %+v, %v", h, err)
	}
}

func TestHeartbeatsKeepAnOrchestrator(t *testing.T) {
	m := pid1test.Boot(t, pid1test.Options{})
	o := m.Next()
	c, err := client.New(deadline(t), o.Conn, 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for range 40 { // twice the silence
		<-tick.C
		if err := c.Heartbeat(); err != nil {
			t.Fatal(err)
		}
	}
	if h, err := c.Again(deadline(t), 0); err != nil || h.Generation != 1 || h.Deaths != 0 {
		t.Errorf("got %+v, %v", h, err)
	}
}

func TestAnUpgradeKeepsServicesAndABadOneIsTakenBack(t *testing.T) {
	m := pid1test.Boot(t, pid1test.Options{Exe: true})
	o, c := lead(t, m)
	alive := spawn(t, c, "alive", role("wait"))
	if err := c.Restart(deadline(t), "/run/initd/bin/initd"); err != nil {
		t.Fatal(err)
	}
	o.Exit(0)
	o, c = lead(t, m)
	if h := c.Hello(); h.Generation != 2 || h.Deaths != 0 {
		t.Errorf("hello after an upgrade: %+v", h)
	}
	cmdline := func(o *pid1test.Orchestrator) string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", o.PID))
		if err != nil {
			t.Fatal(err)
		}
		return string(bytes.TrimRight(bytes.ReplaceAll(b, []byte{0}, []byte(" ")), " "))
	}
	if got := cmdline(o); got != "/run/initd/bin/initd boot" {
		t.Errorf("the upgrade runs as %q", got)
	}
	o.Exit(1)
	o, _ = lead(t, m)
	o.Exit(1) // it never proved good: back to what there was
	o, c = lead(t, m)
	if got := cmdline(o); got != "/usr/bin/initd boot" {
		t.Errorf("after the upgrade failed runs %q", got)
	}
	ps, _, err := c.List(deadline(t))
	if err != nil || len(ps) != 1 || ps[0].PID != uint32(alive.PID) {
		t.Errorf("listed %+v, %v", ps, err)
	}
	if err := c.Restart(deadline(t), "/run/none"); err != nil {
		t.Fatal(err)
	}
	o.Exit(0)
	o, _ = lead(t, m)
	if got := cmdline(o); got != "/usr/bin/initd boot" {
		t.Errorf("after an upgrade to nothing runs %q", got)
	}
	consoleSays(m, "start /run/none: cannot execute it: no such file or directory")
}

func TestChildrenOfADeadOrchestratorEndBeforeTheNext(t *testing.T) {
	m := pid1test.Boot(t, pid1test.Options{})
	o, c := lead(t, m)
	p, err := c.Spawn(deadline(t), "child", "children/mount-1", role("stubborn"))
	if err != nil {
		t.Fatal(err)
	}
	running(t, c, p.ID)
	o.Kill()
	_, c = lead(t, m)
	if e := exit(t, c, p.ID); e.Status != uint32(unix.SIGKILL) {
		t.Errorf("exited: %+v", e)
	}
	if h := c.Hello(); h.Busy != 0 {
		t.Errorf("hello: %+v", h)
	}
}

func TestAGroupIsSignalledAsAWhole(t *testing.T) {
	m := pid1test.Boot(t, pid1test.Options{})
	_, c := lead(t, m)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	spec := role("stubborn")
	spec.Files = []uint32{1}
	p := spawn(t, c, "stubborn", spec, w)
	w.Close()
	if _, err := io.ReadFull(r, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	for _, s := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := c.Signal(deadline(t), p.ID, s, true); err != nil {
			t.Fatal(err)
		}
	}
	if e := exit(t, c, p.ID); e.Status != uint32(unix.SIGKILL) {
		t.Errorf("exited: %+v", e)
	}
	if err := c.Signal(deadline(t), p.ID, unix.SIGTERM, false); !errors.Is(err, unix.ESRCH) {
		t.Errorf("a signal to a dead one: %v", err)
	}
}

func TestCtrlAltDelIsAskedOfTheOrchestratorAndOfTheNext(t *testing.T) {
	m := pid1test.Boot(t, pid1test.Options{})
	o, c := lead(t, m)
	p := spawn(t, c, "ctrl-alt-del", role("kill-init", "2"))
	exit(t, c, p.ID)
	if e := event(t, c, wire.EventAsked); wire.Kind(e.Value) != wire.KindReboot || e.Text != "ctrl-alt-del" {
		t.Errorf("event: %+v", e)
	}
	if err := c.Going(deadline(t), wire.KindReboot, time.Minute); err != nil {
		t.Fatal(err)
	}
	o.Kill()
	_, c = lead(t, m)
	if h := c.Hello(); h.Pending != wire.KindReboot {
		t.Errorf("the way down is forgotten: %+v", h)
	}
	reboot(t, m, c, wire.KindReboot)
}

func TestSevenTimesCtrlAltDelMeansNow(t *testing.T) {
	m := pid1test.Boot(t, pid1test.Options{})
	_, c := lead(t, m)
	spawn(t, c, "stubborn", role("stubborn"))
	spawn(t, c, "ctrl-alt-del", role("kill-init", "2", "2", "2", "2", "2", "2", "2"))
	ends(t, m, wire.KindReboot)
}

func TestPowerOffWithoutAnOrchestratorIsInitsOwn(t *testing.T) {
	m := pid1test.Boot(t, pid1test.Options{})
	o, c := lead(t, m)
	spawn(t, c, "alive", role("wait"))
	p := spawn(t, c, "later", role("kill-init", "wait", "12"))
	running(t, c, p.ID)
	o.Exit(1)
	for range 4 {
		m.Next().Exit(1)
	}
	consoleSays(m, "does not stay up")
	if err := os.WriteFile(m.Shared+"/go", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	ends(t, m, wire.KindPowerOff)
	if !strings.Contains(m.Console(), "poweroff without it") {
		t.Error("the console does not say why")
	}
}

func TestTheWatchdogIsFedWhileTheLoopTurns(t *testing.T) {
	m := pid1test.Boot(t, pid1test.Options{Watchdog: true, CommandLine: "initd.failure-time=1s"})
	_, c := lead(t, m)
	if c.Hello().Capabilities&wire.CapWatchdog == 0 {
		t.Error("init has no watchdog")
	}
	if err := c.Watchdog(deadline(t), "", 2*time.Second); err != nil {
		t.Fatal(err)
	}
	fed := func() int {
		b := make([]byte, 4096)
		n, err := m.Dog.Read(b)
		if err != nil {
			return 0
		}
		if bytes.IndexByte(b[:n], 'V') >= 0 {
			t.Error("it was disarmed")
		}
		return n
	}
	for range 3 {
		m.Until("food", func() bool { return fed() > 0 })
	}
	if err := c.Failure(deadline(t), true, false); err != nil {
		t.Fatal(err)
	}
	consoleSays(m, "watchdog is not fed: the failure lasts longer than 1s")
	if err := c.Failure(deadline(t), true, true); err != nil { // somebody types
		t.Fatal(err)
	}
	fed()
	m.Until("food after typing", func() bool { return fed() > 0 })
	if err := c.Failure(deadline(t), false, false); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWatchdog(deadline(t)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := m.Dog.Read(b)
	if err != nil || b[n-1] != 'V' {
		t.Errorf("disarmed with %q, %v", b[:n], err)
	}
}

func TestFromADiskInitGoesOnInMemory(t *testing.T) {
	m := pid1test.Boot(t, pid1test.Options{Disk: true})
	_, c := lead(t, m)
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", m.PID))
	if err != nil || !strings.HasPrefix(exe, "/memfd:init") {
		t.Errorf("init runs from %q, %v", exe, err)
	}
	p := spawn(t, c, "exit", role("exit", "0"))
	if e := exit(t, c, p.ID); e.Status != 0 {
		t.Errorf("exited: %+v", e)
	}
}
