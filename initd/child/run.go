package child

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"initd/boot/step"
	"initd/hw/process"
)

// Runner starts children. It is safe for concurrent use.
type Runner struct {
	// Exe is the program to run, with the arguments "child NAME".
	Exe string
	// Cgroup is the folder of a cgroup2 tree below which each child gets a
	// group of its own; empty: children stay in the caller's group.
	Cgroup string
	// State is a folder in memory that remembers which child works on which
	// objects, for the next orchestrator; empty: nothing does.
	State string

	count atomic.Uint64
	mu    sync.Mutex
	held  map[string]*hold // guarded by mu; by object
}

// defaultGrace is how long a killed child may take to end.
const defaultGrace = 2 * time.Second

// Run starts one child and waits for its result. When ctx ends first the
// child is killed with everything it started; if that does not end within the
// grace, *Stuck is returned and a goroutine goes on waiting for it. *Stuck is
// returned too, without a child, if one before it is stuck on the same object.
func (r *Runner) Run(ctx context.Context, c step.Call) (step.Reply, error) {
	wait, err := r.Start(ctx, c)
	if err != nil {
		return step.Reply{}, err
	}
	return wait()
}

// Start is the first half of Run: it starts the child from the calling
// thread; wait, which must be called, is the other half.
func (r *Runner) Start(ctx context.Context, c step.Call) (wait func() (step.Reply, error), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	h, err := r.claim(ctx, c)
	if err != nil {
		return nil, err
	}
	p, err := r.start(ctx, c, h)
	if err != nil {
		h.release()
		return nil, fmt.Errorf("start %s for %s: %w", c.Func, c.Unit, err)
	}
	heard := make(chan outcome, 1)
	go func() { heard <- p.hear(h, c.Progress) }()
	ended := make(chan error, 1)
	go func() {
		ended <- p.cmd.Wait()
		p.reap(h, c.Grace)
	}()
	deaf := p.callOff(c.Parts)
	return func() (step.Reply, error) {
		defer deaf()
		return p.wait(ctx, c, h, heard, ended)
	}, nil
}

// callOff tells the child of parts that are not wanted any more, until deaf is called.
func (p *child) callOff(contexts []context.Context) (deaf func()) {
	var stops []func() bool
	for i, ctx := range contexts {
		stops = append(stops, context.AfterFunc(ctx, func() {
			if b, err := json.Marshal(callOff{Part: i}); err == nil {
				_, _ = p.conn.Write(b) // a child that has gone has no part left
			}
		}))
	}
	return func() {
		for _, stop := range stops {
			stop()
		}
	}
}

func (p *child) wait(ctx context.Context, c step.Call, h *hold, heard <-chan outcome, ended <-chan error) (step.Reply, error) {
	select {
	case o := <-heard:
		if o.err == nil {
			return p.finish(c, h, o)
		}
		select {
		case why := <-ended:
			return step.Reply{}, p.died(c, o, why)
		case <-ctx.Done():
		}
	case <-ctx.Done():
	case <-p.idle(c, h):
		h.jam.Do(func() { close(h.jammed) })
		return step.Reply{}, h.stuck(c.Func, c.Unit)
	}
	if len(c.Parts) > 0 { // it was told so: what ends by itself leaves nothing half made
		grace := time.NewTimer(cmp.Or(c.Grace, defaultGrace))
		defer grace.Stop()
		select {
		case o := <-heard:
			if o.err == nil {
				return p.finish(c, h, o)
			}
		case <-grace.C:
		}
	}
	asleep, isAsleep := process.Asleep(p.cmd.Process.Pid)
	p.kill()
	h.killed(c.Grace)
	select {
	case <-h.gone:
	case <-h.jammed:
		return step.Reply{}, h.stuck(c.Func, c.Unit)
	}
	select {
	case o := <-heard:
		if o.err == nil {
			return p.finish(c, h, o) // its last word came at the last moment
		}
	default: // it was heard before, with an error
	}
	if isAsleep {
		return step.Reply{}, fmt.Errorf("%s for %s: process %d slept in the kernel (%s): %w", c.Func, c.Unit, p.cmd.Process.Pid, asleep, context.Cause(ctx))
	}
	return step.Reply{}, fmt.Errorf("%s for %s: %w", c.Func, c.Unit, context.Cause(ctx))
}

// child is one running process.
type child struct {
	cmd   *exec.Cmd
	conn  *net.UnixConn
	group process.Group // empty: it has none of its own
}

type outcome struct {
	message
	files []*os.File
	err   error
}

