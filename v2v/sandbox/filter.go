package sandbox

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// allowed are the system calls whose arguments do not matter.
func allowed() []uint32 {
	return []uint32{
		// descriptors that are open
		unix.SYS_READ, unix.SYS_READV, unix.SYS_PREAD64, unix.SYS_WRITE, unix.SYS_LSEEK, unix.SYS_FSTAT, unix.SYS_CLOSE,
		unix.SYS_RECVMSG, unix.SYS_SENDMSG, unix.SYS_POLL, unix.SYS_PPOLL,
		unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_WAIT, unix.SYS_EVENTFD2,
		// memory
		unix.SYS_MUNMAP, unix.SYS_MADVISE, unix.SYS_MINCORE, unix.SYS_BRK,
		// threads, signals, time
		unix.SYS_FUTEX, unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY, unix.SYS_GETPID, unix.SYS_GETTID,
		unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK, unix.SYS_RESTART_SYSCALL,
		unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_GETTIMEOFDAY, unix.SYS_GETRANDOM,
		unix.SYS_EXIT, unix.SYS_EXIT_GROUP, unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ,
	}
}

// deadly are the system calls that no reader of images makes by accident: whoever makes one has taken the process over.
func deadly() []uint32 {
	return []uint32{
		unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_FORK, unix.SYS_VFORK, unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV,
		unix.SYS_PROCESS_VM_WRITEV, unix.SYS_SOCKET, unix.SYS_SOCKETPAIR, unix.SYS_CONNECT, unix.SYS_BIND, unix.SYS_BPF, unix.SYS_IO_URING_SETUP,
		unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE,
		unix.SYS_KEXEC_LOAD, unix.SYS_REBOOT, unix.SYS_USERFAULTFD, unix.SYS_PERF_EVENT_OPEN, unix.SYS_MEMFD_CREATE,
		unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KILL, unix.SYS_TKILL, unix.SYS_PIDFD_OPEN, unix.SYS_UNLINK, unix.SYS_UNLINKAT,
		unix.SYS_RENAME, unix.SYS_RENAMEAT2, unix.SYS_FTRUNCATE, unix.SYS_TRUNCATE, unix.SYS_FALLOCATE,
	}
}

// filter installs the list in all threads. What is on neither list gets EPERM.
func filter() error {
	program := program()
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(program)
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	return nil
}

// program is a classic BPF program over struct seccomp_data (include/uapi/linux/seccomp.h).
func program() []unix.SockFilter {
	const (
		nr, arch, arg0, arg1, arg2 = 0, 4, 16, 24, 32 // offsets; arguments are 64 bits, little-endian, and their low halves are tested
		x32                        = 0x40000000       // system calls of the x32 ABI have this bit
		prSetVMA                   = 0x53564d41       // the runtime names its memory
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

	list := []unix.SockFilter{
		load(arch), jump(unix.BPF_JEQ, unix.AUDIT_ARCH_X86_64, 1, 0), kill,
		load(nr), jump(unix.BPF_JGE, x32, 0, 1), kill,
	}
	for _, call := range allowed() {
		list = append(list, jump(unix.BPF_JEQ, call, 0, 1), allow)
	}
	for _, call := range deadly() {
		list = append(list, jump(unix.BPF_JEQ, call, 0, 1), kill)
	}
	// As a kernel without it says: a C library then starts threads by clone, whose flags can be looked at.
	list = append(list, jump(unix.BPF_JEQ, unix.SYS_CLONE3, 0, 1), end(unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS)))
	// those that are allowed for some values of one argument: the rest of each rule is skipped unless it is its call
	when := func(call, argument uint32, tests ...unix.SockFilter) {
		rule := append([]unix.SockFilter{load(argument)}, tests...)
		rule = append(rule, refuse)
		list = append(list, jump(unix.BPF_JEQ, call, 0, uint8(len(rule))))
		list = append(list, rule...)
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
	// never F_SETFL: the open file is shared with the parent
	when(unix.SYS_FCNTL, arg1, oneOf(unix.F_GETFL, unix.F_GETFD, unix.F_SETFD)...)
	return append(list, refuse)
}
