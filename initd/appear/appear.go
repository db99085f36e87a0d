// Package appear waits until a path is there.
//
// It owns the watches that this takes (inotify(7)), also where folders above the path have yet to come. It reads no file, and is for file
// systems in memory: it looks at the path, which on a disk that does not answer would block. That a file system is mounted over a folder on the
// way is no event.
package appear

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Await returns nil once the path is there, whatever it is.
func Await(ctx context.Context, path string) error {
	for {
		stirred, stop := Watch(path)
		if stirred == nil {
			return fmt.Errorf("await %s: it cannot be watched", path)
		}
		_, err := os.Lstat(path)
		if errors.Is(err, os.ErrNotExist) {
			select {
			case <-stirred:
			case <-ctx.Done():
			}
		}
		stop()
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, os.ErrNotExist):
			return fmt.Errorf("await: %w", err)
		case ctx.Err() != nil:
			return fmt.Errorf("await %s: %w", path, context.Cause(ctx))
		}
	}
}

// Watch tells of a change in the nearest folder above path that exists, once. The caller looks at the path after it has begun to watch, and
// stops in the end. stirred is nil where watching is not possible.
func Watch(path string) (stirred <-chan struct{}, stop func()) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, nil
	}
	f := os.NewFile(uintptr(fd), "inotify")
	const mask = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ATTRIB
	// A deeper folder may appear while a higher one is being watched. Only when
	// a second look ends at the same folder is the next below known to be
	// missing since its watch began.
	for last := ""; ; {
		dir := nearest(fd, filepath.Dir(path), mask)
		if dir == "" {
			f.Close()
			return nil, nil
		}
		if dir == last || dir == filepath.Dir(path) {
			break
		}
		last = dir
	}
	c := make(chan struct{})
	go func() {
		var b [4 << 10]byte
		_, _ = f.Read(b[:])
		close(c)
	}()
	return c, func() { f.Close() }
}

// nearest watches dir, or the first folder above it that exists, and returns
// which; "": none can be watched.
func nearest(fd int, dir string, mask uint32) string {
	for {
		if _, err := unix.InotifyAddWatch(fd, dir, mask); err == nil {
			return dir
		}
		if dir == "/" {
			return ""
		}
		dir = filepath.Dir(dir)
	}
}
