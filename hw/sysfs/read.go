package sysfs

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// read returns the content of a file, at most limit bytes of it. An os.File of a kernel's file is registered with epoll for nothing: that is
// half of the calls for an attribute of a few bytes, of which a boot reads some ten thousand.
func read(path string, limit int) ([]byte, error) {
	fd, err := retried(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOCTTY, 0) })
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer func() { _ = unix.Close(fd) }()
	content := make([]byte, 0, min(limit+1, 512))
	for {
		if len(content) == cap(content) {
			content = append(content, 0)[:len(content)]
		}
		space := content[len(content):min(cap(content), limit+1)]
		n, err := retried(func() (int, error) { return unix.Read(fd, space) })
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		}
		if n == 0 {
			return content, nil
		}
		if content = content[:len(content)+n]; len(content) > limit {
			return nil, fmt.Errorf("read %s: longer than %d bytes", path, limit)
		}
	}
}

func retried(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
