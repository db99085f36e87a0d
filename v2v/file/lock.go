package file

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// QEMU's image locks (block/file-posix.c, docs in qemu's system/images): a process that may write holds a read lock of the byte
// 100+1, one that shares no writing with others one of the byte 200+1.
const (
	qemuPermWrite    = 101
	qemuUnshareRead  = 200
	qemuPermConsRead = 100
)

// ErrInUse is a file that a running virtual machine or another converter has open.
var ErrInUse = errors.New("in use by another process")

// checkReadable refuses an image that somebody writes to meanwhile, as qemu-img does.
func checkReadable(f *os.File, name string) error {
	if held, pid := lockHeld(f, qemuPermWrite); held {
		return fmt.Errorf("%s: %w%s, which may write to it: stop the virtual machine, take a snapshot of its disk, or read it all the same with -U", name, ErrInUse, pid)
	}
	return nil
}

// checkReplaceable refuses to replace a file that somebody reads or writes as a disk.
func checkReplaceable(f *os.File, name string) error {
	for _, at := range []int64{qemuPermWrite, qemuPermConsRead, qemuUnshareRead} {
		if held, pid := lockHeld(f, at); held {
			return fmt.Errorf("%s: %w%s: stop the virtual machine that has this disk, or choose another name", name, ErrInUse, pid)
		}
	}
	return nil
}

func lockHeld(f *os.File, at int64) (bool, string) {
	l := unix.Flock_t{Type: unix.F_WRLCK, Whence: 0, Start: at, Len: 1}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &l); err != nil || l.Type == unix.F_UNLCK {
		return false, ""
	}
	if l.Pid > 0 {
		return true, fmt.Sprintf(" (pid %d)", l.Pid)
	}
	return true, ""
}
