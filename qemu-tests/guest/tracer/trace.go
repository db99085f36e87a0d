package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"initd/qemu-tests/guest/event"
	"initd/qemu-tests/guest/tracer/order"
)

// pending is a kill that is to come.
type pending struct {
	order.Kill
	at   int // its place in the order
	seen int
	done bool
}

// tracer holds one orchestrator and all that it starts.
type tracer struct {
	pid        int // of the orchestrator
	generation int
	link       string // what /proc/PID/fd says of init's socket
	port       *event.Port
	kills      []*pending
	counts     map[order.Class]int
	after      map[int]returning // threads that are in a call after which to kill
}

type returning struct {
	kill *pending
	call call
}

func newTracer(pid, generation int, link string, port *event.Port) *tracer {
	return &tracer{pid: pid, generation: generation, link: link, port: port, counts: map[order.Class]int{}, after: map[int]returning{}}
}

// seize attaches to all threads: the program to come is in the first, but the
// exec ends the others only when it is made.
func (t *tracer) seize() error {
	const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK |
		unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_TRACESECCOMP
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", t.pid))
	if err != nil {
		return err
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(filepath.Base(task))
		if err != nil {
			return err
		}
		_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(tid), 0, options, 0, 0)
		if errno != 0 && (tid == t.pid || errno != unix.ESRCH && errno != unix.EPERM) { // EPERM: traced since its clone
			return fmt.Errorf("seize %d: %w", tid, errno)
		}
	}
	return nil
}

// run serves stops until nothing is left to trace. ESRCH of a request means
// that somebody has killed the thread meanwhile; its end comes by wait.
func (t *tracer) run() error {
	for {
		var ws unix.WaitStatus
		tid, err := unix.Wait4(-1, &ws, unix.WALL, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ECHILD):
			return nil
		case err != nil:
			return fmt.Errorf("wait: %w", err)
		case !ws.Stopped():
			delete(t.after, tid)
			continue
		}
		if err := t.stopped(tid, ws); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("thread %d: %w", tid, err)
		}
	}
}

func (t *tracer) stopped(tid int, ws unix.WaitStatus) error {
	const syscallStop = unix.SIGTRAP | 0x80 // PTRACE_O_TRACESYSGOOD
	sig := ws.StopSignal()
	switch what := int(uint32(ws) >> 16); {
	case what == unix.PTRACE_EVENT_SECCOMP:
		return t.entered(tid)
	case what == unix.PTRACE_EVENT_STOP && sig != unix.SIGTRAP: // a group stop
		return request(unix.PTRACE_LISTEN, tid, 0)
	case what != 0:
		return request(unix.PTRACE_CONT, tid, 0)
	case sig == syscallStop:
		return t.returned(tid)
	}
	return request(unix.PTRACE_CONT, tid, uintptr(sig))
}

func request(what, tid int, data uintptr) error {
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(what), uintptr(tid), 0, data, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// entered serves a thread that is about to make a call.
func (t *tracer) entered(tid int) error {
	c, err := t.read(tid)
	if err != nil {
		return err
	}
	if c.class == "" {
		return request(unix.PTRACE_CONT, tid, 0)
	}
	t.counts[c.class]++
	point := order.Point{Generation: t.generation, Class: c.class, N: t.counts[c.class], PID: c.pid, Of: c.of, What: c.what}
	if err := t.tell(order.PointEvent, point); err != nil {
		return err
	}
	for _, k := range t.kills {
		if k.done || k.Class != c.class || !strings.Contains(c.of+": "+c.what, k.Match) || k.Same != "" && k.Same != point.Call() {
			continue
		}
		if k.seen++; k.seen != k.N {
			continue
		}
		k.done = true
		if k.After {
			t.after[tid] = returning{k, c}
			return request(unix.PTRACE_SYSCALL, tid, 0)
		}
		if err := t.kill(k, c, 0); err != nil {
			return err
		}
		break
	}
	return request(unix.PTRACE_CONT, tid, 0)
}

// returned serves a thread whose call has been made.
func (t *tracer) returned(tid int) error {
	r, ok := t.after[tid]
	if ok {
		delete(t.after, tid)
		var regs unix.PtraceRegs
		if err := unix.PtraceGetRegs(tid, &regs); err != nil {
			return err
		}
		if err := t.kill(r.kill, r.call, int64(regs.Rax)); err != nil {
			return err
		}
	}
	return request(unix.PTRACE_CONT, tid, 0)
}

// kill says it, and does it: what dies cannot be in the way of what is said.
func (t *tracer) kill(k *pending, c call, result int64) error {
	if err := t.tell(order.KilledEvent, order.Killed{Kill: k.Kill, Orchestrator: t.pid, PID: c.pid, Of: c.of, What: c.what, Result: result}); err != nil {
		return err
	}
	if err := note(k.at); err != nil {
		return err
	}
	if k.Victim == order.All {
		if err := unix.Kill(t.pid, unix.SIGKILL); err != nil {
			return fmt.Errorf("kill the orchestrator: %w", err)
		}
	}
	if err := unix.Kill(c.pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill %s: %w", c.of, err)
	}
	return nil
}

// program says which of initd's programs a process is: "boot", "child NAME"; of others, that initd runs, their name.
func program(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return "gone"
	}
	args := strings.Split(strings.TrimRight(string(b), "\x00"), "\x00")
	if name := filepath.Base(args[0]); name != "initd" && name != "tracer" {
		return name
	}
	return strings.Join(args[1:], " ")
}
