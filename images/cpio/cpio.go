// Package cpio writes initramfs archives: the 'newc' format that the kernel unpacks
// (Documentation/driver-api/early-userspace/buffer-format.rst), the same bytes for the same entries on every machine and
// in every order of adding them.
//
// It owns order, inode numbers, times (all zero), missing parent folders and compression. It never reads archives, never
// follows what a path points to, and knows nothing of what the files are for.
package cpio

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
)

// Entry is one file of an archive.
type Entry struct {
	// Path is absolute, or relative to the root; the archive stores it clean and without a leading slash.
	Path string
	// Mode is the kind (regular, ModeDir, ModeSymlink, ModeDevice, ModeCharDevice) with permissions and
	// ModeSetuid, ModeSetgid and ModeSticky. Other kinds are refused.
	Mode     fs.FileMode
	UID, GID uint32
	// Size of a regular file's content in bytes; at most 4 GiB - 1, which is what the format can say.
	Size int64
	// Open gives a regular file's content: exactly Size bytes. It is called once for each time the archive is written.
	Open func() (io.ReadCloser, error)
	// Target of a symbolic link, stored as it is.
	Target string
	// Major and Minor number of a device node.
	Major, Minor uint32
}

// Archive collects entries. The zero value is an empty archive. It is not safe for concurrent use.
type Archive struct {
	entries map[string]Entry
	// implied marks parent folders that nobody asked for: an explicit entry may still replace them.
	implied map[string]bool
}

// ConflictError says that a path was added twice.
type ConflictError struct{ Path string }

func (e *ConflictError) Error() string {
	return fmt.Sprintf("add /%s to the archive: it is there already; each path has one origin", e.Path)
}

// Add puts an entry into the archive, and its parent folders (mode 0755, root's) if they are missing. A path that is
// there already is a *ConflictError, except for a folder added again with the same mode and owner.
func (a *Archive) Add(e Entry) error {
	name := strings.TrimPrefix(path.Clean("/"+e.Path), "/")
	if name == "" {
		return fmt.Errorf("add %q to the archive: the root folder itself has no entry", e.Path)
	}
	if strings.ContainsRune(e.Path, 0) {
		return fmt.Errorf("add %q to the archive: a path has no zero byte", e.Path)
	}
	if name == trailer {
		return fmt.Errorf("add /%s to the archive: this name ends an archive", name)
	}
	e.Path = name
	if err := e.check(); err != nil {
		return err
	}
	if a.entries == nil {
		a.entries = map[string]Entry{}
		a.implied = map[string]bool{}
	}
	if old, ok := a.entries[name]; ok && !a.implied[name] {
		if sameDir(old, e) {
			return nil
		}
		return &ConflictError{Path: name}
	}
	if a.implied[name] && !e.Mode.IsDir() {
		return fmt.Errorf("add /%s to the archive: there are files below it, so it has to be a folder", name)
	}
	if err := a.parents(name); err != nil {
		return err
	}
	a.entries[name] = e
	delete(a.implied, name)
	return nil
}

func (a *Archive) parents(name string) error {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		old, ok := a.entries[dir]
		if !ok {
			a.entries[dir] = Entry{Path: dir, Mode: fs.ModeDir | 0o755}
			a.implied[dir] = true
			continue
		}
		if !old.Mode.IsDir() {
			return fmt.Errorf("add /%s to the archive: /%s is there already, and no folder", name, dir)
		}
	}
	return nil
}

// Dir adds a folder.
func (a *Archive) Dir(path string, perm fs.FileMode) error {
	return a.Add(Entry{Path: path, Mode: fs.ModeDir | perm})
}

// Bytes adds a regular file with this content, which the archive keeps.
func (a *Archive) Bytes(path string, perm fs.FileMode, content []byte) error {
	return a.Add(Entry{Path: path, Mode: perm, Size: int64(len(content)), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}})
}

// File adds a regular file with the content of a file of this machine. The content is read when the archive is written;
// a file that changed its size by then is an error of Write.
func (a *Archive) File(path string, perm fs.FileMode, from string) error {
	info, err := os.Stat(from)
	if err != nil {
		return fmt.Errorf("add /%s to the archive: %w", strings.TrimPrefix(path, "/"), err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("add /%s to the archive: %s is no regular file", strings.TrimPrefix(path, "/"), from)
	}
	return a.Add(Entry{Path: path, Mode: perm, Size: info.Size(), Open: func() (io.ReadCloser, error) { return os.Open(from) }})
}

// Symlink adds a symbolic link; target is stored as it is.
func (a *Archive) Symlink(path, target string) error {
	return a.Add(Entry{Path: path, Mode: fs.ModeSymlink | 0o777, Target: target})
}

// CharDevice adds a character device node, such as /dev/console (5, 1), which the kernel opens before init can mount
// anything.
func (a *Archive) CharDevice(path string, perm fs.FileMode, major, minor uint32) error {
	return a.Add(Entry{Path: path, Mode: fs.ModeDevice | fs.ModeCharDevice | perm, Major: major, Minor: minor})
}

// Has tells whether the path is in the archive.
func (a *Archive) Has(name string) bool {
	_, ok := a.entries[strings.TrimPrefix(path.Clean("/"+name), "/")]
	return ok
}

// Entries lists what is in the archive, implied folders too, in the order in which Write writes it.
func (a *Archive) Entries() []Entry {
	list := slices.Collect(maps.Values(a.entries))
	// By path components, so that a folder comes right before what is in it.
	slices.SortFunc(list, func(x, y Entry) int {
		return slices.Compare(strings.Split(x.Path, "/"), strings.Split(y.Path, "/"))
	})
	return list
}

func sameDir(x, y Entry) bool {
	return x.Mode.IsDir() && x.Mode == y.Mode && x.UID == y.UID && x.GID == y.GID
}

func (e Entry) check() error {
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("add /%s to the archive: %s", e.Path, fmt.Sprintf(format, args...))
	}
	switch e.Mode.Type() {
	case 0:
		if e.Open == nil && e.Size != 0 {
			return wrong("%d bytes of content, but nothing to read them from", e.Size)
		}
		if e.Size < 0 || e.Size > maxSize {
			return wrong("%d bytes do not fit into the format (at most %d)", e.Size, int64(maxSize))
		}
	case fs.ModeSymlink:
		if e.Target == "" {
			return wrong("a symbolic link needs a target")
		}
	case fs.ModeDir, fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
	default:
		return wrong("mode %v is of a kind that an initramfs does not hold", e.Mode)
	}
	return nil
}
