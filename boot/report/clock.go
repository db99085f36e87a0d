package report

import (
	"time"

	"golang.org/x/sys/unix"
)

// Boottime reads CLOCK_BOOTTIME: the time since the kernel started, with the
// time asleep.
func Boottime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0 // only with a kernel older than 2.6.39
	}
	return time.Duration(t.Nano())
}

// Anchor is the event that ties CLOCK_BOOTTIME to the wall clock; one is
// written at the start and one after each step of the clock.
func Anchor(now time.Time) Event {
	now = now.Round(0).UTC()
	return Event{Kind: ClockStepped, Wall: &now}
}
