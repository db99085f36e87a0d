package lio

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Other is where the other machine of a cluster has mounted a LUN, and Written the file that it keeps open there.
const (
	Other   = "/run/other"
	Written = "of the other machine"
)

// mount makes this machine the one that uses a LUN of memory, past LIO: a loop device over the same file, and its ext4 mounted.
func (m *Machine) mount(t Target, number int) error {
	store, ok := m.disks[fmt.Sprintf("%s/%d", t.IQN, number)]
	if !ok {
		return fmt.Errorf("lio: %s has no LUN %d", t.IQN, number)
	}
	file, err := os.OpenFile("/run/lio-"+store[len("core/fileio_0/"):], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer control.Close()
	n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return fmt.Errorf("lio: LOOP_CTL_GET_FREE: %w", err)
	}
	device := fmt.Sprintf("/dev/loop%d", n)
	loop, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer loop.Close()
	if err := unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_SET_FD, int(file.Fd())); err != nil {
		return fmt.Errorf("lio: LOOP_SET_FD: %w", err)
	}
	if err := os.MkdirAll(Other, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(device, Other, "ext4", 0, ""); err != nil {
		return fmt.Errorf("lio: mount %s: %w", device, err)
	}
	return os.WriteFile(Other+"/file", []byte(Written), 0o644)
}
