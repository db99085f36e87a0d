package sandbox

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"initd/v2v/image"
	"initd/v2v/self"
)

// start runs a child with a source. It has read nothing yet.
func start(f *os.File, name string, src Source, opt Options) (*process, error) {
	opt = opt.withDefaults(runtime.NumCPU())
	fail := func(err error) (*process, error) {
		return nil, fmt.Errorf("start a reader for %s: %w", name, err)
	}
	slots, err := shared(opt.Slots * SlotSize)
	if err != nil {
		return fail(err)
	}
	defer slots.Close()
	mem, err := unix.Mmap(int(slots.Fd()), 0, opt.Slots*SlotSize, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fail(fmt.Errorf("map the shared buffers: %w", err))
	}
	child, err := self.New(arg, name)
	if err != nil {
		_ = unix.Munmap(mem)
		return fail(err)
	}
	socket, err := pollable(child.Socket)
	if err != nil {
		child.Drop()
		_ = unix.Munmap(mem)
		return fail(err)
	}
	p := &process{name: name, src: src, opt: opt, mem: mem, child: child, socket: socket, gone: make(chan struct{}),
		free: make(chan uint32, opt.Slots), answer: make([]chan message, opt.Slots), asked: make([]atomic.Bool, opt.Slots)}
	for i := range opt.Slots {
		p.answer[i] = make(chan message, 1)
		p.free <- uint32(i)
	}

	env := []string{
		envMemory + "=" + strconv.FormatInt(opt.Memory, 10),
		envSlots + "=" + strconv.Itoa(opt.Slots),
		envParent + "=" + strconv.Itoa(os.Getpid()),
	}
	if err := child.Start(env, slots, f); err != nil {
		socket.close()
		_ = unix.Munmap(mem)
		return fail(err)
	}
	go p.reap()
	go p.listen()
	return p, nil
}

// reap waits for the end of the child and says what it means.
func (p *process) reap() {
	state, _ := p.child.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = p.cause
	if p.err == nil {
		p.err = death(p.name, state, p.child.Said(), p.opt.Memory)
		p.cause = p.err
	}
	close(p.gone)
}

// shared makes the buffers: memory that neither side can shrink under the other.
func shared(size int) (*os.File, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("v2v-slots", flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate("v2v-slots", flags)
	}
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "v2v-slots")
	if err := f.Truncate(int64(size)); err != nil {
		return nil, errors.Join(fmt.Errorf("size the shared buffers: %w", err), f.Close())
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		return nil, errors.Join(fmt.Errorf("seal the shared buffers: %w", err), f.Close())
	}
	return f, nil
}

// Codes of what an image can do to its reader.
const (
	CodeCrash    = "reader-crash"
	CodeMemory   = "reader-memory"
	CodeBusy     = "reader-busy"
	CodeSilent   = "reader-silent"
	CodeSyscall  = "reader-syscall"
	CodeProtocol = "reader-protocol"
	CodeKilled   = "reader-killed"
)

// death says what the end of a child means that we did not end.
func death(name string, state *os.ProcessState, said string, memory int64) error {
	const again = "fetch the image again from whom you trust; if it is sound, this is a defect of the reader: report it with the image"
	fault := func(code, what, do string) error {
		return &image.Error{Fault: image.Corrupt, Code: code, Image: name, What: what, Do: do}
	}
	status, _ := state.Sys().(syscall.WaitStatus)
	first := reason(said)
	switch {
	case status.Signaled() && status.Signal() == syscall.SIGSYS:
		return fault(CodeSyscall, "its reader was ended because it tried what no reader does", "do not use this image: it is made to take its reader over")
	case status.Signaled():
		return fault(CodeKilled, fmt.Sprintf("its reader was ended from outside: %v", status.Signal()),
			"the kernel does this when memory is short: see dmesg; then try again")
	case status.Exited() && status.ExitStatus() == exitNotConfined, status.Exited() && status.ExitStatus() == exitCannotServe:
		return fmt.Errorf("start a reader for %s: %s", name, first)
	case strings.Contains(said, "out of memory") || strings.Contains(said, "cannot allocate memory"),
		strings.HasPrefix(first, "SIGSEGV") && atLimit(state, memory):
		return fault(CodeMemory, "reading it takes more memory than a reader may have", "do not use this image: it is made to exhaust its reader")
	case first != "":
		return fault(CodeCrash, "its reader crashed: "+first, again)
	}
	return fault(CodeCrash, fmt.Sprintf("its reader ended by itself: %v", state), again)
}

// atLimit says whether a process held about what it might. The runtime does not always come to saying that there is no more: it may touch what it was not given.
func atLimit(state *os.ProcessState, memory int64) bool {
	used, ok := state.SysUsage().(*syscall.Rusage)
	return ok && used.Maxrss*1024 >= memory/2
}

func protocol(name, what string) error {
	return &image.Error{Fault: image.Corrupt, Code: CodeProtocol, Image: name, What: "its reader answered with " + what,
		Do: "do not use this image: it seems to have taken its reader over"}
}

// reason is the line of a Go program's last words that says most.
func reason(said string) string {
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "runtime: ") {
			return Clean(line)
		}
	}
	return Clean(strings.TrimSpace(said))
}
