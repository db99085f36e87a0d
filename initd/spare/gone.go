package spare

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// AwaitGone returns nil when the file that path means now has no name any
// more: it was deleted, or another one took its place. It waits for events and
// reads nothing; for a running program path is /proc/self/exe, which leads to
// its inode without a walk over folders that may be on a disk.
func AwaitGone(ctx context.Context, path string) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("watch the program: %w", os.NewSyscallError("inotify_init1", err))
	}
	events := os.NewFile(uintptr(fd), "inotify")
	defer events.Close()
	defer context.AfterFunc(ctx, func() { events.Close() })()
	file, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("watch the program %s: %w", path, err)
	}
	defer unix.Close(file)
	// A change of the number of names is a change of the attributes (fs/namei.c, vfs_unlink).
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_ATTRIB|unix.IN_DELETE_SELF); err != nil {
		return fmt.Errorf("watch the program %s: %w", path, err)
	}
	var b [4 << 10]byte
	for {
		var st unix.Stat_t
		if err := unix.Fstat(file, &st); err != nil {
			return fmt.Errorf("watch the program %s: %w", path, err)
		}
		if st.Nlink == 0 {
			return nil
		}
		if _, err := events.Read(b[:]); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("watch the program %s: %w", path, err)
		}
	}
}
