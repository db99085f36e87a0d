// Package clock sets the system's clock: never below a floor, and by SNTP
// where time servers answer.
//
// It owns the decision what the clock should be, the SNTP client (RFC 5905 as
// far as RFC 4330's clients use it), and the notice of steps that others make.
// It needs CAP_SYS_TIME to set anything. It never slews, never keeps time
// between boots and never writes the hardware clock.
package clock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Floor is the latest of the times that are certainly past: when this program
// was built, when a local certificate began to be valid. Zero times are left out.
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

// Watch calls stepped after every step of the clock, by whoever, until ctx
// ends: a timer with TFD_TIMER_CANCEL_ON_SET is cancelled by it
// (timerfd_create(2)).
func Watch(ctx context.Context, stepped func()) error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("watch the clock: %w", err)
	}
	f := os.NewFile(uintptr(fd), "timerfd")
	stop := context.AfterFunc(ctx, func() { f.Close() })
	defer func() {
		if stop() {
			f.Close()
		}
	}()
	far := &unix.ItimerSpec{Value: unix.Timespec{Sec: 1 << 40}}
	for {
		if err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, far, nil); err != nil && ctx.Err() == nil {
			return fmt.Errorf("watch the clock: %w", err)
		}
		var b [8]byte
		_, err := f.Read(b[:])
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ECANCELED):
			stepped()
		case err != nil:
			return fmt.Errorf("watch the clock: %w", err)
		}
	}
}
