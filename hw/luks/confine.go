package luks

import (
	"fmt"

	"golang.org/x/sys/unix"

	"initd/hw/confine"
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
	for _, take := range []func() error{confine.All.NoNewPrivs, confine.All.NoCapabilities, calls().Apply} {
		if err := take(); err != nil {
			return fmt.Errorf("confine: %w", err)
		}
	}
	return nil
}

// calls are the system calls of a process that derives.
func calls() confine.List {
	return confine.Runtime().And(confine.List{
		Allow: []uint32{
			unix.SYS_MLOCK, unix.SYS_MUNLOCK,
			unix.SYS_ADD_KEY, // what it is all for
		},
		Rules: []confine.Rule{
			confine.Is(unix.SYS_KEYCTL, 0, unix.KEYCTL_SETPERM, unix.KEYCTL_INVALIDATE, unix.KEYCTL_UNLINK),
			confine.Is(unix.SYS_FCNTL, 1, unix.F_GETFL, unix.F_SETFL, unix.F_GETFD, unix.F_SETFD, unix.F_GET_SEALS),
		},
	})
}
