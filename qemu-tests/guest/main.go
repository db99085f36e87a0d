// Guest is the /init of test machines that run Go tests: it mounts the kernel's file systems, loads the modules that its
// image lists, runs the test programs of its plan one after another, tells all about it as events, and powers off.
//
// It owns that machine's first process and nothing else. It never decides whether a test passed: it reports output and exit
// status. Without a plan it just says that it is there, and powers off.
//
// Events: {"event":"boot"}, {"event":"output","package":P,"line":L}, {"event":"test","package":P,"exit":N}, {"event":"end"};
// {"event":"broken","error":E} when the guest itself fails.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"initd/qemu-tests/guest/event"
	"initd/qemu-tests/guest/kernel"
	"initd/qemu-tests/guest/life"
	"initd/qemu-tests/guest/plan"
)

// leftoverGuard bounds the wait for a test's output after the test itself has ended: a process that it left behind may
// hold the pipe.
const leftoverGuard = 5 * time.Second

func main() { life.Live("guest", work) }

func work(port *event.Port) error {
	if err := port.Emit("boot", nil); err != nil {
		return err
	}
	if err := kernel.LoadModules(plan.Modules); err != nil {
		return err
	}
	text, err := os.ReadFile(plan.Path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var p plan.Plan
	if err := json.Unmarshal(text, &p); err != nil {
		return fmt.Errorf("%s: %w", plan.Path, err)
	}
	for _, test := range p.Tests {
		exit, err := runTest(port, test)
		if err != nil {
			return err
		}
		if err := port.Emit("test", map[string]any{"package": test.Package, "exit": exit}); err != nil {
			return err
		}
		reap()
	}
	return nil
}

// runTest runs one test program; its output goes to the console and, line by line, to the event port.
func runTest(port *event.Port, test plan.Test) (exit int, err error) {
	fmt.Printf("guest: %s\n", test.Package)
	if err := os.MkdirAll(test.Dir, 0o755); err != nil {
		return 0, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	cmd := exec.Command(test.Program, test.Args...)
	cmd.Dir = test.Dir
	cmd.Stdout, cmd.Stderr = w, w
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TMPDIR=/tmp", "LC_ALL=C"}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	w.Close()
	copied := make(chan error, 1)
	go func() { copied <- copyOutput(port, test.Package, r) }()
	waitErr := cmd.Wait()
	select {
	case err = <-copied:
	case <-time.After(leftoverGuard):
		err = port.Emit("output", map[string]any{"package": test.Package, "line": "guest: a process that the tests left behind still holds their output"})
	}
	var failed *exec.ExitError
	if waitErr != nil && !errors.As(waitErr, &failed) {
		return 0, waitErr
	}
	return cmd.ProcessState.ExitCode(), err
}

func copyOutput(port *event.Port, pkg string, r io.Reader) error {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		if line != "" {
			line = strings.TrimRight(line, "\n")
			fmt.Println(line)
			if err := port.Emit("output", map[string]any{"package": pkg, "line": line}); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// reap takes what test programs left behind to the first process: no child of our own is running now.
func reap() {
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if pid <= 0 && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}
