package dm

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What libdevmapper and the udev rules that come with it agree on (lib/libdm: libdevmapper.h, libdm-common.c;
// 10-dm.rules, 95-dm-notify.rules): an ioctl carries a cookie in the low half of its event number and flags in the high
// one; the kernel hands them to udev with the event; the last rule runs `dmsetup udevcomplete`, which lowers the
// System V semaphore of that cookie. Whoever made the device waits for that, and finds /dev/mapper/NAME in place.
const (
	cookieMagic       = 0x0D4D << 16 // DM_COOKIE_MAGIC, in the semaphore's key
	udevPrimarySource = 0x0040 << 16 // DM_UDEV_PRIMARY_SOURCE_FLAG: the event is not a spurious one
)

// notifyRules is the file whose last line completes cookies. Without it udev runs but nobody would answer.
const notifyRules = "95-dm-notify.rules"

// udev is where the other side is looked for; tests put a directory in the place of the root.
type udev struct{ root string }

// manages says whether a udev runs that makes /dev/mapper nodes and completes cookies.
func (u udev) manages() bool {
	if _, err := os.Stat(filepath.Join(u.root, "run/udev/control")); err != nil {
		return false
	}
	for _, dir := range []string{"etc", "run", "usr/lib", "lib"} {
		if _, err := os.Stat(filepath.Join(u.root, dir, "udev/rules.d", notifyRules)); err == nil {
			return true
		}
	}
	return false
}

// withCookie runs act, which makes one ioctl with the event number it is given and tells whether the kernel sent an
// event, and waits until udev is through with that event. Without a udev it only runs act.
func withCookie(ctx context.Context, u udev, act func(event uint32) (sent bool, err error)) error {
	if !u.manages() {
		_, err := act(udevPrimarySource)
		return err
	}
	c, err := newCookie()
	if err != nil {
		return err
	}
	defer c.destroy()
	sent, err := act(udevPrimarySource | uint32(c.base))
	if err != nil || !sent {
		return err
	}
	return c.wait(ctx)
}

// cookie is a semaphore of value 1: one event is under way.
type cookie struct {
	base    uint16
	destroy func() // once: the kernel may have given the number to somebody else after that
	id      uintptr
}

// sembuf is struct sembuf; all zero it waits for zero.
type sembuf struct {
	num   uint16
	op    int16
	flags int16
}

// From the kernel's include/uapi/linux/ipc.h and sem.h; golang.org/x/sys has no System V semaphores.
const (
	ipcCreate = 0o1000
	ipcExcl   = 0o2000
	ipcRemove = 0
	semSetVal = 16
)

func newCookie() (cookie, error) {
	for range 64 { // others pick at random too
		var random [2]byte
		_, _ = rand.Read(random[:]) // never fails
		c := cookie{base: binary.NativeEndian.Uint16(random[:])}
		if c.base == 0 { // stands for no cookie
			continue
		}
		id, _, errno := unix.Syscall(unix.SYS_SEMGET, uintptr(c.key()), 1, ipcCreate|ipcExcl|0o600)
		if errno == unix.EEXIST {
			continue
		}
		if errno != 0 {
			return cookie{}, fmt.Errorf("make a udev cookie: semget: %w", errno)
		}
		c.id = id
		c.destroy = sync.OnceFunc(func() {
			_, _, _ = unix.Syscall(unix.SYS_SEMCTL, id, 0, ipcRemove) // EINVAL, EIDRM: gone already
		})
		if _, _, errno := unix.Syscall6(unix.SYS_SEMCTL, c.id, 0, semSetVal, 1, 0, 0); errno != 0 {
			c.destroy()
			return cookie{}, fmt.Errorf("make a udev cookie: semctl: %w", errno)
		}
		return c, nil
	}
	return cookie{}, errors.New("make a udev cookie: all that were tried are taken (dmsetup udevcookies lists them)")
}

// key is the number that dmsetup udevcookies shows.
func (c cookie) key() uint32 { return cookieMagic | uint32(c.base) }

// wait returns when the semaphore is zero. Removing it is what wakes the wait when ctx ends.
func (c cookie) wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, c.destroy)
	defer stop()
	for {
		zero := sembuf{}
		_, _, errno := unix.Syscall(unix.SYS_SEMOP, c.id, uintptr(unsafe.Pointer(&zero)), 1)
		switch {
		case errno == 0:
			return nil
		case errno == unix.EINTR:
		case ctx.Err() != nil:
			return fmt.Errorf("waiting for udev to complete cookie %#x: %w", c.key(), context.Cause(ctx))
		default:
			return fmt.Errorf("waiting for udev to complete cookie %#x: %w", c.key(), errno)
		}
	}
}
