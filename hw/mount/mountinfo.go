// Package mount mounts, unmounts and checks file systems, and reads what is
// mounted.
//
// It owns the meaning of mount options, /proc/self/mountinfo, and the decision
// whether what is mounted is what somebody wants. Its functions that touch a
// device or a mount can sleep in the kernel without end: they are written to
// be called in a process that can be given up. It never looks for a device and
// never decides an order.
package mount

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Info is one line of mountinfo (Documentation/filesystems/proc.rst, 3.5).
type Info struct {
	ID, Parent   int
	Major, Minor int      // of the device; 0:N for virtual ones
	Root         string   // the folder within the file system that is mounted
	Point        string   // where, in this mount namespace
	Options      []string // of this mount
	Optional     []string // propagation: shared:1, master:2 …
	Type         string
	Source       string
	Super        []string // options of the file system
}

// maxLine bounds one line; overlay mounts reach some kilobytes.
const maxLine = 256 << 10

// Parse reads mountinfo. A line that is not of its form is an error: guessing
// what is mounted is worse than saying that it cannot be known.
func Parse(r io.Reader) ([]Info, error) {
	var list []Info
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLine)
	for n := 1; s.Scan(); n++ {
		i, err := parseLine(s.Text())
		if err != nil {
			return nil, fmt.Errorf("mountinfo line %d: %w", n, err)
		}
		list = append(list, i)
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("read mountinfo: %w", err)
	}
	return list, nil
}

var errForm = errors.New("not of the form ID PARENT MAJOR:MINOR ROOT POINT OPTIONS … - TYPE SOURCE SUPER")

func parseLine(line string) (Info, error) {
	var i Info
	f := strings.Split(line, " ")
	dash := -1
	for k := 6; k < len(f); k++ {
		if f[k] == "-" {
			dash = k
			break
		}
	}
	if dash < 0 || len(f) < dash+3 {
		return i, errForm
	}
	major, minor, ok := strings.Cut(f[2], ":")
	if !ok {
		return i, errForm
	}
	for _, n := range []struct {
		to   *int
		text string
	}{{&i.ID, f[0]}, {&i.Parent, f[1]}, {&i.Major, major}, {&i.Minor, minor}} {
		v, err := strconv.ParseUint(n.text, 10, 31)
		if err != nil {
			return i, errForm
		}
		*n.to = int(v)
	}
	i.Root, i.Point = Unescape(f[3]), Unescape(f[4])
	i.Options, i.Optional = strings.Split(f[5], ","), f[6:dash]
	i.Type, i.Source = f[dash+1], Unescape(f[dash+2])
	if len(f) > dash+3 {
		i.Super = strings.Split(Unescape(strings.Join(f[dash+3:], " ")), ",")
	}
	return i, nil
}

// Unescape undoes the kernel's octal escapes of space, tab, newline,
// backslash and # (fs/proc_namespace.c, mangle); /proc/swaps has them too.
func Unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(v))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// List reads what is mounted in this process's namespace, in mount order.
func List() ([]Info, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	defer f.Close()
	return Parse(f)
}

// At returns the topmost mount on where, or nil: of several on one point, the
// one that is the parent of none of the others. The order of the lines does not
// say that; a mount that was moved keeps its old place.
func At(list []Info, where string) *Info {
	covered := map[int]bool{}
	for i := range list {
		if list[i].Point == where && list[i].Parent != list[i].ID {
			covered[list[i].Parent] = true
		}
	}
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].Point == where && !covered[list[i].ID] {
			return &list[i]
		}
	}
	return nil
}

// Watch calls changed after every change of the mount table until ctx ends,
// and once at the start. The kernel marks the open file with POLLPRI
// (proc(5)).
func Watch(ctx context.Context, changed func([]Info)) error {
	// Not os.Open: it would put the file into the runtime's own epoll set, and
	// this file tells each change to whichever poll asks first (mounts_poll,
	// fs/proc_namespace.c); ours then waits for ever.
	fd, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("watch mounts: %w", err)
	}
	f := os.NewFile(uintptr(fd), "mountinfo")
	defer f.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("watch mounts: %w", err)
	}
	defer r.Close()
	stop := context.AfterFunc(ctx, func() { w.Close() })
	defer func() {
		if stop() {
			w.Close()
		}
	}()
	for ctx.Err() == nil {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("watch mounts: %w", err)
		}
		list, err := Parse(f)
		if err != nil {
			return err
		}
		changed(list)
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI}, {Fd: int32(r.Fd()), Events: unix.POLLIN}}
		for {
			if _, err := unix.Poll(fds, -1); err == nil {
				break
			} else if !errors.Is(err, unix.EINTR) {
				return fmt.Errorf("watch mounts: %w", err)
			}
		}
	}
	return nil
}
