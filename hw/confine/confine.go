// Package confine takes rights from the calling process for good: the possibility to gain any, capabilities, and system calls.
//
// It owns how that is done: in which threads, and the seccomp program that a List of system calls becomes
// (Documentation/userspace-api/seccomp_filter.rst, no_new_privs.rst). What a process may still do is its user's decision; only what
// the Go runtime needs, and what no Go program makes by accident, stands here. It needs a kernel with seccomp filters and
// is for amd64 alone. It never gives anything back, and knows no users, paths or limits.
package confine

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Threads says in which threads of the process something is taken away.
type Threads int

const (
	// All is every thread, or an error: a program with cgo has threads that Go does not know.
	All Threads = iota
	// AllOrThis is every thread, and in a program with cgo the calling one, which has to be locked (runtime.LockOSThread) from there on
	// to the list. For who does not rest on it: a List takes no_new_privs to all threads, and refuses what a right would be needed for.
	AllOrThis
)

// NoNewPrivs makes that no execve gives rights, for good (prctl(2), PR_SET_NO_NEW_PRIVS). Without the right to administer the system
// a List needs it.
func (t Threads) NoNewPrivs() error {
	return t.Call("no_new_privs", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0)
}

// NoCapabilities drops every capability (capset(2)).
func (t Threads) NoCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	return t.Call("drop capabilities", unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&none)), 0)
}

// Call makes one system call, whose result is the same in each thread. The error begins with what and wraps the errno.
//
//go:uintptrescapes
func (t Threads) Call(what string, trap, a, b, c uintptr) error {
	_, _, errno := syscall.AllThreadsSyscall6(trap, a, b, c, 0, 0, 0)
	if errno == unix.ENOTSUP && t == AllOrThis {
		_, _, errno = syscall.RawSyscall(trap, a, b, c)
	}
	if errno != 0 {
		return fmt.Errorf("%s: %w", what, errno)
	}
	return nil
}

// Apply leaves the process, in all its threads, the system calls of the list. Build the list with Runtime, or the runtime
// ends with the next thing that it needs.
func (l List) Apply() error {
	program := l.program()
	if len(program) > unix.BPF_MAXINSNS {
		return errors.New("seccomp: the list is longer than a program may be")
	}
	header := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&header)))
	runtime.KeepAlive(program)
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	return nil
}
