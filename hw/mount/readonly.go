package mount

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ReadOnlyError is a device that may only be read, mounted for writing.
type ReadOnlyError struct{ Where, Device string }

func (e *ReadOnlyError) Error() string {
	return fmt.Sprintf("mount %s (%s): the device is read-only, the file mounts it for writing", e.Where, e.Device)
}

// Object is what the report names.
func (e *ReadOnlyError) Object() string { return e.Where }

// Code is the stable code of this error.
func (*ReadOnlyError) Code() string { return "MOUNT-READ-ONLY" }

// Hint says what to do.
func (*ReadOnlyError) Hint() string {
	return "let whoever gives the device allow writing (a target's write protection, a switch), or write options: [ro]"
}

// Retryable: somebody has to mend it elsewhere, and the device to be looked at anew.
func (*ReadOnlyError) Retryable() bool { return false }

// Writable refuses what the kernel would refuse with a bare EACCES (setup_bdev_super, fs/super.c), and what a check of the
// file system would stumble over: a device that may only be read, mounted for writing. The error is a *ReadOnlyError. What
// cannot be looked at is left to the mount itself.
func Writable(s Spec) error {
	if flag, _ := ParseOptions(s.Options); flag&unix.MS_RDONLY != 0 {
		return nil
	}
	f, err := os.Open(s.Device)
	if err != nil {
		return nil
	}
	defer f.Close()
	if ro, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKROGET); err == nil && ro != 0 {
		return &ReadOnlyError{Where: s.Where, Device: s.Device}
	}
	return nil
}
