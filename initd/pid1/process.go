package main

import (
	"encoding/binary"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"initd/initd/pid1/wire"
)

// process is one that init started, until its end is acknowledged.
type process struct {
	id      uint64
	pid     int
	pidfd   int
	name    string
	group   string
	state   wire.State
	started uint64
	boss    bool // the orchestrator
	report  *os.File
	stage   wire.Stage // where the stub failed
	errno   uint32
	exited  *wire.Exited
}

// maxProcesses bounds the table.
const maxProcesses = 4096

// spawn starts a stub that becomes the program. spec is a descriptor to read
// it from, files are those that it places; all stay the caller's.
func (m *machine) spawn(name, group string, spec int, files []int) (*process, error) {
	if len(m.procs) >= maxProcesses {
		return nil, unix.EAGAIN
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("open /dev/null", err)
	}
	defer unix.Close(null)
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("pipe", err)
	}
	defer unix.Close(pipe[1])
	dir := "-"
	if m.groups != "" {
		dir = m.groups.path(group)
	}
	fds := []uintptr{uintptr(null), uintptr(null), uintptr(null), uintptr(spec), uintptr(pipe[1])}
	for _, f := range files {
		fds = append(fds, uintptr(f))
	}
	p := &process{name: name, group: group, pidfd: -1, state: wire.StateLoading, started: boottime()}
	p.pid, err = fork([]string{stubName, "exec", dir}, fds, &p.pidfd)
	if err != nil {
		unix.Close(pipe[0])
		return nil, err
	}
	m.lastID++
	p.id = m.lastID
	m.procs[p.id] = p
	p.report = os.NewFile(uintptr(pipe[0]), "stub-report")
	go listen(p.report, p.id, m.stirred)
	return p, nil
}

// fork starts this image as a stub. The parent sleeps until the child has
// executed it, which is why it is never anything but this image, in memory.
func fork(argv []string, fds []uintptr, pidfd *int) (int, error) {
	pid, err := syscall.ForkExec("/proc/self/exe", argv, &syscall.ProcAttr{
		Env:   []string{},
		Files: fds,
		Sys:   &syscall.SysProcAttr{Setsid: true, PidFD: pidfd},
	})
	return pid, os.NewSyscallError("fork", err)
}

// listen waits until the stub's pipe has something to say, or has ended
// because the program was executed.
func listen(f *os.File, id uint64, stirred chan<- uint64) {
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	waited := false
	if raw.Read(func(uintptr) bool {
		was := waited
		waited = true
		return was
	}) == nil {
		stirred <- id
	}
}

// hear reads the stub's pipe without waiting.
func (m *machine) hear(p *process) {
	if p.report == nil {
		return
	}
	var b [6]byte
	n := -1
	raw, err := p.report.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { n, err = unix.Read(int(fd), b[:]) })
	}
	switch {
	case err == unix.EAGAIN:
		return
	case n == len(b):
		p.stage = wire.Stage(binary.LittleEndian.Uint16(b[:]))
		p.errno = binary.LittleEndian.Uint32(b[2:])
	case p.state == wire.StateLoading:
		p.state = wire.StateRunning
		m.tell(&wire.Running{ID: p.id}, p)
	}
	p.report.Close()
	p.report = nil
}

// ended records the end of a process and tells it.
func (m *machine) ended(p *process, w unix.WaitStatus, ru unix.Rusage) {
	alive := p.state
	p.state = wire.StateExited // before hear: a dead one does not start to run
	m.hear(p)
	if p.report != nil {
		p.report.Close()
		p.report = nil
	}
	unix.Close(p.pidfd)
	p.pidfd = -1
	p.exited = &wire.Exited{
		ID: p.id, PID: uint32(p.pid), Name: p.name, Status: uint32(w), Stage: p.stage, Errno: p.errno,
		User: micros(ru.Utime), System: micros(ru.Stime), MaxRSS: uint64(ru.Maxrss),
		Started: p.started, Ended: boottime(), Left: m.groups.populated(p.group),
	}
	m.debug(p.name + " [" + itoa(p.pid) + "]: " + waitText(syscall.WaitStatus(w)))
	if p.boss {
		delete(m.procs, p.id)
		m.boss.ended(m, p, syscall.WaitStatus(w), alive)
		return
	}
	m.tell(p.exited, p)
}

func micros(t unix.Timeval) uint64 { return uint64(t.Sec)*1_000_000 + uint64(t.Usec) }

// tell sends what concerns a service to the orchestrator that leads now.
func (m *machine) tell(msg wire.Message, p *process) {
	if !p.boss && m.boss.phase == bossUp {
		m.boss.link.send(wire.Record{Message: msg})
	}
}

// forget drops a process whose end was acknowledged, and its group.
func (m *machine) forget(p *process) {
	delete(m.procs, p.id)
	for _, q := range m.procs {
		if q.group == p.group && q.state != wire.StateExited {
			return
		}
	}
	m.groups.remove(p.group)
}

// named returns the process that has a name.
func (m *machine) named(name string) *process {
	for _, p := range m.procs {
		if p.name == name && !p.boss {
			return p
		}
	}
	return nil
}
