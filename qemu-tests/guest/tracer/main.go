// Tracer stands where a machine has its initd, and kills the shipped one at a system call that the test has chosen: the
// orchestrator, or a child of it, before the call is made or after it has returned.
//
// As `initd boot` it becomes the shipped program under the eyes of a second process of its own, which is no child of
// the orchestrator's group and so lives on when init clears up; as anything else (modprobe, a command) it just becomes the
// shipped program. Pid, descriptors, arguments and environment are those that init gave. It needs ptrace (PTRACE_SEIZE) and
// seccomp filters (SECCOMP_RET_TRACE: only calls of the classes stop, so that the machine stays fast). It never changes
// what a call does.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"initd/qemu-tests/guest/event"
	"initd/qemu-tests/guest/tracer/order"
)

// role is the first argument of the process that traces.
const role = "trace-orchestrator"

func main() {
	// ptrace(2) belongs to a thread, and a filter to the thread that calls execve(2).
	runtime.LockOSThread()
	if len(os.Args) == 5 && os.Args[1] == role {
		if err := trace(os.Args[2], os.Args[3], os.Args[4]); err != nil {
			fail(err)
		}
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "boot" && filepath.Base(os.Args[0]) != "modprobe" {
		if err := beTraced(); err != nil {
			fail(err)
		}
	}
	err := syscall.Exec(order.Program, os.Args, os.Environ())
	fail(fmt.Errorf("exec %s: %w", order.Program, err))
}

// fail says it where the test listens.
func fail(err error) {
	fmt.Fprintln(os.Stderr, "tracer:", err)
	if port, perr := event.Open(); perr == nil {
		_ = port.Emit(order.FailedEvent, map[string]any{"error": err.Error()})
	}
	os.Exit(1)
}

// beTraced starts the tracing process, waits until it holds this one, and installs the filter.
func beTraced() error {
	if unix.Gettid() != unix.Getpid() {
		// The runtime moved the main goroutine before it could be locked; only the first thread keeps its identity over execve.
		return syscall.Exec("/proc/self/exe", os.Args, os.Environ())
	}
	generation, err := count()
	if err != nil {
		return err
	}
	if generation == 1 {
		if err := ask(); err != nil {
			return err
		}
	}
	link, err := os.Readlink("/proc/self/fd/3") // init's socket, see initd/pid1/wire
	if err != nil {
		return fmt.Errorf("init's socket: %w", err)
	}
	held, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer held.Close()
	cmd := exec.Command("/proc/self/exe", role, strconv.Itoa(os.Getpid()), strconv.Itoa(generation), link)
	// The way down leaves what begins with '@' alone (https://systemd.io/ROOT_STORAGE_DAEMONS): without this process no call of
	// the classes would return but with ENOSYS.
	cmd.Args[0] = "@tracer"
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	theirs.Close()
	if n, err := held.Read(make([]byte, 1)); n != 1 {
		return fmt.Errorf("the tracing process ended: %w", err)
	}
	return filter()
}

// ask gets the order from the test, if the file says so, and puts it in the file's place.
func ask() error {
	o, err := given()
	if err != nil || !o.Ask {
		return err
	}
	port, err := event.Open()
	if err != nil {
		return err
	}
	if err := port.Emit(order.AskEvent, nil); err != nil {
		return err
	}
	o = order.Order{}
	if err := port.Receive(&o); err != nil {
		return err
	}
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return os.WriteFile(order.Path, text, 0o644)
}

// given reads the order.
func given() (order.Order, error) {
	var o order.Order
	text, err := os.ReadFile(order.Path)
	if err != nil {
		return o, err
	}
	if err := json.Unmarshal(text, &o); err != nil {
		return o, fmt.Errorf("%s: %w", order.Path, err)
	}
	return o, nil
}

// count says which life of the orchestrator begins.
func count() (int, error) {
	const file = "/run/tracer.generation"
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, err
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n + 1, os.WriteFile(file, []byte(strconv.Itoa(n+1)), 0o600)
}

// notes are which kills have happened, by their place in the order: a kill of
// any generation happens once.
const notes = "/run/tracer.happened"

func noted() ([]int, error) {
	b, err := os.ReadFile(notes)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var list []int
	for _, word := range strings.Fields(string(b)) {
		n, err := strconv.Atoi(word)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", notes, err)
		}
		list = append(list, n)
	}
	return list, nil
}

func note(at int) error {
	f, err := os.OpenFile(notes, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, at)
	return errors.Join(err, f.Close())
}

// trace is the second process: it holds the orchestrator and lets it go on.
func trace(pidText, generationText, link string) error {
	pid, err := strconv.Atoi(pidText)
	if err != nil {
		return err
	}
	generation, err := strconv.Atoi(generationText)
	if err != nil {
		return err
	}
	o, err := given()
	if err != nil {
		return err
	}
	port, err := event.Open()
	if err != nil {
		return err
	}
	// Out of the orchestrator's group, with which it would be ended.
	if err := os.WriteFile("/sys/fs/cgroup/cgroup.procs", []byte("0"), 0o644); err != nil {
		return err
	}
	t := newTracer(pid, generation, link, port)
	happened, err := noted()
	if err != nil {
		return err
	}
	for i, k := range o.Kills {
		if k.Generation == generation || k.Generation == 0 && !slices.Contains(happened, i) {
			t.kills = append(t.kills, &pending{Kill: k, at: i})
		}
	}
	if err := t.seize(); err != nil {
		return err
	}
	held := os.NewFile(3, "held")
	if _, err := held.Write([]byte{1}); err != nil {
		return err
	}
	held.Close()
	return t.run()
}
