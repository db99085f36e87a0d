package report

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Follow calls yield for every event in the file and then for each as it is
// appended, until ctx ends or yield returns an error, which it returns. more
// is false at the end of what is there for now: a good moment to draw.
func Follow(ctx context.Context, path string, yield func(e Event, more bool) error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("follow events: %w", err)
	}
	defer f.Close()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("follow events: inotify_init1: %w", err)
	}
	watch := os.NewFile(uintptr(fd), "inotify") // non-blocking: reads go by the runtime's poller
	defer watch.Close()
	// By the open file, not the path: after switch_root the path may be another.
	if _, err := unix.InotifyAddWatch(fd, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.IN_MODIFY); err != nil {
		return fmt.Errorf("follow events of %s: inotify_add_watch: %w", path, err)
	}
	stop := context.AfterFunc(ctx, func() { watch.Close() })
	defer stop()

	r := NewReader(f)
	buf := make([]byte, 4096)
	var held *Event // one behind, to know whether more follow
	for {
		e, err := r.Next()
		switch {
		case err == nil:
			if held != nil {
				if err := yield(*held, true); err != nil {
					return err
				}
			}
			held = &e
			continue
		case !errors.Is(err, io.EOF):
			return fmt.Errorf("follow events of %s: %w", path, err)
		}
		if held != nil {
			if err := yield(*held, false); err != nil {
				return err
			}
			held = nil
		}
		if _, err := watch.Read(buf); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("follow events of %s: %w", path, err)
		}
	}
}
