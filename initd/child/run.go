package child

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"initd/boot/step"
)

// Runner starts children. It is safe for concurrent use.
type Runner struct {
	// Exe is the program to run, with the arguments "child NAME".
	Exe string
	// Cgroup is the folder of a cgroup2 tree below which each child gets a
	// group of its own; empty: children stay in the caller's group.
	Cgroup string

	count atomic.Uint64
}

// defaultGrace is how long a killed child may take to end.
const defaultGrace = 2 * time.Second

// Run starts one child and waits for its result. When ctx ends first the
// child is killed with everything it started; if it does not end within the
// grace, *Stuck is returned and a goroutine goes on waiting for it.
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
	p, err := r.start(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("start %s for %s: %w", c.Func, c.Unit, err)
	}
	heard := make(chan outcome, 1)
	go func() { heard <- p.hear(c.Progress) }()
	exited := make(chan error, 1)
	go func() {
		exited <- p.cmd.Wait()
		p.cleanup()
	}()
	return func() (step.Reply, error) { return p.wait(ctx, c, heard, exited) }, nil
}

func (p *process) wait(ctx context.Context, c step.Call, heard <-chan outcome, exited <-chan error) (step.Reply, error) {
	select {
	case o := <-heard:
		return p.finish(ctx, c, o, exited)
	case <-ctx.Done():
	}
	p.kill()
	grace := c.Grace
	if grace == 0 {
		grace = defaultGrace
	}
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-exited:
		o := <-heard
		closeAll(o.files)
		return step.Reply{}, fmt.Errorf("%s for %s: %w", c.Func, c.Unit, context.Cause(ctx))
	case <-t.C:
		return step.Reply{}, p.stuck(c)
	}
}

// process is one running child.
type process struct {
	cmd   *exec.Cmd
	conn  *net.UnixConn
	group string
}

type outcome struct {
	message
	files []*os.File
	err   error
}

func (r *Runner) start(ctx context.Context, c step.Call) (*process, error) {
	params, err := json.Marshal(c.Params)
	if err != nil {
		return nil, fmt.Errorf("marshal parameters: %w", err)
	}
	e := envelope{Func: c.Func, Unit: c.Unit, Files: len(c.Files), Params: params}
	if end, ok := ctx.Deadline(); ok {
		e.Within = time.Until(end)
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
	p := &process{conn: conn}
	cmd := exec.Command(r.Exe, "child", c.Func)
	cmd.Args[0] = "initd"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C"}
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = append([]*os.File{mem, theirs}, c.Files...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if r.Cgroup != "" {
		p.group = filepath.Join(r.Cgroup, fmt.Sprintf("%s-%d", c.Func, r.count.Add(1)))
		dir, err := openGroup(p.group)
		if err != nil {
			conn.Close()
			return nil, err
		}
		defer dir.Close()
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	}
	p.cmd = cmd
	if err := cmd.Start(); err != nil {
		conn.Close()
		p.cleanup()
		return nil, err
	}
	return p, nil
}

func openGroup(path string) (*os.File, error) {
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	return os.Open(path)
}

// hear reads messages until the last one or the end of the socket.
func (p *process) hear(progress func(step.ChildProgress)) outcome {
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
			progress(*m.Progress)
		default:
			closeAll(files)
		}
	}
}

// finish turns the last message, or its lack, into a result.
func (p *process) finish(ctx context.Context, c step.Call, o outcome, exited <-chan error) (step.Reply, error) {
	if o.err == nil {
		p.kill() // it has said its last word; nothing it started may stay
		if o.Error != nil {
			closeAll(o.files)
			return step.Reply{}, o.Error
		}
		return step.Reply{Result: o.Result, Files: o.files}, nil
	}
	var why error
	select {
	case why = <-exited:
	case <-ctx.Done():
		p.kill()
		return step.Reply{}, fmt.Errorf("%s for %s: %w", c.Func, c.Unit, context.Cause(ctx))
	}
	if why == nil {
		why = o.err
	}
	return step.Reply{}, &step.ChildError{
		CodeText: "CHILD-DIED",
		Message:  fmt.Sprintf("%s for %s: process %d ended without a result: %v", c.Func, c.Unit, p.cmd.Process.Pid, why),
	}
}

func (p *process) kill() {
	if p.group != "" && os.WriteFile(filepath.Join(p.group, "cgroup.kill"), []byte("1"), 0) == nil {
		return
	}
	// The process group is the child's own; the signal cannot reach others
	// while the child is not yet waited for.
	_ = unix.Kill(-p.cmd.Process.Pid, unix.SIGKILL)
}

// cleanup removes the cgroup; a group that still holds a dying process stays
// behind and is removed with its parent's next start.
func (p *process) cleanup() {
	if p.group != "" {
		_ = os.Remove(p.group)
	}
}

func (p *process) stuck(c step.Call) error {
	pid := p.cmd.Process.Pid
	return &Stuck{Func: c.Func, Unit: c.Unit, PID: pid, Wchan: wchan(pid)}
}

// wchan says where a process sleeps: the first of its threads that is in
// uninterruptible sleep, else the process itself.
func wchan(pid int) string {
	tasks, _ := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*"))
	for _, t := range tasks {
		b, _ := os.ReadFile(filepath.Join(t, "stat"))
		_, rest, _ := strings.Cut(string(b), ") ")
		if !strings.HasPrefix(rest, "D") {
			continue
		}
		if w, err := os.ReadFile(filepath.Join(t, "wchan")); err == nil && len(w) > 1 {
			return string(w)
		}
	}
	return "unknown"
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
