package initramfs

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"initd/images/cpio"
)

// programs writes stand-ins for init and initd: what they are is no matter here.
func programs(t *testing.T) (init, initd string) {
	t.Helper()
	dir := t.TempDir()
	return put(t, dir, "init", "the program init\n"), put(t, dir, "initd", "the program initd\n")
}

func put(t *testing.T, dir, name, content string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// kernel returns lib/modules/RELEASE of the kernel that the test machines boot.
func kernel(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../../out/cache/kernel/version")
	if err != nil {
		t.Fatalf("%v; run make kernel", err)
	}
	dir, err := filepath.Abs("../../out/cache/kernel/lib/modules/" + strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// packages returns the folder where fetched packages are kept between runs.
func packages(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../out/cache/debs")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// unpack writes the image, lists it with cpio and lets that unpack it.
func unpack(t *testing.T, m *Image) (root string, names []string) {
	t.Helper()
	program, err := exec.LookPath("cpio")
	if err != nil {
		t.Fatal("no cpio: install the package cpio")
	}
	dir := t.TempDir()
	archive := written(t, m, cpio.None)
	list := exec.Command(program, "--quiet", "-t")
	list.Stdin = bytes.NewReader(archive)
	out, err := list.Output()
	if err != nil {
		t.Fatalf("cpio -t: %v", err)
	}
	root = filepath.Join(dir, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	// Device nodes want root, and are no matter here.
	extract := exec.Command(program, "--quiet", "-i", "--no-preserve-owner", "--nonmatching", "dev/*")
	extract.Stdin, extract.Dir = bytes.NewReader(archive), root
	if out, err := extract.CombinedOutput(); err != nil {
		t.Fatalf("cpio -i: %v: %s", err, out)
	}
	return root, strings.Fields(string(out))
}

// entry returns what the explanation says of a path.
func entry(t *testing.T, m *Image, path string) Entry {
	t.Helper()
	for _, f := range m.Files {
		if f.Path == path {
			return f
		}
	}
	t.Fatalf("%s is not in the image", path)
	return Entry{}
}
