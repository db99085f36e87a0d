package confine

import (
	"slices"

	"golang.org/x/sys/unix"
)

// A List says what becomes of a system call. One that it does not name gets EPERM, since a runtime may try it; one of another
// ABI than the program's own kills the process.
type List struct {
	// Allow are those whose arguments do not matter.
	Allow []uint32
	// Kill are those that only an attack would make: whoever makes one has taken the process over.
	Kill []uint32
	// Missing are those that fail as in a kernel that does not have them (ENOSYS), so that a library takes the older one.
	Missing []uint32
	// Rules are those that are allowed for some values of an argument; for others they get EPERM.
	Rules []Rule
}

// A Rule allows one system call for some values of one of its arguments, counted from 0. Arguments have 64 bits; their low halves
// are looked at, so a rule is for those that the kernel takes as an int or as flags.
type Rule struct {
	call     uint32
	argument int
	tests    []unix.SockFilter // each ends in allow, or goes on behind itself
}

// Is allows a call whose argument is one of the values.
func Is(call uint32, argument int, values ...uint32) Rule {
	r := Rule{call: call, argument: argument}
	for _, value := range values {
		r.tests = append(r.tests, jump(unix.BPF_JEQ, value, 0, 1), end(unix.SECCOMP_RET_ALLOW))
	}
	return r
}

// Has allows a call whose argument has the bit.
func Has(call uint32, argument int, bit uint32) Rule {
	return Rule{call, argument, []unix.SockFilter{jump(unix.BPF_JSET, bit, 0, 1), end(unix.SECCOMP_RET_ALLOW)}}
}

// HasNot allows a call whose argument does not have the bit.
func HasNot(call uint32, argument int, bit uint32) Rule {
	return Rule{call, argument, []unix.SockFilter{jump(unix.BPF_JSET, bit, 1, 0), end(unix.SECCOMP_RET_ALLOW)}}
}

// Runtime is what a Go program needs that reads and writes descriptors that are open, and computes. Nothing can be opened, connected,
// executed, mounted, traced or made executable with it, and there is no ioctl.
func Runtime() List {
	const prSetVMA = 0x53564d41 // the runtime names its memory
	return List{
		Allow: []uint32{
			// descriptors that are open
			unix.SYS_READ, unix.SYS_PREAD64, unix.SYS_WRITE, unix.SYS_LSEEK, unix.SYS_FSTAT, unix.SYS_CLOSE,
			unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_WAIT, unix.SYS_EVENTFD2, unix.SYS_POLL,
			// memory
			unix.SYS_MUNMAP, unix.SYS_MADVISE, unix.SYS_MINCORE, unix.SYS_BRK,
			// threads, signals, time
			unix.SYS_FUTEX, unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY, unix.SYS_GETPID, unix.SYS_GETTID,
			unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK, unix.SYS_RESTART_SYSCALL,
			unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_GETTIMEOFDAY, unix.SYS_GETRANDOM,
			unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
		},
		Kill: []uint32{
			unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_FORK, unix.SYS_VFORK, unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV,
			unix.SYS_PROCESS_VM_WRITEV, unix.SYS_SOCKET, unix.SYS_SOCKETPAIR, unix.SYS_CONNECT, unix.SYS_BPF, unix.SYS_IO_URING_SETUP,
			unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE,
			unix.SYS_KEXEC_LOAD, unix.SYS_REBOOT, unix.SYS_USERFAULTFD, unix.SYS_PERF_EVENT_OPEN, unix.SYS_MEMFD_CREATE,
		},
		Rules: []Rule{
			HasNot(unix.SYS_MMAP, 2, unix.PROT_EXEC),
			HasNot(unix.SYS_MPROTECT, 2, unix.PROT_EXEC),
			Has(unix.SYS_CLONE, 0, unix.CLONE_THREAD),
			Is(unix.SYS_TGKILL, 0, uint32(unix.Getpid())), // preemption of the runtime's own threads
			Is(unix.SYS_PRCTL, 0, prSetVMA),
		},
	}
}

// And is the list with what another one says besides. Of a call in both, the first of Allow, Kill, Missing and Rules counts.
func (l List) And(more List) List {
	return List{
		Allow:   slices.Concat(l.Allow, more.Allow),
		Kill:    slices.Concat(l.Kill, more.Kill),
		Missing: slices.Concat(l.Missing, more.Missing),
		Rules:   slices.Concat(l.Rules, more.Rules),
	}
}
