package initramfs

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

	"initd/images/cpio"
	"initd/images/debian"
)

// node is one file of the image to be.
type node struct {
	path         string // absolute, merged (debian.Merged)
	mode         fs.FileMode
	owner, group string // by name
	target       string
	size         int64
	disk         string // regular files: where the bytes are,
	content      []byte // or the bytes themselves
	major, minor uint32
	by, from     string
	// given marks what the user placed there by name: nothing replaces it, and no package's script changes it.
	given bool
}

// tree holds nodes by path. Folders that nobody asked for are left to the archive.
type tree map[string]*node

// put adds n. What is there already stays: files of the user come first, then packages in order.
func (t tree) put(n *node) bool {
	n.path = debian.Merged(n.path)
	if t[n.path] != nil {
		return false
	}
	t[n.path] = n
	return true
}

func (t tree) paths() []string { return slices.Sorted(maps.Keys(t)) }

func (t tree) dir(p string, mode fs.FileMode, by string) {
	t.put(&node{path: p, mode: fs.ModeDir | mode, owner: "root", group: "root", by: by, from: "made"})
}

func (t tree) link(p, target, by string) {
	t.put(&node{path: p, mode: fs.ModeSymlink | 0o777, owner: "root", group: "root", target: target, by: by, from: "made"})
}

func (t tree) text(p, content string, mode fs.FileMode, by string) {
	t.put(&node{path: p, mode: mode, owner: "root", group: "root", content: []byte(content), size: int64(len(content)), by: by, from: "made"})
}

// resolve follows the links of the tree from name, which need not be there, as the kernel would. ok is false for loops.
func (t tree) resolve(name string) (string, bool) {
	todo := strings.Split(strings.Trim(debian.Merged(name), "/"), "/")
	done := "/"
	for links := 0; len(todo) > 0; {
		element := todo[0]
		todo = todo[1:]
		switch element {
		case "", ".":
			continue
		case "..":
			done = path.Dir(done)
			continue
		}
		next := debian.Merged(path.Join(done, element))
		n := t[next]
		if n == nil || n.mode.Type() != fs.ModeSymlink {
			done = next
			continue
		}
		if links++; links > 40 {
			return "", false
		}
		if path.IsAbs(n.target) {
			done = "/"
		}
		todo = append(strings.Split(n.target, "/"), todo...)
	}
	return done, true
}

// open returns the bytes of a regular node.
func (n *node) open() (io.ReadCloser, error) {
	if n.disk == "" {
		return io.NopCloser(bytes.NewReader(n.content)), nil
	}
	return os.Open(n.disk)
}

// entry is the node as the archive wants it, with numbers for names.
func (b *builder) entry(n *node) (cpio.Entry, error) {
	uid, gid, err := b.accounts.ids(n.owner, n.group)
	if err != nil {
		return cpio.Entry{}, fmt.Errorf("%s (from %s): %w", n.path, n.from, err)
	}
	e := cpio.Entry{Path: n.path, Mode: n.mode, UID: uid, GID: gid, Target: n.target, Major: n.major, Minor: n.minor}
	if n.mode.IsRegular() {
		e.Size, e.Open = n.size, n.open
	}
	return e, nil
}

func kindName(m fs.FileMode) string {
	switch m.Type() {
	case 0:
		return "file"
	case fs.ModeDir:
		return "folder"
	case fs.ModeSymlink:
		return "link"
	}
	return "device"
}

// octal is a mode's permissions as chmod takes them.
func octal(m fs.FileMode) uint32 {
	v := uint32(m.Perm())
	for _, b := range []struct {
		mode fs.FileMode
		bit  uint32
	}{{fs.ModeSetuid, 0o4000}, {fs.ModeSetgid, 0o2000}, {fs.ModeSticky, 0o1000}} {
		if m&b.mode != 0 {
			v |= b.bit
		}
	}
	return v
}
