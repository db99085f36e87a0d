// Package configfs builds and takes apart the trees by which the kernel's targets are configured: nvmet, LIO.
//
// It owns the mount of configfs and the rules that all such trees share: a mkdir makes an object, with groups in it that
// only the kernel may remove; a write sets an attribute; a symbolic link binds two objects; all of it is undone in reverse. What the
// objects mean is for the packages that use it.
package configfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Mountpoint of configfs (Documentation/filesystems/configfs.rst).
const Mountpoint = "/sys/kernel/config"

// Tree is a directory of configfs: all paths are relative to it.
type Tree struct{ dir string }

// Mount mounts configfs, if it is not yet, and returns the tree of one subsystem ("nvmet", "target"), whose module has to
// be loaded.
func Mount(subsystem string) (Tree, error) {
	if err := unix.Mount("configfs", Mountpoint, "configfs", 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
		return Tree{}, fmt.Errorf("mount configfs: %w", err)
	}
	dir := filepath.Join(Mountpoint, subsystem)
	if _, err := os.Stat(dir); err != nil {
		return Tree{}, fmt.Errorf("configfs: %s: its module is not loaded: %w", subsystem, err)
	}
	return Tree{dir: dir}, nil
}

// At returns a tree for dir, which may be a plain directory in tests.
func At(dir string) Tree { return Tree{dir: dir} }

// Path of what lies below the tree.
func (t Tree) Path(elements ...string) string {
	return filepath.Join(append([]string{t.dir}, elements...)...)
}

// Sub is the tree at one of its directories.
func (t Tree) Sub(elements ...string) Tree { return Tree{dir: t.Path(elements...)} }

// Make makes an object, with those above it; one that is there is none to complain of.
func (t Tree) Make(path string) error {
	if err := os.MkdirAll(t.Path(path), 0o755); err != nil {
		return fmt.Errorf("configfs: make %s: %w", path, err)
	}
	return nil
}

// Set writes an attribute. The value never stands in the error: it may be a key.
func (t Tree) Set(path, value string) error {
	f, err := os.OpenFile(t.Path(path), os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("configfs: set %s: %w", path, err)
	}
	_, err = f.WriteString(value)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("configfs: set %s: %w", path, err)
	}
	return nil
}

// SetAll writes attributes one after another, in this order: name, value, name, value ….
func (t Tree) SetAll(pairs ...string) error {
	for i := 0; i+1 < len(pairs); i += 2 {
		if err := t.Set(pairs[i], pairs[i+1]); err != nil {
			return err
		}
	}
	return nil
}

// Get reads an attribute.
func (t Tree) Get(path string) (string, error) {
	b, err := os.ReadFile(t.Path(path))
	if err != nil {
		return "", fmt.Errorf("configfs: get %s: %w", path, err)
	}
	return strings.TrimRight(string(b), "\n"), nil
}

// Link binds object to place, which is a new entry in a group of another object. A link that is there already is none to
// complain of.
func (t Tree) Link(object, place string) error {
	err := os.Symlink(t.Path(object), t.Path(place))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("configfs: link %s to %s: %w", object, place, err)
	}
	return nil
}

// Unlink takes a link away; one that is not there is none to complain of.
func (t Tree) Unlink(place string) error {
	if err := os.Remove(t.Path(place)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("configfs: unlink %s: %w", place, err)
	}
	return nil
}

// Has tells whether there is something at a path.
func (t Tree) Has(path string) bool {
	_, err := os.Lstat(t.Path(path))
	return err == nil
}

// Names lists a directory.
func (t Tree) Names(path string) ([]string, error) {
	entries, err := os.ReadDir(t.Path(path))
	if err != nil {
		return nil, fmt.Errorf("configfs: list %s: %w", path, err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// Remove takes an object apart: the links in it and below first, then the objects that were made in it, then itself. Groups
// that the kernel made go with what they belong to. What links to it from elsewhere has to be gone.
func (t Tree) Remove(path string) error {
	top := t.Path(path)
	if _, err := os.Lstat(top); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var links, dirs []string
	err := filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.Type()&fs.ModeSymlink != 0:
			links = append(links, p)
		case d.IsDir():
			dirs = append(dirs, p)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("configfs: remove %s: %w", path, err)
	}
	for _, l := range links {
		if err := os.Remove(l); err != nil {
			return fmt.Errorf("configfs: remove %s: %w", path, err)
		}
	}
	for i := len(dirs) - 1; i >= 0; i-- { // the deepest come last
		err := unix.Rmdir(dirs[i])
		if err == nil || errors.Is(err, unix.ENOENT) || i > 0 && errors.Is(err, unix.EPERM) {
			continue // a group of the kernel's own cannot be removed by itself
		}
		return fmt.Errorf("configfs: remove %s: rmdir %s: %w", path, dirs[i], err)
	}
	return nil
}
