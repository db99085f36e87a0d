package main

import (
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"initd/initd/pid1/wire"
)

// Descriptors that the stub is started with; the files of the spawn follow.
const (
	stubSpec   = 3
	stubReport = 4
	stubFiles  = 5
)

// stubFailed is the exit status of a stub that could not become its program,
// as shells use it.
const stubFailed = 127

// stub is init's image as another process: it becomes a program, or makes a
// call that may never return. Whatever it waits for, init does not.
func stub(args []string) int {
	switch {
	case len(args) == 2 && args[0] == "exec":
		runtime.LockOSThread()
		stage, err := become(args[1])
		report(stage, err)
		return stubFailed
	case len(args) == 1 && args[0] == "sync":
		unix.Sync()
		return 0
	}
	return 2
}

// report tells init why the program was not loaded: stage u16, errno u32.
func report(stage wire.Stage, err error) {
	code := uint32(unix.EINVAL)
	if e := syscall.Errno(0); errors.As(err, &e) {
		code = uint32(e)
	}
	b := binary.LittleEndian.AppendUint16(nil, uint16(stage))
	b = binary.LittleEndian.AppendUint32(b, code)
	for _, fd := range []int{parkedReport, stubReport} {
		if _, err := unix.Write(fd, b); err == nil {
			return
		}
	}
}

// parkedReport is where the report's pipe is while the program's descriptors
// are placed; the spec allows none as high.
const parkedReport = 256

// become turns this process into the program that the spec describes. It
// returns on failure only. group is the folder of its cgroup, or "".
func become(group string) (wire.Stage, error) {
	b := make([]byte, wire.MaxSpec+1)
	n, err := unix.Pread(stubSpec, b, 0)
	if err != nil {
		return wire.StageSpec, err
	}
	s, err := wire.DecodeSpec(b[:n])
	if err != nil {
		return wire.StageSpec, unix.EOPNOTSUPP
	}
	if group != "-" {
		if err := join(group); err != nil {
			return wire.StageGroup, err
		}
	}
	if err := place(s.Files); err != nil {
		return wire.StageFiles, err
	}
	if err := limit(s); err != nil {
		return wire.StageLimits, err
	}
	if err := demote(s); err != nil {
		return wire.StageUser, err
	}
	dir := s.Dir
	if dir == "" {
		dir = "/"
	}
	if err := unix.Chdir(dir); err != nil {
		return wire.StageDir, err
	}
	path := s.Path
	if path == "" {
		path = s.Argv[0]
	}
	return wire.StageExec, search(path, s)
}

// search executes path, looking for a mere name in the PATH of the program's
// environment, as execvp(3) does.
func search(path string, s *wire.Spec) error {
	if path[0] == '/' {
		return syscall.Exec(path, s.Argv, s.Env)
	}
	dirs := "/usr/sbin:/usr/bin:/sbin:/bin"
	for _, e := range s.Env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			dirs = v
		}
	}
	var first error = unix.ENOENT
	for dir := range strings.SplitSeq(dirs, ":") {
		err := syscall.Exec(dir+"/"+path, s.Argv, s.Env)
		if err != unix.ENOENT && err != unix.ENOTDIR && first == error(unix.ENOENT) {
			first = err
		}
	}
	return first
}

func join(group string) error {
	if err := os.MkdirAll(group, 0o755); err != nil {
		return err
	}
	return os.WriteFile(group+"/cgroup.procs", []byte("0"), 0)
}

// place puts the files where the spec wants them and closes everything else
// at exec.
func place(targets []uint32) error {
	if err := unix.Dup3(stubReport, parkedReport, unix.O_CLOEXEC); err != nil {
		return err
	}
	parked := make([]int, len(targets))
	for i := range targets {
		fd, err := unix.FcntlInt(uintptr(stubFiles+i), unix.F_DUPFD_CLOEXEC, parkedReport+1)
		if err != nil {
			return err
		}
		parked[i] = fd
	}
	const cloexec = 4 // CLOSE_RANGE_CLOEXEC, include/uapi/linux/close_range.h
	if err := unix.CloseRange(3, 1<<31-1, cloexec); err != nil {
		return err
	}
	given := map[uint32]bool{}
	for i, to := range targets {
		given[to] = true
		if err := unix.Dup3(parked[i], int(to), 0); err != nil {
			return err
		}
	}
	for to := range uint32(3) {
		if given[to] {
			continue
		}
		fd, err := unix.Open("/dev/null", unix.O_RDWR, 0)
		if err != nil {
			return err
		}
		if fd == int(to) {
			continue
		}
		if err := unix.Dup3(fd, int(to), 0); err != nil {
			return err
		}
		unix.Close(fd)
	}
	return nil
}

// Limits of open files for programs that say nothing, as other supervisors
// choose them: select(2) cannot take more than 1024.
const (
	softFiles = 1024
	hardFiles = 512 << 10
)

func limit(s *wire.Spec) error {
	mask := 0o022
	if s.Umask != 0 {
		mask = int(s.Umask)
	}
	unix.Umask(mask)
	// These two protect, they take no right away: in a container that lacks
	// CAP_SYS_RESOURCE the program runs without them.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte(itoa(int(s.OOMScore))), 0)
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: softFiles, Max: hardFiles})
	if s.Nice != 0 {
		if err := unix.Setpriority(unix.PRIO_PROCESS, 0, int(s.Nice)); err != nil {
			return err
		}
	}
	for _, l := range s.Limits {
		// syscall's and not unix's: it knows what the runtime did to NOFILE and
		// would undo at exec.
		if err := syscall.Setrlimit(int(l.Resource), &syscall.Rlimit{Cur: l.Soft, Max: l.Hard}); err != nil {
			return err
		}
	}
	return nil
}

// demote drops rights; the order matters, each step needs the rights that the
// next one gives up.
func demote(s *wire.Spec) error {
	groups := make([]int, len(s.Groups))
	for i, g := range s.Groups {
		groups[i] = int(g)
	}
	if err := syscall.Setgroups(groups); err != nil {
		return err
	}
	if err := syscall.Setresgid(int(s.GID), int(s.GID), int(s.GID)); err != nil {
		return err
	}
	if err := syscall.Setresuid(int(s.UID), int(s.UID), int(s.UID)); err != nil {
		return err
	}
	if s.NoNewPrivs {
		return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	}
	return nil
}
