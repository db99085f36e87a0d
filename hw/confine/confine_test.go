//go:build !race

package confine

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"initd/tests/role"
)

// The roles make one call once they are confined, and say on their output what came of it.
func TestMain(m *testing.M) { role.Main(m, play) }

func play(name string) error {
	list := Runtime().And(List{
		Allow:   []uint32{unix.SYS_GETUID},
		Kill:    []uint32{unix.SYS_SYNC},
		Missing: []uint32{unix.SYS_CLONE3},
		Rules:   []Rule{Is(unix.SYS_FCNTL, 1, unix.F_GETFD, unix.F_GETFL), Has(unix.SYS_UMASK, 0, 2)},
	})
	for _, take := range []func() error{AllOrThis.NoNewPrivs, AllOrThis.NoCapabilities, list.Apply} {
		if err := take(); err != nil {
			return err
		}
	}
	calls := map[string]func() error{
		"getuid":        func() error { return call(unix.SYS_GETUID, 0, 0) },
		"getgid":        func() error { return call(unix.SYS_GETGID, 0, 0) },
		"sync":          func() error { return call(unix.SYS_SYNC, 0, 0) },
		"clone3":        func() error { return call(unix.SYS_CLONE3, 0, 0) },
		"fcntl F_GETFD": func() error { return call(unix.SYS_FCNTL, 1, unix.F_GETFD) },
		"fcntl F_GETFL": func() error { return call(unix.SYS_FCNTL, 1, unix.F_GETFL) },
		"fcntl F_DUPFD": func() error { return call(unix.SYS_FCNTL, 1, unix.F_DUPFD) },
		"umask 022":     func() error { return call(unix.SYS_UMASK, 022, 0) },
		"umask 070":     func() error { return call(unix.SYS_UMASK, 070, 0) },
		"mmap of data":  func() error { return mapping(unix.PROT_READ) },
		"mmap of code":  func() error { return mapping(unix.PROT_READ | unix.PROT_EXEC) },
		"getuid of x32": func() error { return call(unix.SYS_GETUID|0x40000000, 0, 0) },
		"goroutines, memory": func() error {
			done := make(chan []byte)
			for range 32 {
				go func() { done <- make([]byte, 8<<20) }()
			}
			for range 32 {
				<-done
			}
			return nil
		},
	}
	err := calls[name]()
	fmt.Println(errnoName(err))
	return nil
}

func call(nr, a, b uintptr) error {
	if _, _, errno := unix.RawSyscall(nr, a, b, 0); errno != 0 {
		return errno
	}
	return nil
}

func mapping(protection int) error {
	_, err := unix.Mmap(-1, 0, 4096, protection, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	return err
}

func errnoName(err error) string {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return "ok"
	}
	return unix.ErrnoName(errno)
}

func TestACallOfAConfinedProcess(t *testing.T) {
	for _, row := range []struct{ name, call, want string }{
		{"goes on if it is allowed", "getuid", "ok\n"},
		{"is refused if nothing is said of it", "getgid", "EPERM\n"},
		{"kills if only an attack makes it", "sync", ""},
		{"is not there if it is said to be missing", "clone3", "ENOSYS\n"},
		{"goes on for the first value of a rule", "fcntl F_GETFD", "ok\n"},
		{"goes on for the last value of a rule", "fcntl F_GETFL", "ok\n"},
		{"is refused for another value", "fcntl F_DUPFD", "EPERM\n"},
		{"goes on if its argument has the bit", "umask 022", "ok\n"},
		{"is refused if its argument has it not", "umask 070", "EPERM\n"},
		{"goes on if its argument has not the bit", "mmap of data", "ok\n"},
		{"is refused if its argument has it", "mmap of code", "EPERM\n"},
		{"kills if it is of another ABI", "getuid of x32", ""},
		{"is never one that the runtime misses", "goroutines, memory", "ok\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			cmd := role.Command(t.Context(), row.call)
			out, err := cmd.Output()
			status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
			if killed := status.Signaled() && status.Signal() == syscall.SIGSYS; killed != (row.want == "") || string(out) != row.want {
				t.Errorf("%s gives %q and ends with %v, want %q (nothing: killed by SIGSYS)", row.call, out, err, row.want)
			}
		})
	}
}
