// Package sysfs is the one rooted view of /sys and /proc.
//
// It owns opening, bounding and parsing the small text files, links and directories that the kernel shows there; every
// reader of kernel files in this program goes through it, so that a test can put a captured tree in the kernel's place.
// It needs sysfs and procfs mounted below the root. It never writes, never leaves its root (a link that points out of
// it is an error), never opens a device node, and knows nothing of what the files mean.
package sysfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// MaxAttribute bounds one attribute in bytes: sysfs hands out at most one page a file (Documentation/filesystems/sysfs.rst),
// binary ones such as vpd_pg83 or a uevent file stay well below 64 KiB.
const MaxAttribute = 64 << 10

// FS reads below one root. Names are slash-separated, relative to that root and without dot elements: "sys/block/vda/size",
// "proc/self/mountinfo". It is safe for concurrent use.
type FS struct {
	fsys fs.FS
	root io.Closer // nil: nothing is held open
	// kernels says that this is the running system, where files are read without an os.File.
	kernels bool
}

// New returns a view of fsys, which holds "sys" and "proc" directories. Links are followed as fsys follows them;
// fstest.MapFS and os.Root's FS both do.
func New(fsys fs.FS) *FS { return &FS{fsys: fsys} }

// Open returns a view below dir ("/" for the running system; a directory of captures in a test). The view holds dir
// open; Close releases it.
//
// Nothing leads out of "/", so that there the kernel follows a name and its links in one call. os.Root opens folder after
// folder, which made a walk over the devices of a machine four times as long.
func Open(dir string) (*FS, error) {
	if dir == "/" {
		return &FS{fsys: os.DirFS(dir), kernels: true}, nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &FS{fsys: root.FS(), root: root}, nil
}

// FS is the view as the standard library's walkers want it.
func (f *FS) FS() fs.FS { return f.fsys }

// Close releases what Open holds; a view from New has nothing to release.
func (f *FS) Close() error {
	if f.root == nil {
		return nil
	}
	return f.root.Close()
}

// Bytes returns the content of a file as it is, at most limit bytes of it; a longer file is an error that says so.
func (f *FS) Bytes(name string, limit int) ([]byte, error) {
	if f.kernels && fs.ValidPath(name) {
		return read("/"+name, limit)
	}
	file, err := f.fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(content) > limit {
		return nil, fmt.Errorf("read %s: longer than %d bytes", name, limit)
	}
	return content, nil
}

// File opens a file for whom Bytes would leave a copy too many: a secret is read into memory of its own. The caller closes
// it.
func (f *FS) File(name string) (fs.File, error) { return f.fsys.Open(name) }

// String returns the text of an attribute without leading and trailing white space.
func (f *FS) String(name string) (string, error) {
	content, err := f.Bytes(name, MaxAttribute)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(content)), nil
}

// Uint returns an attribute that is a decimal number.
func (f *FS) Uint(name string) (uint64, error) { return f.number(name, 10) }

// Hex returns an attribute that is a hexadecimal number, with or without a leading 0x.
func (f *FS) Hex(name string) (uint64, error) { return f.number(name, 16) }

func (f *FS) number(name string, base int) (uint64, error) {
	text, err := f.String(name)
	if err != nil {
		return 0, err
	}
	digits := text
	if base == 16 {
		digits = strings.TrimPrefix(strings.ToLower(text), "0x")
	}
	value, err := strconv.ParseUint(digits, base, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s: %q is not a number of base %d", name, text, base)
	}
	return value, nil
}

// Int returns an attribute that is a signed decimal number.
func (f *FS) Int(name string) (int64, error) {
	text, err := f.String(name)
	if err != nil {
		return 0, err
	}
	value, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s: %q is not a number", name, text)
	}
	return value, nil
}

// Bool returns an attribute that is 0 or 1.
func (f *FS) Bool(name string) (bool, error) {
	text, err := f.String(name)
	if err != nil {
		return false, err
	}
	switch text {
	case "0":
		return false, nil
	case "1":
		return true, nil
	}
	return false, fmt.Errorf("read %s: %q is neither 0 nor 1", name, text)
}

// Link returns the target of a link as it is written: relative in sysfs, anything at all for the links of /proc/PID.
func (f *FS) Link(name string) (string, error) {
	return fs.ReadLink(f.fsys, name)
}

// LinkBase returns the last element of a link's target: the name of a subsystem, a driver, a device.
func (f *FS) LinkBase(name string) (string, error) {
	target, err := f.Link(name)
	if err != nil {
		return "", err
	}
	return path.Base(target), nil
}

// Names returns the entries of a directory, sorted. An entry that vanishes while it is read is left out.
func (f *FS) Names(dir string) ([]string, error) {
	entries, err := fs.ReadDir(f.fsys, dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	slices.Sort(names)
	return names, nil
}

// Exists says whether there is anything at name (following links).
func (f *FS) Exists(name string) bool {
	_, err := fs.Stat(f.fsys, name)
	return err == nil
}

// maxLinks is the kernel's own bound on links in one lookup (MAXSYMLINKS, include/linux/namei.h).
const maxLinks = 40

// Real returns name with every link in it resolved, relative to the root: the place of a device below sys/devices.
func (f *FS) Real(name string) (string, error) {
	if !fs.ValidPath(name) {
		return "", &fs.PathError{Op: "resolve", Path: name, Err: fs.ErrInvalid}
	}
	done := "."
	todo := strings.Split(name, "/")
	for links := 0; len(todo) > 0; {
		element := todo[0]
		todo = todo[1:]
		if element == ".." {
			if done == "." {
				return "", &fs.PathError{Op: "resolve", Path: name, Err: errors.New("a link leads out of the root")}
			}
			done = path.Dir(done)
			continue
		}
		next := path.Join(done, element)
		info, err := fs.Lstat(f.fsys, next)
		if err != nil {
			return "", err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", &fs.PathError{Op: "resolve", Path: name, Err: errors.New("too many links")}
		}
		target, err := f.Link(next)
		if err != nil {
			return "", err
		}
		if path.IsAbs(target) {
			return "", &fs.PathError{Op: "resolve", Path: name, Err: fmt.Errorf("%s is an absolute link (%s)", next, target)}
		}
		todo = append(elements(target), todo...)
	}
	return done, nil
}

func elements(target string) []string {
	var out []string
	for element := range strings.SplitSeq(target, "/") {
		if element != "" && element != "." {
			out = append(out, element)
		}
	}
	return out
}
