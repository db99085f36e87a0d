// Command pid1 plays the orchestrator below the shipped init in test machines, and the services that it starts.
//
// It owns the stories' inside: what it asks of init, and what it tells as events. It never judges: the scenario does.
// Which story it plays stands on the kernel command line: story=NAME.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"initd/initd/pid1/client"
	"initd/initd/pid1/wire"
	"initd/qemu-tests/guest/event"
	"initd/qemu-tests/guest/kernel"
	"initd/qemu-tests/guest/plan"
)

// self is this program in the guest.
const self = "/usr/bin/initd"

// guard bounds each story; the scenario's own guard ends before.
const guard = 10 * time.Minute

func main() {
	switch {
	case os.Args[0] == "/sbin/init":
		os.Exit(status(newInit()))
	case os.Args[0] == "@initd":
		os.Exit(status(adopted()))
	}
	if len(os.Args) > 1 && os.Args[1] != "boot" {
		os.Exit(service(os.Args[1], os.Args[2:]))
	}
	ctx, cancel := context.WithTimeout(context.Background(), guard)
	defer cancel()
	port, err := event.Open()
	if err != nil {
		fmt.Fprintln(os.Stderr, "pid1:", err)
		os.Exit(1)
	}
	c, err := client.Open(ctx, guard)
	if err != nil {
		fmt.Fprintln(os.Stderr, "pid1:", err)
		os.Exit(1)
	}
	s := &story{ctx: ctx, port: port, init: c}
	h := c.Hello()
	s.tell("hello", map[string]any{
		"generation": h.Generation, "deaths": h.Deaths, "busy": h.BusyPIDs, "power": h.Capabilities&wire.CapPower != 0,
		"watchdog": h.Capabilities&wire.CapWatchdog != 0, "cgroup": h.Capabilities&wire.CapCgroup != 0, "panic": read("/proc/sys/kernel/panic"),
		"rlimit": strings.Join(strings.Fields(limitLine()), " "),
	})
	if err := s.play(storyName()); err != nil {
		s.tell("broken", map[string]any{"error": err.Error()})
	}
	_ = port.Drain()
	if err := c.Reboot(ctx, wire.KindPowerOff); err != nil {
		fmt.Fprintln(os.Stderr, "pid1:", err)
	}
	<-ctx.Done() // init ends this process
}

// status is the exit status for err, which is shown.
func status(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, "pid1:", err)
		return 1
	}
	return 0
}

// story is one orchestrator's view.
type story struct {
	ctx  context.Context
	port *event.Port
	init *client.Client
	seen []wire.Message
}

func (s *story) tell(name string, members map[string]any) {
	if err := s.port.Emit(name, members); err != nil {
		fmt.Fprintln(os.Stderr, "pid1:", err)
	}
}

func (s *story) play(name string) error {
	if s.init.Hello().Generation == 1 {
		if err := kernel.LoadModules(plan.Modules); err != nil {
			return err
		}
	}
	switch name {
	case "orphans":
		return s.orphans()
	case "frozen":
		return s.frozen()
	case "watchdog":
		return s.watchdog()
	case "switchroot":
		return s.switchroot()
	}
	return fmt.Errorf("no story %q", name)
}

func storyName() string {
	for _, w := range strings.Fields(read("/proc/cmdline")) {
		if v, ok := strings.CutPrefix(w, "story="); ok {
			return v
		}
	}
	return ""
}

func read(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b))
}

// limitLine is init's limit of open files, as the kernel shows it.
func limitLine() string {
	for line := range strings.Lines(read("/proc/1/limits")) {
		if strings.HasPrefix(line, "Max open files") {
			return line
		}
	}
	return ""
}

// spawn starts this program in another role, or path.
func (s *story) spawn(name, group string, argv ...string) (client.Process, error) {
	return s.init.Spawn(s.ctx, name, group, &wire.Spec{Argv: argv})
}

// await returns the first message about a process that is wanted.
func (s *story) await(want func(wire.Message) bool) (wire.Message, error) {
	for i, m := range s.seen {
		if want(m) {
			s.seen = append(s.seen[:i], s.seen[i+1:]...)
			return m, nil
		}
	}
	for {
		select {
		case m, ok := <-s.init.Exits():
			if !ok {
				return nil, client.ErrLost
			}
			if want(m) {
				return m, nil
			}
			s.seen = append(s.seen, m)
		case <-s.ctx.Done():
			return nil, s.ctx.Err()
		}
	}
}

func (s *story) exited(id uint64) (*wire.Exited, error) {
	m, err := s.await(func(m wire.Message) bool {
		e, ok := m.(*wire.Exited)
		return ok && e.ID == id
	})
	if err != nil {
		return nil, err
	}
	return m.(*wire.Exited), nil
}

// orphans: 300 processes lose their parent, end, and are reaped; then somebody presses ctrl-alt-del.
func (s *story) orphans() error {
	p, err := s.spawn("parent", "services/parent", self, "orphans")
	if err != nil {
		return err
	}
	e, err := s.exited(p.ID)
	if err != nil {
		return err
	}
	s.tell("parent", map[string]any{"status": e.Status})
	if err := s.init.Signal(s.ctx, p.ID, unix.SIGKILL, true); err != nil {
		return err
	}
	for {
		h, err := s.init.Again(s.ctx, guard)
		if err != nil {
			return err
		}
		if h.Orphans >= 300 {
			s.tell("reaped", map[string]any{"orphans": h.Orphans, "zombies": zombies()})
			break
		}
		time.Sleep(20 * time.Millisecond) // the counter has no event
	}
	for ev := range s.init.Events() {
		if ev.Kind == wire.EventAsked {
			s.tell("asked", map[string]any{"kind": wire.Kind(ev.Value).String(), "why": ev.Text})
			return s.init.Going(s.ctx, wire.KindPowerOff, time.Minute)
		}
	}
	return client.ErrLost
}

// zombies counts processes that nobody reaped.
func zombies() int {
	n := 0
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if state(e.Name()) == "Z" {
			n++
		}
	}
	return n
}

// state is a process's letter in /proc/PID/stat, or "".
func state(pid string) string {
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return ""
	}
	_, after, _ := strings.Cut(string(b), ") ")
	if after == "" {
		return ""
	}
	return after[:1]
}

// watchdog: the failure screen is up, and nobody comes.
func (s *story) watchdog() error {
	if err := s.init.Watchdog(s.ctx, "/dev/watchdog", 4*time.Second); err != nil {
		return err
	}
	s.tell("armed", nil)
	beat := time.NewTicker(500 * time.Millisecond)
	defer beat.Stop()
	for n := 0; ; n++ {
		<-beat.C
		if err := s.init.Heartbeat(); err != nil {
			return err
		}
		if n == 20 { // two and a half timeouts: it would have reset by now, were it not fed
			s.tell("fed", nil)
			if err := s.init.Failure(s.ctx, true, false); err != nil {
				return err
			}
		}
	}
}

// service plays a process that init was asked for.
func service(role string, args []string) int {
	switch role {
	case "orphans":
		for range 300 {
			if _, err := syscall.ForkExec(self, []string{self, "wait"}, &syscall.ProcAttr{
				Env: []string{"GOMAXPROCS=1"}, Files: []uintptr{0, 1, 2},
			}); err != nil {
				return 1
			}
		}
		return 0
	case "wait":
		for {
			_ = unix.Pause()
		}
	case "look": // at something on a disk
		if _, err := os.ReadDir(args[0]); err != nil {
			return 1
		}
		return 0
	case "exit":
		return 0
	case "keep":
		return status(keep())
	}
	return 70
}
