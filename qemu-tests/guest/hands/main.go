// Hands is a service of a test's appliance: it does in the running machine
// what an operator would do by hand, as the test tells it by the event port.
//
// It owns nothing and undoes nothing: what it leaves behind is the way down's
// to find. Each command is answered by the event "hands" with the command, and
// what was asked for or an error.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/anatol/devmapper.go"
	"golang.org/x/sys/unix"

	"initd/hw/dm"
	"initd/hw/mount"
	"initd/initd/appear"
	"initd/qemu-tests/guest/event"
)

// command is one line from the test.
type command struct {
	Do   string `json:"do"`
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "stubborn" {
		stubborn(os.Args[2])
	}
	if len(os.Args) == 4 && os.Args[1] == "unless" {
		unless(os.Args[2], os.Args[3])
	}
	port, err := event.Open()
	if err != nil {
		fmt.Fprintln(os.Stderr, "hands:", err)
		os.Exit(1)
	}
	// A test may count how often this service has been started.
	_, started := startOf("/proc/self/stat")
	if err := port.Emit("hands", map[string]any{"do": "start", "pid": os.Getpid(), "started": started}); err != nil {
		fmt.Fprintln(os.Stderr, "hands:", err)
	}
	if err := os.WriteFile("/run/hands.ready", nil, 0o644); err != nil {
		fmt.Fprintln(os.Stderr, "hands:", err)
	}
	if err := port.Emit("hands-ready", nil); err != nil {
		fmt.Fprintln(os.Stderr, "hands:", err)
	}
	var w writer
	for {
		var c command
		if err := port.Receive(&c); err != nil {
			fmt.Fprintln(os.Stderr, "hands:", err)
			continue
		}
		members, err := do(c, &w)
		if members == nil {
			members = map[string]any{}
		}
		members["do"] = c.Do
		if err != nil {
			members["error"] = err.Error()
		}
		if err := port.Emit("hands", members); err != nil {
			fmt.Fprintln(os.Stderr, "hands:", err)
		}
	}
}

func do(c command, w *writer) (map[string]any, error) {
	switch c.Do {
	case "bind":
		return nil, mount.Mount(mount.Spec{Device: c.From, Where: c.To, Type: "bind"})
	case "loop":
		return loop(c.From)
	case "linear":
		return nil, linear(c.From, c.To)
	case "stubborn":
		cmd := exec.Command("/proc/self/exe", "stubborn", c.From)
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		// Out of this service's group, with which it would be ended.
		return nil, os.WriteFile("/sys/fs/cgroup/cgroup.procs", []byte(strconv.Itoa(cmd.Process.Pid)), 0o644)
	case "front":
		return nil, front(c.From, c.To)
	case "map":
		return nil, whole(c.From, c.To)
	case "suspend":
		return nil, suspend(c.From, c.To)
	case "resume":
		return nil, dm.Resume(context.Background(), c.From)
	case "freeze":
		return nil, freeze(c.From, fiFreeze)
	case "thaw":
		return nil, freeze(c.From, fiThaw)
	case "replace":
		return nil, replace(c.From, c.To)
	case "pause":
		d, err := time.ParseDuration(c.From)
		time.Sleep(d)
		return nil, err
	case "load": // writes to a new file until load-stop; To is how many bytes a record has
		return nil, w.start(c.From, c.To)
	case "load-more": // returns when so many more records were acknowledged, or one was not
		return w.more(c.To)
	case "load-stop":
		return w.stop()
	case "await":
		return nil, appear.Await(context.Background(), c.From) // the test's guard ends it
	case "ended": // so many orchestrators from now on, as each of them comes
		return endEach(unix.SIGKILL, c.From)
	case "stopped":
		return endEach(unix.SIGSTOP, c.From)
	case "await-text": // until the kernel's file From begins with To, of which there is no event
		for {
			b, err := os.ReadFile(c.From)
			if err != nil || strings.HasPrefix(string(b), c.To) {
				return nil, err
			}
			time.Sleep(20 * time.Millisecond) // the test's guard ends it
		}
	case "state":
		return state(c.From)
	case "kill-orchestrator":
		return killRunning("initd boot")
	case "kill-running": // From is how its command line begins
		return killRunning(c.From)
	case "until": // From is a command, To a pattern of the line after which it is ended
		return until(c.From, c.To)
	case "resident":
		return resident()
	case "read64":
		b, err := os.ReadFile(c.From)
		return map[string]any{"base64": b}, err
	case "await-keys-gone": // no process holds a key's memfd any more; closing one has no event
		for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
			held, err := dying()
			if err != nil {
				return nil, err
			}
			links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
			for _, l := range links {
				if to, err := os.Readlink(l); err == nil && strings.HasPrefix(to, "/memfd:initd-key") {
					held = append(held, l)
				}
			}
			if len(held) == 0 {
				return nil, nil
			}
			if time.Now().After(end) {
				return nil, fmt.Errorf("keys are held still, or may be: %q", held)
			}
		}
	case "press-out": // From is a swap device, To a text of which there will be some megabytes
		return nil, pressOut(c.From, c.To)
	case "crash-child": // From is the child's name
		for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) { // a new process has no event
			pid, err := running("initd", "child", c.From)
			if err == nil {
				return map[string]any{"pid": pid}, unix.Kill(pid, unix.SIGSEGV)
			}
			if time.Now().After(end) {
				return nil, err
			}
		}
	case "prowl":
		return prowl(strings.Split(c.From, ","))
	case "kill": // From is a pid
		pid, err := strconv.Atoi(c.From)
		if err != nil {
			return nil, err
		}
		return nil, unix.Kill(pid, unix.SIGKILL)
	case "search":
		return search(strings.Split(c.From, ","))
	case "write":
		return nil, os.WriteFile(c.To, []byte(c.From), 0o644)
	case "mkdir":
		return nil, os.MkdirAll(c.From, 0o755)
	case "mtu": // of an interface
		return nil, setMTU(c.From, c.To)
	case "dummy": // makes an interface
		return nil, dummy(c.From)
	case "rename":
		return nil, os.Rename(c.From, c.To)
	case "copy": // a program
		b, err := os.ReadFile(c.From)
		if err != nil {
			return nil, err
		}
		if err := os.Remove(c.To); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		return nil, os.WriteFile(c.To, b, 0o755)
	case "read":
		b, err := os.ReadFile(c.From)
		return map[string]any{"text": string(b)}, err
	case "address": // of the interface From, which is brought up
		return nil, address(c.From, c.To)
	case "unlock": // From is the key's name, To the key
		program := "/usr/bin/initd"
		if _, err := os.Stat(program); err != nil {
			program = "/run/initd/bin/initd" // after a hand-over
		}
		cmd := exec.Command(program, "keys", "unlock", c.From)
		cmd.Stdin = strings.NewReader(c.To + "\n")
		out, err := cmd.CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("%w: %s", err, out)
		}
		return map[string]any{"text": string(out)}, nil
	case "run":
		out, err := exec.Command(c.From, strings.Fields(c.To)...).CombinedOutput()
		code := 0
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			code, err = exit.ExitCode(), nil
		}
		return map[string]any{"text": string(out), "status": code}, err
	}
	return nil, fmt.Errorf("no command %q", c.Do)
}

