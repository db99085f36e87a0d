// Package tree makes file trees for tests: in memory, as the kernel's file systems look, and on disk.
//
// It knows no kernel and no format: what is in a tree is the test's. It is for tests only.
package tree

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

// File is a file that can be read.
func File(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text), Mode: 0o444} }

// Link is a symbolic link.
func Link(to string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte(to), Mode: fs.ModeSymlink | 0o777}
}

// Dir is a folder on disk.
type Dir string

// New is an empty folder until the test ends.
func New(t testing.TB) Dir {
	t.Helper()
	return Dir(t.TempDir())
}

// Write makes a file of a text, with its folders.
func (d Dir) Write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(d.place(t, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Attr makes a file of one line, as attributes of the kernel are.
func (d Dir) Attr(t testing.TB, name, text string) {
	t.Helper()
	d.Write(t, name, text+"\n")
}

// Link makes a symbolic link, with its folders.
func (d Dir) Link(t testing.TB, name, to string) {
	t.Helper()
	if err := os.Symlink(to, d.place(t, name)); err != nil {
		t.Fatal(err)
	}
}

// Copy writes a tree that is in memory.
func (d Dir) Copy(t testing.TB, from fstest.MapFS) {
	t.Helper()
	for name, file := range from {
		if file.Mode&fs.ModeSymlink != 0 {
			d.Link(t, name, string(file.Data))
		} else {
			d.Write(t, name, string(file.Data))
		}
	}
}

func (d Dir) place(t testing.TB, name string) string {
	t.Helper()
	at := filepath.Join(string(d), name)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		t.Fatal(err)
	}
	return at
}

// Has fails unless the folder has these names, in order, and no others.
func (d Dir) Has(t testing.TB, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(string(d))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("the folder has %q, want %q", got, want)
	}
}