func (r *Runner) start(ctx context.Context, c step.Call, h *hold) (*child, error) {
	params, err := json.Marshal(c.Params)
	if err != nil {
		return nil, fmt.Errorf("marshal parameters: %w", err)
	}
	e := envelope{Func: c.Func, Unit: c.Unit, Files: len(c.Files), Params: params}
	if end, ok := ctx.Deadline(); ok {
		now, err := monotonic()
		if err != nil {
			return nil, err
		}
		e.By = now + time.Until(end)
	}
	env, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("marshal parameters: %w", err)
	}
	mem, err := sealed("initd-params", env)
	if err != nil {
		return nil, err
	}
	defer mem.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "child-socket")
	defer theirs.Close()
	conn, err := packetConn(pair[0])
	if err != nil {
		return nil, err
	}
	p := &child{conn: conn}
	cmd := exec.Command(r.Exe, "child", c.Func)
	cmd.Args[0] = "initd"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C"}
	if !c.Compute {
		// A huge page costs more to clear than such a process ever uses of it, and a second processor more to wake.
		cmd.Env = append(cmd.Env, "GOMAXPROCS=1", "GODEBUG=disablethp=1")
	}
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = append([]*os.File{mem, theirs}, c.Files...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if r.Cgroup != "" {
		dir, err := r.group(c.Func, p)
		if err != nil {
			conn.Close()
			return nil, err
		}
		defer dir.Close()
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
		h.group = p.group
		if r.State != "" && len(c.Objects) > 0 {
			h.file = filepath.Join(r.State, filepath.Base(string(p.group))+".json")
		}
	}
	p.cmd = cmd
	h.remember() // before it can do anything
	if err := cmd.Start(); err != nil {
		conn.Close()
		p.cleanup()
		return nil, err
	}
	h.started(cmd.Process.Pid)
	return p, nil
}

// group makes a cgroup that nobody has: one of an orchestrator before this one
// may still be lived in.
func (r *Runner) group(fn string, p *child) (*os.File, error) {
	for {
		path := filepath.Join(r.Cgroup, fmt.Sprintf("%s-%d", fn, r.count.Add(1)))
		err := os.Mkdir(path, 0o755)
		if errors.Is(err, os.ErrExist) && os.Remove(path) != nil {
			continue
		}
		if errors.Is(err, os.ErrExist) {
			err = os.Mkdir(path, 0o755)
		}
		if err != nil {
			return nil, fmt.Errorf("make cgroup: %w", err)
		}
		p.group = process.Group(path)
		return os.Open(path)
	}
}

// hear reads messages until the last one or the end of the socket.
func (p *child) hear(h *hold, progress func(step.ChildProgress)) outcome {
	defer p.conn.Close()
	buf, oob := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4*maxRights))
	for {
		m, files, err := receive(p.conn, buf, oob)
		switch {
		case err != nil:
			return outcome{err: err}
		case m.Last:
			return outcome{message: m, files: files}
		case m.Progress != nil && progress != nil:
			m.Progress.Files = files
			if m.Progress.Done && (m.Progress.Error == nil || m.Progress.Over) { // else something of it may still be at it
				h.through(m.Progress.Index) // first: who hears it may start the next
			}
			progress(*m.Progress)
		default:
			closeAll(files)
		}
	}
}

// finish turns the last message into a result. What the child started may not
// stay; that it has gone is awaited by who wants the same objects.
func (p *child) finish(c step.Call, h *hold, o outcome) (step.Reply, error) {
	p.kill()
	h.killed(c.Grace)
	if o.Error != nil {
		closeAll(o.files)
		return step.Reply{}, o.Error
	}
	return step.Reply{Result: o.Result, Files: o.files}, nil
}

// died is the error of a child that ended without a last message.
func (p *child) died(c step.Call, o outcome, why error) error {
	if why == nil {
		why = o.err
	}
	return &step.ChildError{
		CodeText: "CHILD-DIED",
		Message:  fmt.Sprintf("%s for %s: process %d ended without a result: %v", c.Func, c.Unit, p.cmd.Process.Pid, why),
	}
}

// reap waits until everything that the child started has gone too.
func (p *child) reap(h *hold, grace time.Duration) {
	if p.group != "" && !p.group.Empty() {
		p.kill()
		h.killed(grace)
		if p.group.AwaitEmpty() != nil {
			h.jam.Do(func() { close(h.jammed) }) // nobody will tell when it goes
			return
		}
	}
	p.cleanup()
	h.release()
}

// naps is how often a child that must not be killed is looked at within its
// Call's Idle: the kernel tells nobody that a process goes on sleeping.
const naps = 5

// idle is closed when a child that must not be killed has slept for long
// enough; nil for others.
func (p *child) idle(c step.Call, h *hold) <-chan struct{} {
	if !c.Uninterruptible || c.Idle <= 0 {
		return nil
	}
	slept := make(chan struct{})
	go func() {
		t := time.NewTicker(c.Idle / naps)
		defer t.Stop()
		last, same := "", 0
		for same < naps {
			select {
			case <-h.gone:
				return
			case <-t.C:
			}
			nap := process.Nap(h.pids())
			if same++; nap == "" || nap != last {
				same = 0
			}
			last = nap
		}
		close(slept)
	}()
	return slept
}

func (p *child) kill() {
	if p.group != "" {
		if err := p.group.Kill(); err == nil || errors.Is(err, os.ErrNotExist) {
			return // it is gone with its last process
		}
	}
	// The process group is the child's own; the signal cannot reach others
	// while the child is not yet waited for.
	_ = unix.Kill(-p.cmd.Process.Pid, unix.SIGKILL)
}

// cleanup removes the cgroup.
func (p *child) cleanup() {
	if p.group != "" {
		_ = os.Remove(string(p.group))
	}
}

func sealed(name string, b []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(b); err != nil {
		f.Close()
		return nil, fmt.Errorf("write parameters: %w", err)
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, fmt.Errorf("seal parameters: %w", err)
	}
	return f, nil
}

// packetConn takes fd over.
func packetConn(fd int) (*net.UnixConn, error) {
	f := os.NewFile(uintptr(fd), "child-socket")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("socket is a %T", c)
	}
	return u, nil
}
