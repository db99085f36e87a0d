// Earlier is the first program of a machine whose clock a test wants at a time that no PC's clock can hold: it sets the
// clock to CLOCK, in seconds since 1970, which the kernel takes from its command line, and becomes /init.
//
// It owns that one step. Linux reads the two digits of the year in a PC's clock as 1970 to 2069 (mc146818_get_time in
// drivers/rtc), so QEMU's -rtc cannot make it 2099.
package main

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

func main() {
	if err := become(); err != nil {
		fmt.Fprintln(os.Stderr, "earlier:", err)
		os.Exit(1)
	}
}

func become() error {
	seconds, err := strconv.ParseInt(os.Getenv("CLOCK"), 10, 64)
	if err != nil {
		return fmt.Errorf("CLOCK: %w", err)
	}
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &unix.Timespec{Sec: seconds}); err != nil {
		return fmt.Errorf("set the clock: %w", err)
	}
	if err := os.Unsetenv("CLOCK"); err != nil {
		return err
	}
	return unix.Exec("/init", []string{"/init"}, os.Environ())
}
