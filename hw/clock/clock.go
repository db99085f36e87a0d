// Package clock sets the system's clock: never below a floor, and by SNTP where time servers answer.
//
// It owns the decision what the clock should be, the SNTP client (RFC 5905 as far as a client that asks once needs it, with
// the checks of RFC 4330, 5), and the notice of steps, whoever makes them. It needs CAP_SYS_TIME to set anything. It never
// slews, never keeps time between boots and never writes the hardware clock.
package clock

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Anchor says what the wall clock showed at a moment of CLOCK_BOOTTIME, which nobody sets.
type Anchor struct {
	Boot time.Duration `json:"boot"`
	Wall time.Time     `json:"wall"`
}

// Now reads both clocks; they are read at most microseconds apart, unless the process was held up in between.
func Now() Anchor {
	before := Boottime()
	wall := time.Now()
	after := Boottime()
	return Anchor{Boot: before + (after-before)/2, Wall: wall.Round(0)} // without Go's monotonic reading, which does not marshal
}

// At is the wall time of a moment of CLOCK_BOOTTIME, by this anchor.
func (a Anchor) At(boot time.Duration) time.Time { return a.Wall.Add(boot - a.Boot) }

// Step is how far the wall clock went beyond the time that passed since an earlier anchor.
func (a Anchor) Step(earlier Anchor) time.Duration {
	return a.Wall.Sub(earlier.At(a.Boot))
}

// Boottime is CLOCK_BOOTTIME: the time since the machine started, suspends included.
func Boottime() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0 // only before Linux 2.6.39
	}
	return time.Duration(ts.Nano())
}

// Floor is the latest of the times that are certainly past: when this program was built, when a local certificate began to
// be valid. Zero times are left out.
func Floor(times ...time.Time) time.Time {
	var f time.Time
	for _, t := range times {
		if t.After(f) {
			f = t
		}
	}
	return f
}

// Raise sets the clock to floor where it is below, and tells whether it was.
func Raise(floor time.Time) (raised bool, err error) {
	floor = floor.Round(0) // the wall clock counts: with monotonic readings on both sides, Before looks at those only
	if !time.Now().Before(floor) {
		return false, nil
	}
	return true, Set(floor)
}

// Set steps the clock.
func Set(t time.Time) error {
	ts := unix.NsecToTimespec(t.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return fmt.Errorf("set the clock to %s: %w", t.UTC().Format(time.RFC3339), err)
	}
	return nil
}
