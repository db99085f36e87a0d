package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// run is one QEMU process and its ports.
type run struct {
	m           *VM
	cmd         *exec.Cmd
	console     *Console
	events      *feed[Event]
	qmp         *qmp
	consolePort net.Conn
	eventPort   net.Conn
	killed      chan struct{} // closed by kill
	killOnce    sync.Once
	done        chan struct{} // closed when the process has been waited for and its ports are drained
	waitErr     error         // valid after done
}

// Exit tells how a machine ended.
type Exit struct {
	// Reason is "killed" (Kill, or the end of the test), "watchdog", or QEMU's: "guest-shutdown" (power off),
	// "guest-reset" (reboot, or a panic), "host-qmp-quit"; "qemu: …" when QEMU itself failed.
	Reason string
	// Panic is the kernel's line, if it panicked.
	Panic string
}

func (e Exit) String() string {
	if e.Panic != "" {
		return e.Reason + ", " + e.Panic
	}
	return e.Reason
}

// launch starts QEMU and returns when its ports are open. The harness listens first and QEMU connects before it runs the
// guest: nothing is polled for, and no byte is lost.
func (m *VM) launch(accel Accelerator, initrd string) (*run, error) {
	r := &run{m: m, events: newFeed[Event](), console: newConsole(m), killed: make(chan struct{}), done: make(chan struct{})}
	var undo []func()
	release := func() {
		for _, f := range slices.Backward(undo) {
			f()
		}
	}
	fail := func(err error) (*run, error) {
		release()
		return nil, err
	}

	// A short path: a unix socket's has at most 107 bytes.
	dir, err := os.MkdirTemp("", "vm")
	if err != nil {
		return fail(err)
	}
	undo = append(undo, func() { os.RemoveAll(dir) })
	sock := sockets{dir: dir}
	listeners := map[string]*net.UnixListener{}
	for _, port := range portNames {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: sock.path(port), Net: "unix"})
		if err != nil {
			return fail(err)
		}
		undo = append(undo, func() { l.Close() })
		listeners[port] = l
	}
	for i, n := range m.spec.nics {
		path := sock.path(fmt.Sprintf("nic%d", i))
		leave, err := n.wire.attach(m.spec.name, path)
		if err != nil {
			return fail(err)
		}
		undo = append(undo, leave)
		sock.nics = append(sock.nics, path)
	}
	logs := map[string]*os.File{}
	for _, name := range []string{"console.log", "events.jsonl", "qemu.stderr"} {
		if logs[name], err = os.Create(m.Artefact(name)); err != nil {
			return fail(err)
		}
		undo = append(undo, func() { logs[name].Close() })
	}
	args := m.spec.args(accel, initrd, sock)
	if err := m.writeScript(args); err != nil {
		return fail(err)
	}

	r.cmd = exec.Command("qemu-system-x86_64", args...)
	r.cmd.Stderr = logs["qemu.stderr"]
	start := time.Now()
	processEnded, err := r.start()
	if err != nil {
		return fail(err)
	}
	conns, err := acceptAll(listeners, processEnded)
	for _, c := range conns {
		undo = append(undo, func() { c.Close() })
	}
	if err != nil {
		r.cmd.Process.Kill() //nolint:errcheck // it may have ended by itself, which is what we report
		<-processEnded
		return fail(fmt.Errorf("%w: %s", err, m.stderrText()))
	}
	r.consolePort, r.eventPort, r.qmp = conns["console"], conns["events"], newQMP(conns["qmp"])
	var readers sync.WaitGroup
	readers.Go(func() { r.console.copyFrom(r.consolePort, logs["console.log"]) })
	readers.Go(func() { readEvents(r.eventPort, logs["events.jsonl"], start, r.events, m.garbage.add) })
	readers.Go(func() { <-r.qmp.done })
	go func() {
		<-processEnded
		readers.Wait()
		release()
		close(r.done)
	}()
	ctx, cancel := context.WithTimeout(context.Background(), bootGuard)
	defer cancel()
	if _, err := r.qmp.execute(ctx, "qmp_capabilities", nil); err != nil {
		r.kill()
		return nil, fmt.Errorf("%w: %s", err, m.stderrText())
	}
	return r, nil
}

// start starts the process; the channel is closed when it has ended.
func (r *run) start() (<-chan struct{}, error) {
	// QEMU must not outlive the test, however that ends. The signal comes when the *thread* that started QEMU
	// ends (prctl(2)), so one goroutine keeps that thread for as long as QEMU runs.
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
		err := r.cmd.Start()
		started <- err
		if err == nil {
			r.waitErr = r.cmd.Wait()
		}
	}()
	err := <-started
	if errors.Is(err, exec.ErrNotFound) {
		err = errors.New("qemu-system-x86_64 is missing: install the Debian package qemu-system-x86")
	}
	return ended, err
}

// acceptAll takes one connection from each listener, or fails when the process ends before.
func acceptAll(listeners map[string]*net.UnixListener, processEnded <-chan struct{}) (map[string]net.Conn, error) {
	type accepted struct {
		port string
		conn net.Conn
		err  error
	}
	all := make(chan accepted, len(listeners))
	for port, l := range listeners {
		go func() {
			conn, err := l.Accept()
			all <- accepted{port, conn, err}
		}()
	}
	conns := map[string]net.Conn{}
	for range listeners {
		select {
		case a := <-all:
			if a.err != nil {
				return conns, a.err
			}
			conns[a.port] = a.conn
		case <-processEnded:
			return conns, errors.New("QEMU ended at once")
		}
	}
	return conns, nil
}

// kill ends QEMU at once, as a power loss would, and waits until it is gone.
func (r *run) kill() {
	r.killOnce.Do(func() {
		close(r.killed)
		r.cmd.Process.Kill() //nolint:errcheck // os.ErrProcessDone is fine
	})
	<-r.done
}

// exitNow tells how the machine ended, or that it has not.
func (r *run) exitNow() Exit {
	<-r.done
	e := Exit{Reason: "qemu: it ended without a reason"}
	if line := r.console.find(panicLine); line != "" {
		e.Panic = panicLine.FindString(line)
	}
	if r.waitErr != nil {
		e.Reason = fmt.Sprintf("qemu: %v: %s", r.waitErr, r.m.stderrText())
	}
	for _, event := range r.qmp.events.all() {
		switch event.Name {
		case "WATCHDOG":
			return Exit{Reason: "watchdog", Panic: e.Panic}
		case "SHUTDOWN":
			var data struct {
				Reason string `json:"reason"`
			}
			if json.Unmarshal(event.Data, &data) == nil {
				e.Reason = data.Reason
			}
		}
	}
	select {
	case <-r.killed:
		if !strings.HasPrefix(e.Reason, "guest-") {
			e.Reason = "killed"
		}
	default:
	}
	return e
}

func (g *garbage) add(line string, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lines = append(g.lines, fmt.Sprintf("%q: %v", line, err))
}
