package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"initd/hw/process"
	"initd/initd/appear"
	"initd/initd/pid1/client"
	"initd/initd/pid1/wire"
)

func (r Ready) none() bool { return len(r.Exec) == 0 && r.TCP == "" && !r.Notify && r.File == "" }

// String says what is awaited: "exec redis-cli ping".
func (r Ready) String() string {
	switch {
	case len(r.Exec) > 0:
		return "exec " + strings.Join(r.Exec, " ")
	case r.TCP != "":
		return "tcp " + r.TCP
	case r.Notify:
		return "READY=1"
	case r.File != "":
		return "file " + r.File
	}
	return "nothing"
}

// Between attempts at readiness, where nothing tells that it is worth one.
const (
	firstPause = 50 * time.Millisecond
	maxPause   = 2 * time.Second
	probeTime  = 10 * time.Second // of one attempt by exec
	dialTime   = time.Second      // of one attempt by tcp
)

// probe waits for readiness in a goroutine of its own; mu is held.
func (u *unit) probe(p *proc) {
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	r := u.def.Ready
	var attempt func(context.Context) error
	switch {
	case len(r.Exec) > 0:
		n := 0
		attempt = func(ctx context.Context) error { n++; return u.tryExec(ctx, p, n) }
	case r.TCP != "":
		attempt = func(ctx context.Context) error { return tryTCP(ctx, r.TCP) }
	case r.File != "":
		go u.awaitFile(ctx, p, r.File)
		return
	default:
		return // notify: hear
	}
	go func() {
		pause := firstPause
		for {
			err := attempt(ctx)
			if ctx.Err() != nil {
				return
			}
			if err == nil {
				u.answered(p)
				return
			}
			u.missing(p, fmt.Sprintf("waiting for %s: %v", r, err))
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			pause = min(pause*2, maxPause)
		}
	}()
}

// answered: the process is ready.
func (u *unit) answered(p *proc) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.proc == p && u.phase == Starting {
		u.ready()
	}
}

func (u *unit) missing(p *proc, reason string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.proc == p && u.phase == Starting {
		u.because(reason)
	}
}

func tryTCP(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		if op := (*net.OpError)(nil); errors.As(err, &op) {
			if e := (syscall.Errno(0)); errors.As(op.Err, &e) {
				return e // "connection refused": the address is said already
			}
			return op.Err
		}
		return err
	}
	return c.Close()
}

// probing is one process that looks whether the service is ready.
type probing struct{ ended chan *wire.Exited }

func (p probing) told(msg wire.Message) {
	if e, ok := msg.(*wire.Exited); ok {
		p.ended <- e
	}
}

// tryExec runs the probe as the service's user, through init.
func (u *unit) tryExec(ctx context.Context, p *proc, n int) error {
	u.mu.Lock()
	spec, err := u.spec()
	command := u.def.Ready.Exec
	u.mu.Unlock()
	if err != nil {
		return err
	}
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	defer out.Close()
	spec.Argv, spec.Files = command, []uint32{1, 2}
	name := u.name + ".ready"
	ask, cancel := context.WithTimeout(context.Background(), answerTime) // not ctx: an answer that nobody takes is a process that nobody ends
	defer cancel()
	started, err := u.m.init.Spawn(ask, fmt.Sprintf("%s/%d/%d", name, p.ID, n), groupPrefix+name, spec, in, in)
	in.Close()
	if err != nil {
		return err
	}
	defer started.PIDFD.Close()
	w := probing{make(chan *wire.Exited, 1)}
	u.m.own(started.ID, w)
	limit := time.NewTimer(probeTime)
	defer limit.Stop()
	select {
	case e := <-w.ended:
		u.m.finish(e)
		if e.Stage == 0 && e.Status == 0 {
			return nil
		}
		return probeError(Ended(e, command[0]), out)
	case <-limit.C:
		err = fmt.Errorf("no end within %s", probeTime)
	case <-ctx.Done():
		err = ctx.Err()
	}
	u.endProbe(ctx, p, started, w)
	return err
}

// endProbe kills a probe and waits until it is gone: there is never a second
// one beside one that sleeps in the kernel.
func (u *unit) endProbe(ctx context.Context, p *proc, started client.Process, w probing) {
	ask, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	if u.m.init.Signal(ask, started.ID, unix.SIGKILL, true) != nil {
		_ = u.m.init.Signal(ask, started.ID, unix.SIGKILL, false)
	}
	patience := time.NewTimer(killTime)
	defer patience.Stop()
	u.mu.Lock()
	ready := u.def.Ready
	u.mu.Unlock()
	for {
		select {
		case e := <-w.ended:
			u.m.finish(e)
			return
		case <-ctx.Done():
			u.m.own(started.ID, stray{u.m})
			select {
			case e := <-w.ended: // it went meanwhile
				u.m.finish(e)
			default:
			}
			return
		case <-patience.C:
			if wchan, asleep := process.Asleep(started.PID); asleep {
				u.missing(p, fmt.Sprintf("waiting for %s: process %d sleeps in the kernel (%s) and cannot be ended", ready, started.PID, wchan))
			}
		}
	}
}

// probeError adds the last line that the probe wrote; all of it is in the
// pipe by now.
func probeError(how string, out *os.File) error {
	_ = out.SetReadDeadline(time.Now().Add(time.Second)) // a process it left may hold the other end
	b, _ := io.ReadAll(io.LimitReader(out, 4<<10))
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if last := printable([]byte(lines[len(lines)-1])); last != "" {
		how += ": " + last
	}
	return errors.New(how)
}

// awaitFile waits for a path to appear. Below /run and /dev, which are in
// memory, the kernel tells; elsewhere it is looked for by Options.Exists.
func (u *unit) awaitFile(ctx context.Context, p *proc, path string) {
	pause := firstPause
	for {
		var stirred <-chan struct{}
		var stop func()
		if inMemory(path) {
			stirred, stop = appear.Watch(path)
		}
		ok, err := u.m.opt.Exists(ctx, path)
		if ok && err == nil {
			if stop != nil {
				stop()
			}
			u.answered(p)
			return
		}
		if err != nil {
			u.missing(p, fmt.Sprintf("waiting for file %s: %v", path, err))
		}
		var timer <-chan time.Time
		if stirred == nil {
			timer = time.After(pause)
			pause = min(pause*2, maxPause)
		}
		select {
		case <-ctx.Done():
		case <-stirred:
		case <-timer:
		}
		if stop != nil {
			stop()
		}
		if ctx.Err() != nil {
			return
		}
	}
}

func inMemory(path string) bool {
	p := filepath.Clean(path)
	return strings.HasPrefix(p, "/run/") || strings.HasPrefix(p, "/dev/")
}
