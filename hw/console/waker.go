package console

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// waker waits for terminals, and for the end of a context. It polls descriptors itself: the runtime's poller would need
// one goroutine a terminal, each with a read under way that takes bytes which belong to the next question.
type waker struct {
	event int // eventfd
	stop  func() bool
	fired chan struct{} // closed after the event was written
}

func newWaker(ctx context.Context) (*waker, error) {
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("wait for the console: eventfd: %w", err)
	}
	w := &waker{event: event, fired: make(chan struct{})}
	w.stop = context.AfterFunc(ctx, func() {
		defer close(w.fired)
		_, _ = unix.Write(event, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // cannot fail: the counter is 0
	})
	return w, nil
}

func (w *waker) close() {
	if !w.stop() {
		<-w.fired // it must not write into a descriptor that is somebody else's by then
	}
	unix.Close(w.event)
}

// poll returns when a terminal has something to read or room for what waits, when the context ended, or after limit
// (none if negative). After the end of the context only limit and the terminals count.
func (w *waker) poll(terminals []*terminal, limit time.Duration) error {
	fds := make([]unix.PollFd, 0, len(terminals)+1)
	timeout := -1
	if limit >= 0 {
		timeout = int((limit + time.Millisecond - 1) / time.Millisecond)
	} else {
		fds = append(fds, unix.PollFd{Fd: int32(w.event), Events: unix.POLLIN})
	}
	for _, t := range terminals {
		p := unix.PollFd{Fd: int32(t.fd), Events: unix.POLLIN} // poll(2) skips -1
		if len(t.out) > 0 {
			p.Events |= unix.POLLOUT
		}
		fds = append(fds, p)
	}
	if _, err := unix.Poll(fds, timeout); err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("wait for the console: %w", err)
	}
	return nil
}
