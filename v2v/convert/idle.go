package convert

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Idle lets the kernel serve this process's reads and writes when nobody else wants the disk (ioprio_set(2), class idle). The priority is a
// thread's: each is asked, and those that they start inherit it.
func Idle() error {
	const (
		whoProcess = 1 // IOPRIO_WHO_PROCESS
		classIdle  = 3 << 13
	)
	// A thread that starts meanwhile is found in the second round at the latest: its parent was done in the first.
	for range 2 {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("lower the priority of reading and writing: %w", err)
		}
		for _, t := range tasks {
			tid, err := strconv.Atoi(t.Name())
			if err != nil {
				continue
			}
			if _, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, uintptr(tid), classIdle); errno != 0 && !errors.Is(errno, unix.ESRCH) {
				return fmt.Errorf("lower the priority of reading and writing: %w", errno)
			}
		}
	}
	return nil
}
