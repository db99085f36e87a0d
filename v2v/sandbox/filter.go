package sandbox

import (
	"golang.org/x/sys/unix"

	"initd/hw/confine"
)

// calls are the system calls of a reader. What they do not name gets EPERM.
func calls() confine.List {
	return confine.Runtime().And(confine.List{
		Allow: []uint32{
			unix.SYS_READV, unix.SYS_RECVMSG, unix.SYS_SENDMSG, unix.SYS_PPOLL,
			unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ, // of a C library's threads
		},
		// No reader of images makes one of these by accident.
		Kill: []uint32{
			unix.SYS_BIND, unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KILL, unix.SYS_TKILL, unix.SYS_PIDFD_OPEN,
			unix.SYS_UNLINK, unix.SYS_UNLINKAT, unix.SYS_RENAME, unix.SYS_RENAMEAT2, unix.SYS_FTRUNCATE, unix.SYS_TRUNCATE, unix.SYS_FALLOCATE,
		},
		Missing: []uint32{unix.SYS_CLONE3}, // a C library then starts threads by clone, whose flags can be looked at
		Rules: []confine.Rule{
			// never F_SETFL: the open file is shared with the parent
			confine.Is(unix.SYS_FCNTL, 1, unix.F_GETFL, unix.F_GETFD, unix.F_SETFD),
		},
	})
}
