package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/anatol/devmapper.go"
	"golang.org/x/sys/unix"

	"initd/hw/dm"
	"initd/qemu-tests/guest/kernel"
)

// front puts two devices on top of another: NAME-below, suspended, and NAME
// on that. Whoever reads NAME waits until NAME-below is resumed, however soon
// after NAME came.
func front(device, name string) error {
	device, size, err := sized(device)
	if err != nil {
		return err
	}
	below := name + "-below"
	if err := mapped(below, device, size); err != nil {
		return err
	}
	if err := dm.Suspend(below, true); err != nil {
		return err
	}
	return mapped(name, dm.Node(below), size)
}

// node finds a virtio disk by its serial number; what begins with a slash is
// a node already.
func node(serial string) (string, error) {
	if strings.HasPrefix(serial, "/") {
		return serial, nil
	}
	return kernel.Disk(serial)
}

// whole maps all of a device.
func whole(device, name string) error {
	device, size, err := sized(device)
	if err != nil {
		return err
	}
	return mapped(name, device, size)
}

// mapped makes a linear device of the whole of another.
func mapped(name, device string, size uint64) error {
	if err := dm.Create(name, ""); err != nil {
		return err
	}
	if err := dm.Load(name, false, devmapper.LinearTable{Length: size, BackendDevice: device}); err != nil {
		return err
	}
	return dm.Resume(context.Background(), name)
}

// sized finds a device, as node does, and its size in bytes.
func sized(serial string) (device string, size uint64, err error) {
	if device, err = node(serial); err != nil {
		return "", 0, err
	}
	f, err := os.Open(device)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	n, err := f.Seek(0, io.SeekEnd)
	return device, uint64(n), err
}

// suspend holds a device's I/O back, where it is: no file system is frozen.
// With forget, what was read from it is forgotten, so that who wants it has to
// read again.
func suspend(name, forget string) error {
	if err := dm.Suspend(name, true); err != nil || forget == "" {
		return err
	}
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
}

// freeze and thaw a file system (ioctl_fifreeze(2)).
func freeze(where string, op uint) error {
	f, err := os.Open(where)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.IoctlSetInt(int(f.Fd()), op, 0); err != nil {
		return fmt.Errorf("freeze or thaw %s: %w", where, err)
	}
	return nil
}

const (
	fiFreeze = 0xc0045877 // _IOWR('X', 119, int), include/uapi/linux/fs.h
	fiThaw   = 0xc0045878 // _IOWR('X', 120, int)
)

// replace puts something else in a program's place: nothing, or half of a
// program. One that runs keeps its image.
func replace(path, with string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	from, half := strings.CutPrefix(with, "half of ")
	if !half {
		return nil
	}
	program, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(path, program[:len(program)/2], 0o755)
}
