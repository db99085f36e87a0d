// Package self starts this program again, as a child that plays a role.
//
// It owns the start and the end of such a child: it has a socket to its parent, dies with it, is reaped, and what it complains of is kept.
// What is spoken over the socket, and what the child may do, are the role's.
package self

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// FD is the child's end of the socket; its files follow.
const FD = 3

// Child is one that was made by New. Safe for several goroutines once it has started.
type Child struct {
	// Socket is our end, for records that keep their bounds (SOCK_SEQPACKET). Whoever made the child closes it.
	Socket *os.File

	theirs *os.File
	cmd    *exec.Cmd
	said   beginning
	gone   chan struct{}
	err    error // of the end, once gone is closed
}

// New makes a child with arguments; what is written to its socket before Start waits there.
func New(args ...string) (*Child, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	c := &Child{Socket: os.NewFile(uintptr(pair[0]), args[0]), theirs: os.NewFile(uintptr(pair[1]), args[0]), gone: make(chan struct{})}
	c.cmd = exec.Command("/proc/self/exe", args...)
	c.cmd.Args[0] = os.Args[0]
	c.cmd.Stderr = &c.said
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return c, nil
}

// Drop closes both ends of a child that was never started.
func (c *Child) Drop() {
	c.Socket.Close()
	c.theirs.Close()
}

// Start runs the child with an environment (nil: ours) and files. After an error both ends of the socket are closed.
func (c *Child) Start(env []string, files ...*os.File) error {
	c.cmd.Env = env
	c.cmd.ExtraFiles = append([]*os.File{c.theirs}, files...)
	started := make(chan error)
	go c.run(started)
	if err := <-started; err != nil {
		c.Drop()
		return err
	}
	return c.theirs.Close()
}

// run starts and reaps the child on one thread: the kernel kills it when the thread that started it ends, not the process.
func (c *Child) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := c.cmd.Start(); err != nil {
		started <- err
		return
	}
	started <- nil
	c.err = c.cmd.Wait()
	close(c.gone)
}

// PID is the child's, once it has started.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Kill ends the child at once.
func (c *Child) Kill() { _ = c.cmd.Process.Kill() }

// Wait waits until the child has ended and was reaped; its error is that of exec.Cmd's.
func (c *Child) Wait() (*os.ProcessState, error) {
	<-c.gone
	return c.cmd.ProcessState, c.err
}

// Said is the beginning of what the child complained of so far: at most 64 KiB.
func (c *Child) Said() string { return c.said.String() }

// beginning keeps what is written first.
type beginning struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *beginning) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	const most = 64 << 10
	t.b.Write(p[:min(len(p), max(most-t.b.Len(), 0))])
	return len(p), nil
}

func (t *beginning) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}
