package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pressOut switches a swap device on and has the kernel write out what it may (memory.reclaim of the root group,
// Documentation/admin-guide/cgroup-v2.rst): memory of this program that holds text is certainly among it.
func pressOut(device, text string) error {
	device, err := node(device)
	if err != nil {
		return err
	}
	name, err := unix.BytePtrFromString(device)
	if err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_SWAPON, uintptr(unsafe.Pointer(name)), 0, 0); errno != 0 && errno != unix.EBUSY {
		return fmt.Errorf("swapon %s: %w", device, errno)
	}
	mine := bytes.Repeat([]byte(text+"\n"), 8<<20/(len(text)+1))
	for range 3 {
		// As much as there is: it writes out what it can, and then says EAGAIN.
		err := os.WriteFile("/sys/fs/cgroup/memory.reclaim", []byte("4G swappiness=200"), 0)
		if err != nil && !errors.Is(err, unix.EAGAIN) {
			return err
		}
	}
	if !bytes.HasPrefix(mine, []byte(text)) {
		return errors.New("what was written out does not come back")
	}
	return nil
}
