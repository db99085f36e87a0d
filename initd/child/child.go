// Package child runs functions of boot/step in short-lived processes: whatever
// can block in the kernel, parses hostile bytes or holds a secret.
//
// It owns how such a process is started (own cgroup, parameters and files by
// inherited descriptors, nothing in argv or the environment but names), heard
// (progress, results, descriptors over one socket), bounded and given up. It
// never knows what a function does, and a secret passes it only as a
// descriptor.
//
// A child inherits: 3, a sealed memfd with its parameters as JSON; 4, a
// SOCK_SEQPACKET socket to its parent; 5 and up, the files of the call.
package child

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"initd/boot/step"
	"initd/initd/pid1/wire"
)

const (
	fdParams = 3
	fdSocket = 4
	fdFiles  = 5

	maxMessage = 128 << 10 // bytes of one JSON message
	maxParams  = 8 << 20   // bytes of the parameters
	maxRights  = 128       // descriptors in one message; the kernel's limit is 253
)

// envelope is what stands in the parameters' memfd.
type envelope struct {
	Func  string `json:"func"`
	Unit  string `json:"unit"`
	Files int    `json:"files"`
	// By is when the child is killed, on the clock that every process has in
	// common (CLOCK_MONOTONIC); its context ends a little earlier, so that it
	// can say what it was waiting for.
	By     time.Duration   `json:"by,omitempty"`
	Params json.RawMessage `json:"params,omitempty"`
}

// monotonic is the time since some moment that all processes agree on.
func monotonic() (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0, fmt.Errorf("clock_gettime: %w", err)
	}
	return time.Duration(t.Nano()), nil
}

// callOff goes from parent to child: a part of the call is not wanted any more.
type callOff struct {
	Part int `json:"off"`
}

// message goes from child to parent. Exactly one with Last set ends a run.
type message struct {
	Last     bool                `json:"last,omitempty"`
	Result   json.RawMessage     `json:"result,omitempty"`
	Error    *step.ChildError    `json:"error,omitempty"`
	Progress *step.ChildProgress `json:"progress,omitempty"`
}

// Stuck is the error of a child that survives SIGKILL: it sleeps in the
// kernel, and nothing in user space can end it. A call that would work on the
// same object is refused with it too.
type Stuck struct {
	Func, Unit string
	PID        int
	Wchan      string // the kernel function it sleeps in, as /proc/PID/wchan says

	freed <-chan struct{}
}

func (e *Stuck) Error() string {
	return fmt.Sprintf("%s for %s: process %d sleeps in the kernel (%s) and cannot be ended", e.Func, e.Unit, e.PID, e.Wchan)
}

// Stuck returns what the report shows.
func (e *Stuck) Stuck() (pid int, wchan string) { return e.PID, e.Wchan }

// Freed is closed when the process has gone after all, with everything that
// it started.
func (e *Stuck) Freed() <-chan struct{} { return e.freed }

// Code returns the stable code of this error.
func (e *Stuck) Code() string { return "CHILD-STUCK" }

func send(c *net.UnixConn, m message, files []*os.File) error {
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("marshal message: %w", err)
	}
	if len(b) > maxMessage {
		return fmt.Errorf("message of %d bytes is larger than %d", len(b), maxMessage)
	}
	if len(files) > maxRights {
		return fmt.Errorf("%d descriptors in one message, at most %d", len(files), maxRights)
	}
	if len(files) == 0 {
		// By write(2): a child that has confined itself may have no other call.
		if _, err := c.Write(b); err != nil {
			return fmt.Errorf("send message: %w", err)
		}
		return nil
	}
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	if _, _, err := c.WriteMsgUnix(b, unix.UnixRights(fds...), nil); err != nil {
		return fmt.Errorf("send message: %w", err)
	}
	return nil
}

func receive(c *net.UnixConn, buf, oob []byte) (message, []*os.File, error) {
	n, oobn, flags, _, err := c.ReadMsgUnix(buf, oob)
	if err != nil {
		return message{}, nil, err
	}
	files := rights(oob[:oobn])
	if n == 0 && oobn == 0 {
		return message{}, nil, errEnded
	}
	if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		closeAll(files)
		return message{}, nil, errors.New("message was cut off")
	}
	var m message
	if err := json.Unmarshal(buf[:n], &m); err != nil {
		closeAll(files)
		return message{}, nil, fmt.Errorf("read message: %w", err)
	}
	return m, files, nil
}

var errEnded = errors.New("the child closed its socket")

func rights(oob []byte) []*os.File {
	var files []*os.File
	for _, fd := range wire.Rights(oob) {
		unix.CloseOnExec(fd)
		files = append(files, os.NewFile(uintptr(fd), "received"))
	}
	return files
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
