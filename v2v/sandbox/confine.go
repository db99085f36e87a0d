package sandbox

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"initd/hw/confine"
)

// nobody is the user and group of a child whose parent is root (the kernel's overflow id).
const nobody = 65534

// dropRights takes from the calling process, in all its threads and for good, what it does not need to read open descriptors and to
// compute. As root it becomes nobody. It needs a kernel with seccomp filters; Landlock is a second fence, where there is one.
func dropRights(memory int64, parent int) error {
	if err := bound(memory); err != nil {
		return err
	}
	// With cgo this thread alone is enough: the list takes no_new_privs to all threads and refuses paths without Landlock, and becoming
	// nobody takes the capabilities.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := confine.AllOrThis.NoNewPrivs(); err != nil {
		return err
	}
	if err := noPaths(); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		if err := becomeNobody(); err != nil {
			return err
		}
	}
	if err := confine.AllOrThis.NoCapabilities(); err != nil {
		return err
	}
	// A change of user has cleared both of these.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("not dumpable: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("die with the parent: %w", err)
	}
	if os.Getppid() != parent {
		return errors.New("the parent is gone")
	}
	return calls().Apply()
}

// bound sets limits that hold whatever the code does. Files cannot grow, nor can memory beyond the limit; the collector is told a lower
// one, so that it works harder before that.
func bound(memory int64) error {
	for _, limit := range []struct {
		name     string
		resource int
		most     uint64
	}{
		{"RLIMIT_DATA", unix.RLIMIT_DATA, uint64(memory)},
		{"RLIMIT_CORE", unix.RLIMIT_CORE, 0},
		{"RLIMIT_FSIZE", unix.RLIMIT_FSIZE, 0},
		{"RLIMIT_MEMLOCK", unix.RLIMIT_MEMLOCK, 0},
		{"RLIMIT_MSGQUEUE", unix.RLIMIT_MSGQUEUE, 0},
		{"RLIMIT_NOFILE", unix.RLIMIT_NOFILE, maxSiblings + 64},
	} {
		var now unix.Rlimit
		if err := unix.Getrlimit(limit.resource, &now); err != nil {
			return fmt.Errorf("%s: %w", limit.name, err)
		}
		most := min(limit.most, now.Max)
		if err := unix.Setrlimit(limit.resource, &unix.Rlimit{Cur: most, Max: most}); err != nil {
			return fmt.Errorf("%s: %w", limit.name, err)
		}
	}
	debug.SetMemoryLimit(memory / 4)
	return nil
}

// noPaths closes the file system and the network: a Landlock domain without a rule (Documentation/userspace-api/landlock.rst).
func noPaths() error {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return nil // not built in or not enabled: the filter refuses the calls themselves
	}
	attr := struct{ fs, net, scoped uint64 }{fs: 1<<13 - 1}
	size := unsafe.Sizeof(attr.fs)
	if abi >= 2 {
		attr.fs |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if abi >= 3 {
		attr.fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if abi >= 4 {
		attr.net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
		size += unsafe.Sizeof(attr.net)
	}
	if abi >= 5 {
		attr.fs |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if abi >= 6 {
		// Not signals: before Linux 6.15 threads of one process then cannot signal each other, and the runtime needs that. The filter
		// leaves only those to the own process.
		attr.scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
		size += unsafe.Sizeof(attr.scoped)
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return fmt.Errorf("landlock_create_ruleset: %w", errno)
	}
	defer unix.Close(int(fd))
	return confine.AllOrThis.Call("landlock_restrict_self", unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0)
}

func becomeNobody() error {
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("no further groups: %w", err)
	}
	if err := syscall.Setresgid(nobody, nobody, nobody); err != nil {
		return fmt.Errorf("become group %d: %w", nobody, err)
	}
	if err := syscall.Setresuid(nobody, nobody, nobody); err != nil {
		return fmt.Errorf("become user %d: %w", nobody, err)
	}
	return nil
}
