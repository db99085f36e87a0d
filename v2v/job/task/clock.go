package task

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// In is the deadline that is d from now.
func In(d time.Duration) Deadline {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0 // long over: nobody works on what may not be ours
	}
	return Deadline(now.Nano() + int64(d))
}

// Left is how long it is until the deadline.
func (d Deadline) Left() time.Duration {
	return time.Duration(d - In(0))
}

// fuse is a timer of the kernel that kills the process: SIGKILL also ends one that is stopped (timer_create(2), signal(7)).
type fuse struct{ id int32 }

func newFuse() (fuse, error) {
	// struct sigevent of include/uapi/asm-generic/siginfo.h; notify 0 is SIGEV_SIGNAL.
	event := struct {
		value  uint64
		signo  int32
		notify int32
		rest   [48]byte
	}{signo: int32(unix.SIGKILL)}
	var f fuse
	_, _, errno := unix.Syscall(unix.SYS_TIMER_CREATE, unix.CLOCK_BOOTTIME, uintptr(unsafe.Pointer(&event)), uintptr(unsafe.Pointer(&f.id)))
	if errno != 0 {
		return fuse{}, fmt.Errorf("timer_create: %w", errno)
	}
	return f, nil
}

// set lets the process live until then, and no longer.
func (f fuse) set(until Deadline) error {
	const absolute = 1 // TIMER_ABSTIME
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(max(int64(until), 1))}
	_, _, errno := unix.Syscall6(unix.SYS_TIMER_SETTIME, uintptr(f.id), absolute, uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("timer_settime: %w", errno)
	}
	return nil
}
