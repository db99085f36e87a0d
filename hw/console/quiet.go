package console

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Levels of kernel messages (include/linux/kern_levels.h): what is below the console's level is shown.
const (
	onlyEmergencies = 1 // KERN_ALERT and above stay away
	upToErrors      = 4
	consoleLevel    = 8 // SYSLOG_ACTION_CONSOLE_LEVEL, syslog(2)
)

// QuietKernel keeps the kernel's messages, but for emergencies, from the consoles until restore is called: they would
// tear what people read there. They stay in the kernel's ring buffer. root is where proc lies. It needs CAP_SYSLOG.
func QuietKernel(root string) (restore func(), err error) {
	b, err := os.ReadFile(filepath.Join(root, "proc/sys/kernel/printk"))
	if err != nil {
		return nil, fmt.Errorf("quiet the kernel: %w", err)
	}
	words := strings.Fields(string(b))
	if len(words) == 0 {
		return nil, fmt.Errorf("quiet the kernel: %q is no list of levels", b)
	}
	before, err := strconv.Atoi(words[0])
	if err != nil {
		return nil, fmt.Errorf("quiet the kernel: %w", err)
	}
	if before <= onlyEmergencies { // left so by a process that was killed
		before = upToErrors
	}
	if err := setLevel(onlyEmergencies); err != nil {
		return nil, err
	}
	return func() { _ = setLevel(before) }, nil
}

// setLevel: the level is the length of the buffer, which the kernel does not touch.
func setLevel(level int) error {
	if _, err := unix.Klogctl(consoleLevel, make([]byte, level)); err != nil {
		return fmt.Errorf("set the console's log level to %d: %w", level, err)
	}
	return nil
}