// stubborn keeps a file open and ignores SIGTERM until it is killed.
func stubborn(path string) {
	signal.Ignore(syscall.SIGTERM)
	f, err := os.Create(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, "hands:", err)
		os.Exit(1)
	}
	if _, err := f.WriteString("still here\n"); err != nil {
		fmt.Fprintln(os.Stderr, "hands:", err)
	}
	for {
		_ = unix.Pause() // until a signal ends it
	}
}

// unless ends, by a status or a signal, unless a file is there; then it stays.
func unless(path, how string) {
	if _, err := os.Stat(path); err == nil {
		_ = unix.Pause()
	}
	if status, err := strconv.Atoi(how); err == nil {
		os.Exit(status)
	}
	_ = unix.Kill(os.Getpid(), unix.SignalNum("SIG"+how))
	_ = unix.Pause()
}

// loop attaches a loop device to a new file (loop(4), LOOP_CTL_GET_FREE, LOOP_SET_FD).
func loop(file string) (map[string]any, error) {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Truncate(4 << 20); err != nil {
		return nil, err
	}
	if out, err := exec.Command("/sbin/modprobe", "loop").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("modprobe loop: %w: %s", err, out)
	}
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer ctl.Close()
	n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return nil, fmt.Errorf("LOOP_CTL_GET_FREE: %w", err)
	}
	name := fmt.Sprintf("/dev/loop%d", n)
	dev, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer dev.Close()
	if err := unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_SET_FD, int(f.Fd())); err != nil {
		return nil, fmt.Errorf("LOOP_SET_FD: %w", err)
	}
	return map[string]any{"device": name}, nil
}

// linear puts a linear device of 1 MiB on top of another.
func linear(device, name string) error {
	if err := dm.Create(name, ""); err != nil {
		return err
	}
	if err := dm.Load(name, true, devmapper.LinearTable{Length: 1 << 20, BackendDevice: device}); err != nil {
		return err
	}
	return dm.Resume(context.Background(), name)
}

// orchestrator is the pid of `initd boot`.
func orchestrator() (int, error) { return running("initd", "boot") }

// running is the pid of the first process whose command line begins with these
// words; the program's folder does not matter.
func running(words ...string) (int, error) {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, l := range lines {
		b, err := os.ReadFile(l)
		args := strings.Split(strings.TrimRight(string(b), "\x00"), "\x00")
		args[0] = filepath.Base(args[0])
		if err != nil || len(args) < len(words) || !slices.Equal(args[:len(words)], words) {
			continue
		}
		return strconv.Atoi(filepath.Base(filepath.Dir(l)))
	}
	return 0, fmt.Errorf("no %s runs", strings.Join(words, " "))
}
