package broker

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// lock opens and locks a file; the lock ends with the file, and so with the process.
func lock(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the job queue: %w", err)
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return f, nil
}

// lockOrDone waits for a lock as long as ctx lasts. The wait itself cannot be ended; a lock that comes too late is let go again.
func lockOrDone(ctx context.Context, path string) (*os.File, error) {
	type outcome struct {
		f   *os.File
		err error
	}
	got := make(chan outcome)
	go func() {
		f, err := lock(path, unix.LOCK_EX)
		select {
		case got <- outcome{f, err}:
		case <-ctx.Done():
			if f != nil {
				f.Close()
			}
		}
	}()
	select {
	case o := <-got:
		return o.f, o.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
