package luks

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Confine takes from the calling process, in all its threads and for good, every capability, the possibility to gain
// any, and every system call that Derive and the Go runtime do not need: nothing can be opened, connected, executed,
// mounted, traced or made executable afterwards, and there is no ioctl. What remains is to read and write descriptors
// that are open, to compute, and to add keys to the session keyring.
//
// Harmless calls that a runtime may try get EPERM; those that only an attack would make kill the process. Call it after
// secret.ProtectProcess and before the first untrusted byte. It needs a kernel with seccomp filters and a program
// without cgo (threads that Go does not know could not be confined).
func Confine() error {
	if runtime.GOARCH != "amd64" {
		return fmt.Errorf("confine: there is no list of system calls for %s", runtime.GOARCH)
	}
	if _, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("confine: no_new_privs: %w", errno)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&none)), 0)
	runtime.KeepAlive(&none)
	if errno != 0 {
		return fmt.Errorf("confine: drop capabilities: %w", errno)
	}
	filter := seccompFilter()
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno = unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return fmt.Errorf("confine: seccomp: %w", errno)
	}
	return nil
}

// allowed are the system calls whose arguments do not matter.
func allowed() []uint32 {
	return []uint32{
		// descriptors that are open
		unix.SYS_READ, unix.SYS_PREAD64, unix.SYS_WRITE, unix.SYS_LSEEK, unix.SYS_FSTAT, unix.SYS_CLOSE,
		unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_WAIT, unix.SYS_EVENTFD2, unix.SYS_POLL,
		// memory
		unix.SYS_MUNMAP, unix.SYS_MADVISE, unix.SYS_MLOCK, unix.SYS_MUNLOCK, unix.SYS_MINCORE, unix.SYS_BRK,
		// threads, signals, time
		unix.SYS_FUTEX, unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY, unix.SYS_GETPID, unix.SYS_GETTID,
		unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK, unix.SYS_RESTART_SYSCALL,
		unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_GETTIMEOFDAY, unix.SYS_GETRANDOM,
		unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
		// what it is all for
		unix.SYS_ADD_KEY,
	}
}

// deadly are the system calls that nothing in this program makes by accident.
func deadly() []uint32 {
	return []uint32{
		unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_FORK, unix.SYS_VFORK, unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV,
		unix.SYS_PROCESS_VM_WRITEV, unix.SYS_SOCKET, unix.SYS_SOCKETPAIR, unix.SYS_CONNECT, unix.SYS_BPF, unix.SYS_IO_URING_SETUP,
		unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE,
		unix.SYS_KEXEC_LOAD, unix.SYS_REBOOT, unix.SYS_USERFAULTFD, unix.SYS_PERF_EVENT_OPEN, unix.SYS_MEMFD_CREATE,
	}
}

// seccompFilter is a classic BPF program over struct seccomp_data (include/uapi/linux/seccomp.h).
func seccompFilter() []unix.SockFilter {
	const (
		nr, arch, arg0, arg2 = 0, 4, 16, 32 // offsets; arguments are 64 bits, little-endian, and their low halves are tested
		x32                  = 0x40000000   // system calls of the x32 ABI have this bit
		prSetVMA             = 0x53564d41   // the runtime names its memory
	)
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	jump := func(test uint16, k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, Jt: yes, Jf: no, K: k}
	}
	end := func(verdict uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: verdict}
	}
	allow, kill := end(unix.SECCOMP_RET_ALLOW), end(unix.SECCOMP_RET_KILL_PROCESS)
	refuse := end(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM))

	program := []unix.SockFilter{
		load(arch), jump(unix.BPF_JEQ, unix.AUDIT_ARCH_X86_64, 1, 0), kill,
		load(nr), jump(unix.BPF_JGE, x32, 0, 1), kill,
	}
	for _, call := range allowed() {
		program = append(program, jump(unix.BPF_JEQ, call, 0, 1), allow)
	}
	for _, call := range deadly() {
		program = append(program, jump(unix.BPF_JEQ, call, 0, 1), kill)
	}
	// those that are allowed for some values of one argument: the rest of each rule is skipped unless it is its call
	when := func(call, argument uint32, tests ...unix.SockFilter) {
		rule := append([]unix.SockFilter{load(argument)}, tests...)
		rule = append(rule, refuse)
		program = append(program, jump(unix.BPF_JEQ, call, 0, uint8(len(rule))))
		program = append(program, rule...)
	}
	oneOf := func(values ...uint32) (tests []unix.SockFilter) {
		for _, value := range values {
			tests = append(tests, jump(unix.BPF_JEQ, value, 0, 1), allow)
		}
		return tests
	}
	without := func(bit uint32) []unix.SockFilter { return []unix.SockFilter{jump(unix.BPF_JSET, bit, 1, 0), allow} }
	with := func(bit uint32) []unix.SockFilter { return []unix.SockFilter{jump(unix.BPF_JSET, bit, 0, 1), allow} }
	when(unix.SYS_MMAP, arg2, without(unix.PROT_EXEC)...)
	when(unix.SYS_MPROTECT, arg2, without(unix.PROT_EXEC)...)
	when(unix.SYS_CLONE, arg0, with(unix.CLONE_THREAD)...)
	when(unix.SYS_TGKILL, arg0, oneOf(uint32(unix.Getpid()))...) // preemption of the runtime's own threads
	when(unix.SYS_PRCTL, arg0, oneOf(prSetVMA)...)
	when(unix.SYS_KEYCTL, arg0, oneOf(unix.KEYCTL_SETPERM, unix.KEYCTL_INVALIDATE, unix.KEYCTL_UNLINK)...)
	when(unix.SYS_FCNTL, arg0+8, oneOf(unix.F_GETFL, unix.F_SETFL, unix.F_GETFD, unix.F_SETFD, unix.F_GET_SEALS)...)
	return append(program, refuse)
}
