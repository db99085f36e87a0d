package clock

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// Watch calls stepped after every step of the clock, by whoever, until ctx ends: a timer with TFD_TIMER_CANCEL_ON_SET is
// cancelled by it (timerfd_create(2)). Steps in quick succession may be told as one.
func Watch(ctx context.Context, stepped func()) error {
	f, err := stepTimer()
	if err == nil {
		err = follow(ctx, f, stepped)
	}
	if err != nil {
		return fmt.Errorf("watch the clock: %w", err)
	}
	return nil
}

// follow reads the timer, and closes it.
func follow(ctx context.Context, f *os.File, stepped func()) error {
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { f.Close() })
	defer stop()
	for {
		var expirations [8]byte
		_, err := f.Read(expirations[:])
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ECANCELED):
			// The timer stays armed, and the kernel compares with the offset of this read: no step goes unseen
			// (timerfd_canceled in fs/timerfd.c). Setting it again would take those in between for granted.
			stepped()
		case err != nil:
			return err
		}
	}
}

// stepTimer is a timer that never ends by itself.
func stepTimer() (*os.File, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	never := &unix.ItimerSpec{Value: unix.Timespec{Sec: math.MaxInt64}}
	if err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, never, nil); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "timerfd"), nil
}
