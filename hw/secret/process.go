package secret

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// mclOnFault locks pages when they are first touched (MCL_ONFAULT, mlockall(2)): a Go process maps far more than it uses.
const mclOnFault = 0x4

// ErrNotLocked says that the process may not lock all of its memory, so that a copy of a secret in the Go heap could
// reach swap. Everything else that ProtectProcess does was done.
var ErrNotLocked = errors.New("memory cannot be locked (it needs CAP_IPC_LOCK, or an unlimited RLIMIT_MEMLOCK)")

// ProtectProcess makes the calling process fit for secrets: no core file, no dump or ptrace by others of the same user,
// all memory, present and future, kept from swap. Call it first in main, before capabilities are dropped.
//
// Locking counts address space, not pages in use, so with MCL_FUTURE a limit would make a later mmap of the Go runtime
// fail and the process with it: without an unlimited RLIMIT_MEMLOCK nothing is locked, and ErrNotLocked is returned.
func ProtectProcess() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("protect process: RLIMIT_CORE: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("protect process: PR_SET_DUMPABLE: %w", err)
	}
	unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unlimited); err != nil {
		return fmt.Errorf("protect process: RLIMIT_MEMLOCK: %w: %w", err, ErrNotLocked)
	}
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | mclOnFault); err != nil {
		return fmt.Errorf("protect process: mlockall: %w: %w", err, ErrNotLocked)
	}
	return nil
}
