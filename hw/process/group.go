package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Group is the folder of a cgroup of the unified hierarchy
// (Documentation/admin-guide/cgroup-v2.rst).
type Group string

// PIDs lists the processes of the group itself. One that hangs while it exits
// is not listed as a process any more (css_task_iter_advance,
// kernel/cgroup/cgroup.c), but its thread is.
func (g Group) PIDs() []int {
	if list := g.list("cgroup.procs"); len(list) > 0 {
		return list
	}
	return g.list("cgroup.threads")
}

func (g Group) list(file string) []int {
	b, err := os.ReadFile(filepath.Join(string(g), file))
	if err != nil {
		return nil
	}
	var list []int
	for line := range strings.Lines(string(b)) {
		if n, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && n > 0 {
			list = append(list, n)
		}
	}
	return list
}

// Empty tells whether nothing lives in the group or below it. A group that is
// not there is empty.
func (g Group) Empty() bool {
	b, err := os.ReadFile(filepath.Join(string(g), "cgroup.events"))
	return err != nil || !strings.Contains(string(b), "populated 1")
}

// Kill ends everything in the group and below it.
func (g Group) Kill() error {
	return os.WriteFile(filepath.Join(string(g), "cgroup.kill"), []byte("1"), 0)
}

// AwaitEmpty returns when the group is empty or gone. That may take for ever:
// it belongs on a goroutine of its own.
func (g Group) AwaitEmpty() error {
	if g.Empty() {
		return nil
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("watch cgroup: %w", os.NewSyscallError("inotify_init1", err))
	}
	f := os.NewFile(uintptr(fd), "inotify")
	defer f.Close()
	_, err = unix.InotifyAddWatch(fd, filepath.Join(string(g), "cgroup.events"), unix.IN_MODIFY|unix.IN_DELETE_SELF)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("watch cgroup: %w", os.NewSyscallError("inotify_add_watch", err))
	}
	var b [4 << 10]byte
	for !g.Empty() { // looked at after the watch began, so that no change is missed
		if _, err := f.Read(b[:]); err != nil {
			return fmt.Errorf("watch cgroup: %w", err)
		}
	}
	return nil
}
