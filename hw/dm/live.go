package dm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const root = "/"

// Resume puts a loaded table to use, lets I/O go on, and returns when /dev/mapper/NAME is there: made by udev where one
// runs, else by this call.
func Resume(ctx context.Context, name string) error { return resume(ctx, name, 0) }

// Replace puts a loaded table in the place of the one in use. I/O under way is not waited for, and file systems are not frozen: below the old
// table maybe nothing answers any more. The kernel holds I/O back and lets it go on within one call (do_resume,
// drivers/md/dm-ioctl.c): who is killed meanwhile leaves the old table or the new one in use, and no device on which everybody
// waits for ever.
func Replace(ctx context.Context, name string) error {
	const flags = unix.DM_NOFLUSH_FLAG | unix.DM_SKIP_LOCKFS_FLAG
	err := resume(ctx, name, flags)
	if err == nil {
		return nil
	}
	if info, stat := Stat(name); stat == nil && info.Suspended { // it could not be exchanged: with the old one, then
		err = errors.Join(err, resume(context.WithoutCancel(ctx), name, flags))
	}
	return err
}

func resume(ctx context.Context, name string, flags uint32) error {
	err := withCookie(ctx, udev{root}, func(event uint32) (bool, error) {
		for {
			got, err := control(unix.DM_DEV_SUSPEND, request{name: name, event: event, flags: flags})
			if !errors.Is(err, unix.EINTR) || ctx.Err() != nil { // a signal, while it waited for I/O to be put back: nothing is changed
				return got.flags&unix.DM_UEVENT_GENERATED_FLAG != 0, err
			}
		}
	})
	if err != nil {
		return failed("resume", name, err)
	}
	info, err := Stat(name)
	if err != nil {
		return err
	}
	return MakeNode(info)
}

// MakeNode makes /dev/mapper/NAME of a live device where it is missing, as it is when whoever called Resume was killed before
// the end of that. Where udev runs the node is udev's, and this does nothing.
func MakeNode(info Info) error {
	if (udev{root}).manages() {
		return nil
	}
	return failed("make the node of", info.Name, makeNode(filepath.Join(root, "dev"), info.Name, info.Dev.Minor()))
}

// Remove takes a device and its table down, and its node. ErrBusy while somebody has it open: whether to try again is
// the caller's to say.
func Remove(ctx context.Context, name string) error {
	_, err := remove(ctx, name, 0)
	return err
}

// RemoveDeferred is Remove that never says busy: an open device goes when its last user closes it. gone tells whether
// it went at once; if not, whoever waits for the rest hears it as an event of the kernel, and its node stays until then.
func RemoveDeferred(ctx context.Context, name string) (gone bool, err error) {
	return remove(ctx, name, unix.DM_DEFERRED_REMOVE)
}

func remove(ctx context.Context, name string, flags uint32) (gone bool, err error) {
	if err := ValidName(name); err != nil {
		return false, &Error{"remove", name, err}
	}
	gone = true
	err = withCookie(ctx, udev{root}, func(event uint32) (bool, error) {
		got, err := control(unix.DM_DEV_REMOVE, request{name: name, flags: flags, event: event})
		if err == nil && got.flags&unix.DM_DEFERRED_REMOVE != 0 {
			gone = false
		}
		return got.flags&unix.DM_UEVENT_GENERATED_FLAG != 0, err
	})
	if err != nil || !gone {
		return false, failed("remove", name, err)
	}
	return true, failed("remove the node of", name, removeNode(filepath.Join(root, "dev"), name))
}

// Node is the path by which a device is opened.
func Node(name string) string { return filepath.Join(root, "dev/mapper", name) }

// makeNode makes mapper/NAME a link to dm-MINOR, as udev does; devtmpfs has made that one. A link that is right is left
// alone, a stale one is replaced, and anything else in its place is an error.
func makeNode(dev, name string, minor uint32) error {
	link := filepath.Join(dev, "mapper", name)
	want := fmt.Sprintf("../dm-%d", minor)
	switch got, err := os.Readlink(link); {
	case err == nil && got == want:
		return nil
	case err == nil:
		if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	case errors.Is(err, unix.EINVAL): // not a link: libdm makes real nodes where it does not trust udev
		var stat unix.Stat_t
		if err := unix.Stat(link, &stat); err != nil {
			return err
		}
		if stat.Mode&unix.S_IFMT == unix.S_IFBLK && unix.Minor(stat.Rdev) == minor {
			return nil
		}
		return fmt.Errorf("%s is in its place and not the device", link)
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		return err
	}
	if err := os.Symlink(want, link); err != nil && !errors.Is(err, os.ErrExist) { // udev was faster
		return err
	}
	return nil
}

// removeNode removes a link or node that udev left, or that never had a udev. It touches nothing that is neither.
func removeNode(dev, name string) error {
	link := filepath.Join(dev, "mapper", name)
	info, err := os.Lstat(link)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if target, err := os.Readlink(link); err == nil && !strings.HasPrefix(target, "../dm-") {
		return fmt.Errorf("%s points to %s, which is no device-mapper device", link, target)
	} else if err != nil && info.Mode()&os.ModeDevice == 0 {
		return fmt.Errorf("%s is no device", link)
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
