package stack

import (
	"context"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// User is a process that keeps a mount busy.
type User struct {
	PID int
	// Start is the process's start time in clock ticks since boot
	// (/proc/PID/stat, field 22): a PID with another one is another process.
	Start uint64
	Comm  string
	How   string // "open file /srv/a/x", "working directory", "program", "root"
}

// Users finds the processes that use what lies at or below one of points, or
// that have one of points, the node of a device, open: by path. Their links in
// /proc are read, never followed.
func Users(root string, points []string) []User {
	ctx, cancel := context.WithTimeout(context.Background(), mapsPatience)
	defer cancel()
	return users(root, func(pid int) string {
		if how := uses(root, pid, points); how != "" {
			return how
		}
		return maps(ctx, root, pid, points)
	})
}

// mapsPatience bounds the reading of all processes' mappings together.
const mapsPatience = 2 * time.Second

// Everyone lists all processes of user space but storage daemons: what they
// serve has to go first, and then init ends them.
func Everyone(root string) []User {
	return users(root, func(pid int) string {
		// A kernel thread has no program.
		dir := path.Join(root, "proc", strconv.Itoa(pid))
		if _, err := os.Readlink(path.Join(dir, "exe")); err != nil || storageDaemon(dir) {
			return ""
		}
		return "running"
	})
}

// storageDaemon tells whether a process asks to be left alone until the very
// end: it is root's, and its name begins with '@'
// (https://systemd.io/ROOT_STORAGE_DAEMONS).
func storageDaemon(dir string) bool {
	name, err := os.ReadFile(path.Join(dir, "cmdline"))
	if err != nil || !strings.HasPrefix(string(name), "@") {
		return false
	}
	var st unix.Stat_t
	return unix.Stat(dir, &st) == nil && st.Uid == 0
}

func users(root string, how func(pid int) string) []User {
	fsys := os.DirFS(root)
	entries, _ := fs.ReadDir(fsys, "proc")
	var list []User
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		u := User{PID: pid, How: how(pid)}
		if u.How == "" {
			continue
		}
		u.Comm, u.Start = identity(fsys, pid)
		if u.Start != 0 {
			list = append(list, u)
		}
	}
	slices.SortFunc(list, func(a, b User) int { return a.PID - b.PID })
	return list
}

func uses(root string, pid int, points []string) string {
	dir := path.Join(root, "proc", strconv.Itoa(pid))
	for _, l := range []struct{ name, how string }{{"cwd", "working directory"}, {"exe", "program"}, {"root", "root"}} {
		if to, err := os.Readlink(path.Join(dir, l.name)); err == nil && on(to, points) {
			return l.how
		}
	}
	fds, _ := os.ReadDir(path.Join(dir, "fd"))
	for _, fd := range fds {
		if to, err := os.Readlink(path.Join(dir, "fd", fd.Name())); err == nil && on(to, points) {
			return "open file " + strings.TrimSuffix(to, " (deleted)")
		}
	}
	return ""
}

// maps looks at mappings, which outlive their descriptors. Each is a link too,
// named by its addresses (proc(5), map_files). Listing them takes the lock of
// the process's memory, which one that waits for a dead device may hold: then
// the reader is left behind with its thread, and the process is not known by
// its mappings.
func maps(ctx context.Context, root string, pid int, points []string) string {
	if ctx.Err() != nil {
		return ""
	}
	found := make(chan string, 1)
	go func() {
		dir := path.Join(root, "proc", strconv.Itoa(pid), "map_files")
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if to, err := os.Readlink(path.Join(dir, e.Name())); err == nil && on(to, points) {
				found <- "mapped file " + strings.TrimSuffix(to, " (deleted)")
				return
			}
		}
		found <- ""
	}()
	select {
	case how := <-found:
		return how
	case <-ctx.Done():
		return ""
	}
}

func on(file string, points []string) bool {
	for _, p := range points {
		if file == p || strings.HasPrefix(file, p+"/") {
			return true
		}
	}
	return false
}

// identity reads a process's name and start time; zero if it is gone.
func identity(fsys fs.FS, pid int) (comm string, start uint64) {
	b, err := fs.ReadFile(fsys, path.Join("proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return "", 0
	}
	open, end := strings.IndexByte(string(b), '('), strings.LastIndexByte(string(b), ')')
	if open < 0 || end < open {
		return "", 0
	}
	f := strings.Fields(string(b[end+1:]))
	if len(f) < 20 {
		return "", 0
	}
	start, _ = strconv.ParseUint(f[19], 10, 64)
	return string(b[open+1 : end]), start
}

// Same tells whether the process that u saw is still the one with its PID.
func Same(u User) bool {
	_, start := identity(os.DirFS("/"), u.PID)
	return start == u.Start
}
