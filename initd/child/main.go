package child

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"time"

	"initd/boot/step"
)

// Main is the child's side: it runs fn from funcs with what was inherited and
// returns the exit status. It is not for people: without the descriptors it
// says so and returns 2.
func Main(fn string, funcs map[string]step.ChildFunc, stderr io.Writer) int {
	mem := os.NewFile(fdParams, "params")
	st, err := mem.Stat()
	if err != nil || st.Size() > maxParams {
		fmt.Fprintln(stderr, "initd child: started by the orchestrator only")
		return 2
	}
	b := make([]byte, st.Size())
	if _, err := mem.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		fmt.Fprintln(stderr, "initd child: started by the orchestrator only")
		return 2
	}
	mem.Close()
	conn, err := packetConn(fdSocket)
	if err != nil {
		fmt.Fprintln(stderr, "initd child: started by the orchestrator only")
		return 2
	}
	defer conn.Close()
	fail := func(e *step.ChildError) int {
		_ = send(conn, message{Last: true, Error: e}, nil)
		return 1
	}
	var env envelope
	if err := json.Unmarshal(b, &env); err != nil || env.Func != fn {
		return fail(&step.ChildError{Message: "parameters cannot be read: the program and its child are of different versions", Final: true})
	}
	run, ok := funcs[fn]
	if !ok {
		return fail(&step.ChildError{Message: fmt.Sprintf("no child function %q", fn), Final: true})
	}
	in := &step.ChildInput{
		Params: env.Params,
		Tell: func(p step.ChildProgress) {
			files := p.Files
			p.Files = nil
			_ = send(conn, message{Progress: &p}, files) // a parent that is gone hears nothing
		},
		Parts: parts(conn),
		Sub:   sub(env.Unit),
	}
	for i := range env.Files {
		in.Files = append(in.Files, os.NewFile(uintptr(fdFiles+i), fmt.Sprintf("file%d", i)))
	}
	ctx, cancel := context.Background(), context.CancelFunc(func() {})
	if env.By > 0 {
		now, err := monotonic()
		if err != nil {
			return fail(step.AsChildError(err))
		}
		within := env.By - now
		ctx, cancel = context.WithTimeout(ctx, within-min(within/10, time.Second/2))
	}
	defer cancel()
	result, err := guarded(ctx, fn, run, in)
	if err != nil {
		return fail(step.AsChildError(err))
	}
	raw, err := json.Marshal(result)
	if err != nil {
		return fail(step.AsChildError(fmt.Errorf("marshal result of %s: %w", fn, err)))
	}
	if err := send(conn, message{Last: true, Result: raw}, nil); err != nil {
		return 1
	}
	return 0
}

// guarded turns a panic into an error that names the place and not the
// values, which may be secret.
func guarded(ctx context.Context, fn string, run step.ChildFunc, in *step.ChildInput) (result any, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &step.ChildError{CodeText: "CHILD-PANIC", Message: fmt.Sprintf("%s: programming error at %s", fn, panicPlace())}
		}
	}()
	return run(ctx, in)
}

func panicPlace() string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(4, pcs)])
	for {
		f, more := frames.Next()
		if !strings.HasPrefix(f.Function, "runtime.") {
			return fmt.Sprintf("%s (line %d)", f.Function, f.Line)
		}
		if !more {
			return "unknown"
		}
	}
}

// parts hears from the parent which parts of the call are not wanted any more.
func parts(conn *net.UnixConn) func(context.Context, int) []context.Context {
	return func(ctx context.Context, n int) []context.Context {
		list, ends := make([]context.Context, n), make([]context.CancelFunc, n)
		for i := range n {
			list[i], ends[i] = context.WithCancel(ctx)
		}
		go func() {
			buf := make([]byte, 256)
			for {
				got, err := conn.Read(buf)
				if err != nil || got == 0 {
					return
				}
				var off callOff
				if json.Unmarshal(buf[:got], &off) == nil && off.Part >= 0 && off.Part < n {
					ends[off.Part]()
				}
			}
		}()
		return list
	}
}

// sub starts another function below this process, in its cgroup and with its
// credentials; it starts from the calling thread.
func sub(unit string) func(context.Context, step.Call) (func() (json.RawMessage, error), error) {
	return func(ctx context.Context, c step.Call) (func() (json.RawMessage, error), error) {
		c.Unit = unit
		wait, err := (&Runner{Exe: "/proc/self/exe"}).Start(ctx, c)
		if err != nil {
			return nil, err
		}
		return func() (json.RawMessage, error) {
			reply, err := wait()
			closeAll(reply.Files)
			return reply.Result, err
		}, nil
	}
}
