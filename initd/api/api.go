// Package api is the local interface of a running orchestrator: one request
// and one answer over a unix socket that only root may open.
//
// It owns the messages and their transport. It never does what is asked: that
// is a Handler, which main fills in. Secrets pass as descriptors of sealed
// memfds and are never read here.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"initd/initd/pid1/wire"
)

// Version is the version of the messages; fields are only ever added.
const Version = 1

// DefaultSocket is where a running orchestrator listens.
const DefaultSocket = "/run/initd/api.sock"

// maxMessage bounds a request or an answer, in bytes.
const maxMessage = 64 << 10

// Operations of a Request.
const (
	OpRetry    = "retry"    // start the unit's attempts anew, now
	OpSkip     = "skip"     // treat the unit as done without it
	OpFeedKey  = "feed-key" // Name is a key, the descriptor its value
	OpShutdown = "shutdown" // Name is poweroff, reboot or halt
	OpLogs     = "logs"     // Name is a service; the answer is its last lines
	OpPing     = "ping"
)

// Request asks for one thing.
type Request struct {
	Version int    `json:"version"`
	Op      string `json:"op"`
	Unit    string `json:"unit,omitempty"`
	Name    string `json:"name,omitempty"`
}

// Answer is what became of it.
type Answer struct {
	OK      bool   `json:"ok"`
	Message string `json:"message,omitempty"`
	// Code is for a caller that branches: CodeUnknownUnit, or that of the error.
	Code string `json:"code,omitempty"`
}

// CodeUnknownUnit says that the request names no unit of the plan.
const CodeUnknownUnit = "unknown-unit"

// Handler does what is asked. file is nil, or a descriptor that the handler
// owns from then on.
type Handler func(ctx context.Context, r Request, file *os.File) (message string, err error)

// Serve listens on path until ctx ends. An old socket there is replaced: the
// caller is the only orchestrator.
func Serve(ctx context.Context, path string, h Handler) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("listen for commands: %w", err)
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return fmt.Errorf("listen for commands: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return fmt.Errorf("listen for commands: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("listen for commands: %w", err)
		}
		go serveOne(ctx, c, h)
	}
}

// requestTime bounds reading a request; what it asks for may take longer.
const requestTime = 10 * time.Second

func serveOne(ctx context.Context, c *net.UnixConn, h Handler) {
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(requestTime))
	buf, oob := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4*4))
	n, oobn, _, _, err := c.ReadMsgUnix(buf, oob)
	if err != nil {
		return
	}
	file := oneFile(oob[:oobn])
	var r Request
	a := Answer{}
	switch err := json.Unmarshal(buf[:n], &r); {
	case err != nil:
		a.Message = "request cannot be read: " + err.Error()
	case !root(c):
		a.Message = "only root may ask"
	default:
		msg, err := h(ctx, r, file)
		file = nil
		a = Answer{OK: err == nil, Message: msg}
		if err != nil {
			a.Message = err.Error()
			var code interface{ Code() string }
			if errors.As(err, &code) {
				a.Code = code.Code()
			}
		}
	}
	if file != nil {
		file.Close()
	}
	b, err := json.Marshal(a)
	if err != nil {
		return
	}
	_, _ = c.Write(b) // a caller that is gone hears nothing
}

func root(c *net.UnixConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	ok := false
	_ = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		ok = err == nil && cred.Uid == 0
	})
	return ok
}

// oneFile is the first descriptor that came; the others are closed.
func oneFile(oob []byte) *os.File {
	fds := wire.Rights(oob)
	if len(fds) == 0 {
		return nil
	}
	wire.CloseAll(fds[1:])
	unix.CloseOnExec(fds[0])
	return os.NewFile(uintptr(fds[0]), "request")
}

// ErrNotRunning: no orchestrator listens on the socket.
var ErrNotRunning = errors.New("no orchestrator is running here")

// ErrNotRoot: the socket is not for this user.
var ErrNotRoot = errors.New("only root may give the orchestrator orders")

// Ask sends one request and waits for the answer until ctx ends. file may be nil.
func Ask(ctx context.Context, path string, r Request, file *os.File) (Answer, error) {
	r.Version = Version
	var a Answer
	conn, err := (&net.Dialer{}).DialContext(ctx, "unixpacket", path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
			return a, ErrNotRunning
		}
		if errors.Is(err, os.ErrPermission) {
			return a, ErrNotRoot
		}
		return a, fmt.Errorf("ask the orchestrator: %w", err)
	}
	defer conn.Close()
	c := conn.(*net.UnixConn)
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	b, err := json.Marshal(r)
	if err != nil {
		return a, fmt.Errorf("ask the orchestrator: %w", err)
	}
	var oob []byte
	if file != nil {
		oob = unix.UnixRights(int(file.Fd()))
	}
	if _, _, err := c.WriteMsgUnix(b, oob, nil); err != nil {
		return a, fmt.Errorf("ask the orchestrator: %w", err)
	}
	buf := make([]byte, maxMessage)
	n, err := c.Read(buf)
	switch {
	case err == nil && n > 0: // also where the time is over by now: the order was taken
	case ctx.Err() != nil:
		return a, fmt.Errorf("the orchestrator takes the order and does not answer: %w", context.Cause(ctx))
	case err == nil && n == 0, errors.Is(err, io.EOF):
		return a, errors.New("the orchestrator ended before it answered: ask again")
	case err != nil:
		return a, fmt.Errorf("hear the orchestrator: %w", err)
	}
	if err := json.Unmarshal(buf[:n], &a); err != nil {
		return a, fmt.Errorf("hear the orchestrator: %w", err)
	}
	return a, nil
}
