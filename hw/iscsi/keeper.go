package iscsi

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrKept says that somebody else keeps the sessions of this machine.
var ErrKept = errors.New("the iSCSI sessions of this machine are kept by another process already")

// Lock makes this process the one that keeps the sessions, for as long as it does not call release. wait waits until nobody
// else is; without it ErrKept says that somebody is.
func (r Records) Lock(wait bool) (release func(), err error) {
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return nil, fmt.Errorf("keep iSCSI sessions: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(r.dir, "keeper"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("keep iSCSI sessions: %w", err)
	}
	how := unix.LOCK_EX
	if !wait {
		how |= unix.LOCK_NB
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err == nil {
		return func() { f.Close() }, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, ErrKept
	}
	return nil, fmt.Errorf("keep iSCSI sessions: flock: %w", err)
}

// Kept tells whether somebody keeps the sessions.
func (r Records) Kept() bool {
	if _, err := os.Stat(filepath.Join(r.dir, "keeper")); err != nil {
		return false
	}
	release, err := r.Lock(false)
	if err == nil {
		release()
	}
	return errors.Is(err, ErrKept)
}
