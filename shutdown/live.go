package shutdown

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"initd/hw/dm"
	"initd/hw/mount"
	"initd/hw/nvmeof"
	"initd/shutdown/stack"
)

// Do runs one job here and now; call it in a process that can be given up.
func Do(ctx context.Context, j Job) error {
	switch j.Op {
	case OpUnmount:
		return mount.Unmount(j.Path, false)
	case OpLazy:
		return mount.Unmount(j.Path, true)
	case OpReadOnly:
		return mount.ReadOnly(j.Path)
	case OpDM:
		return dm.Remove(ctx, j.Path)
	case OpLoop:
		return detach(j.Path)
	case OpMD:
		return stopArray(j.Path)
	case OpSwap:
		return swapoff(j.Path)
	case OpNVMe:
		return nvmeof.Disconnect("/", j.Path)
	case OpISCSI:
		return logOut(ctx, j.Path)
	case OpSync:
		unix.Sync()
		return nil
	}
	return fmt.Errorf("no operation %q", j.Op)
}

// detach frees a loop device (LOOP_CLR_FD, drivers/block/loop.c); with an
// open descriptor left elsewhere the kernel does it at the last close.
func detach(dev string) error {
	f, err := os.OpenFile(dev, os.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("detach %s: %w", dev, err)
	}
	defer f.Close()
	if err := unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0); err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("detach %s: %w", dev, err)
	}
	return nil
}

// mdStopArray is STOP_ARRAY, _IO(MD_MAJOR, 0x32) (include/uapi/linux/raid/md_u.h).
const mdStopArray = 9<<8 | 0x32

func stopArray(dev string) error {
	f, err := os.OpenFile(dev, os.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("stop array %s: %w", dev, err)
	}
	defer f.Close()
	if err := unix.IoctlSetInt(int(f.Fd()), mdStopArray, 0); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("stop array %s: %w", dev, err)
	}
	return nil
}

func swapoff(path string) error {
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		return fmt.Errorf("swapoff %s: %w", path, err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_SWAPOFF, uintptr(unsafe.Pointer(p)), 0, 0); errno != 0 {
		return fmt.Errorf("swapoff %s: %w", path, errno)
	}
	return nil
}

// Live is the part of System that reads and signals the running machine.
type Live struct {
	// Spare are processes that are never ended, besides PID 1 and this one.
	Spare func(pid int) bool
	// All processes are ours to end, not only those that are in the way: true
	// where init is ours.
	All bool
}

// Read reads the live stack.
func (l Live) Read() (*stack.Stack, error) { return stack.Read("/") }

// Users finds who uses points.
func (l Live) Users(points []string) []stack.User { return l.others(stack.Users("/", points)) }

// Everyone lists all processes of user space, if they are ours to end.
func (l Live) Everyone() []stack.User {
	if !l.All {
		return nil
	}
	return l.others(stack.Everyone("/"))
}

func (l Live) others(list []stack.User) []stack.User {
	return slices.DeleteFunc(list, func(u stack.User) bool {
		return u.PID == 1 || u.PID == os.Getpid() || l.Spare != nil && l.Spare(u.PID)
	})
}

// End signals the very process that was seen, through a pidfd, and waits for
// its end.
func (l Live) End(ctx context.Context, u stack.User, sig syscall.Signal) error {
	fd, err := unix.PidfdOpen(u.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("end process %d: %w", u.PID, err)
	}
	defer unix.Close(fd)
	// The descriptor is of whoever has the PID now; only the start time says
	// whether that is the one that was seen.
	if !stack.Same(u) {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.Signal(sig), nil, 0); err != nil {
		if errors.Is(err, unix.ESRCH) {
			return nil
		}
		return fmt.Errorf("end process %d: %w", u.PID, err)
	}
	return waitPidfd(ctx, fd, u.PID)
}

// waitPidfd waits until the process has ended; a pidfd is readable then.
func waitPidfd(ctx context.Context, fd, pid int) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("wait for process %d: %w", pid, err)
	}
	defer r.Close()
	stop := context.AfterFunc(ctx, func() { w.Close() })
	defer func() {
		if stop() {
			w.Close()
		}
	}()
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(r.Fd()), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait for process %d: %w", pid, err)
		case fds[0].Revents != 0:
			return nil
		default:
			return fmt.Errorf("wait for process %d: %w", pid, context.Cause(ctx))
		}
	}
}
