package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pressOut switches a swap device on and has the kernel write out memory of initd's groups, the children's, with the keys that
// wait, among them (memory.reclaim, Documentation/admin-guide/cgroup-v2.rst): memory of this program that holds text is certainly
// there, and is more than what is asked for, for the kernel goes on as long as it finds a single page.
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
	mine := bytes.Repeat([]byte(text+"\n"), 16<<20/(len(text)+1))
	err = os.WriteFile("/sys/fs/cgroup/initd/memory.reclaim", []byte("12M swappiness=200"), 0)
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		return err
	}
	if !bytes.HasPrefix(mine, []byte(text)) {
		return errors.New("what was written out does not come back")
	}
	return nil
}
