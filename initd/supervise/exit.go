package supervise

import (
	"fmt"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"initd/initd/pid1/wire"
)

// Ended says in words how a process ended: "exit 1", "killed by SIGSEGV (core
// dumped)", "cannot execute /usr/bin/redis-server: no such file or directory".
func Ended(e *wire.Exited, program string) string {
	if e.Stage == wire.StageExec {
		return fmt.Sprintf("cannot execute %s: %v", program, syscall.Errno(e.Errno))
	}
	if e.Stage != 0 {
		return fmt.Sprintf("cannot %s: %v", e.Stage, syscall.Errno(e.Errno))
	}
	w := syscall.WaitStatus(e.Status)
	if w.Signaled() {
		s := "killed by " + signalName(w.Signal())
		if w.CoreDump() {
			s += " (core dumped)"
		}
		return s
	}
	return fmt.Sprintf("exit %d", w.ExitStatus())
}

func signalName(s syscall.Signal) string {
	if n := unix.SignalName(s); n != "" {
		return n
	}
	return fmt.Sprintf("signal %d", int(s))
}

// clean tells whether an end counts as success: status 0, one that the
// service names, or a signal by which people end daemons.
func clean(s *Service, e *wire.Exited) bool {
	if e.Stage != 0 {
		return false
	}
	w := syscall.WaitStatus(e.Status)
	if w.Signaled() {
		return slices.Contains([]syscall.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGPIPE}, w.Signal())
	}
	return w.ExitStatus() == 0 || slices.Contains(s.SuccessExit, w.ExitStatus())
}
