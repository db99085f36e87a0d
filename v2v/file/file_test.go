package file

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"initd/tests/tree"
	"initd/v2v/image"
)

func TestNothingHasTheFinalNameBeforeCommit(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "disk.vmdk")
	write(t, path, "the old one")
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	dst := create(t, path, CreateOptions{})
	put(t, dst, "the new one")
	sib, err := dst.Sibling("disk-s001.vmdk")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sib.WriteAt([]byte("more"), 0); err != nil {
		t.Fatal(err)
	}
	if got := read(t, path); got != "the old one" {
		t.Errorf("before Commit the name shows %q", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "disk-s001.vmdk")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the further file is there before Commit: %v", err)
	}
	if err := dst.Commit(); err != nil {
		t.Fatal(err)
	}
	tree.Dir(dir).Has(t, "disk-s001.vmdk", "disk.vmdk")
	if got := read(t, path); got != "the new one" {
		t.Errorf("after Commit the name shows %q", got)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the mode of what was replaced is lost: %v %v", info.Mode(), err)
	}
}

func TestAbortLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	dst := create(t, filepath.Join(dir, "d"), CreateOptions{})
	put(t, dst, "half")
	if _, err := dst.Sibling("d-flat"); err != nil {
		t.Fatal(err)
	}
	dst.Abort()
	tree.Dir(dir).Has(t)
}

func TestALinkStaysAndItsFileIsReplaced(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "real"), "old")
	link := filepath.Join(dir, "link")
	if err := os.Symlink("real", link); err != nil {
		t.Fatal(err)
	}
	dst := create(t, link, CreateOptions{})
	put(t, dst, "new")
	if err := dst.Commit(); err != nil {
		t.Fatal(err)
	}
	if to, err := os.Readlink(link); err != nil || to != "real" {
		t.Errorf("the link leads to %q, %v", to, err)
	}
	if got := read(t, filepath.Join(dir, "real")); got != "new" {
		t.Errorf("its file has %q", got)
	}
}

func TestWhatAKilledRunLeftIsTakenAwayUnlessResumed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "d.vmdk")
	leave := func() {
		dst := create(t, path, CreateOptions{})
		put(t, dst, "half")
		if _, err := dst.Sibling("d-s001.vmdk"); err != nil {
			t.Fatal(err)
		}
		write(t, StatePath(path), "{}")
		dst.Keep() // closes, as a kill does
	}
	leave()
	again := create(t, path, CreateOptions{Resume: true})
	if !again.Resumed() {
		t.Error("the unfinished file was not found")
	}
	again.Keep()
	clean := create(t, path, CreateOptions{})
	if clean.Resumed() {
		t.Error("resumed without being asked")
	}
	tree.Dir(dir).Has(t, filepath.Base(PartPath(path)))
	clean.Abort()
	tree.Dir(dir).Has(t)
}

func TestTwoAtOnceAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	dst := create(t, path, CreateOptions{})
	defer dst.Abort()
	if _, err := Create(path, CreateOptions{}); !errors.Is(err, ErrBusy) {
		t.Errorf("got %v, want ErrBusy", err)
	}
}

func TestALongNameHasRoomForItsParts(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("n", 250))
	dst := create(t, path, CreateOptions{})
	put(t, dst, "x")
	if err := dst.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, path); got != "x" {
		t.Errorf("got %q", got)
	}
}

func TestSiblingsOutsideAreRefused(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "secret"), "s")
	img := filepath.Join(dir, "images")
	if err := os.Mkdir(img, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(img, "disk.vmdk"), "d")
	write(t, filepath.Join(img, "disk-flat.vmdk"), "f")
	for link, to := range map[string]string{"abs": filepath.Join(dir, "secret"), "up": "../secret", "same": "disk-flat.vmdk"} {
		if err := os.Symlink(to, filepath.Join(img, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(img, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	src, err := Open(filepath.Join(img, "disk.vmdk"), OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	for _, tc := range []struct {
		name, sibling string
		refused       bool
	}{
		{"one beside it is opened", "disk-flat.vmdk", false},
		{"an absolute name", filepath.Join(dir, "secret"), true},
		{"a name above", "../secret", true},
		{"a name that goes down and up", "x/../../secret", true},
		{"an absolute link", "abs", true},
		{"a link upwards", "up", true},
		{"a link even to one beside it", "same", true},
		{"a FIFO", "fifo", true},
		{"the directory", ".", true},
		{"no name", "", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sib, err := src.Sibling(tc.sibling)
			var e *image.Error
			if tc.refused && (!errors.As(err, &e) || e.Fault != image.Refused) {
				t.Errorf("got %v, want a refusal", err)
			}
			if !tc.refused && err != nil {
				t.Error(err)
			}
			if sib != nil {
				sib.Close()
			}
		})
	}
	alone, err := Open(filepath.Join(img, "disk.vmdk"), OpenOptions{NoSiblings: true})
	if err != nil {
		t.Fatal(err)
	}
	defer alone.Close()
	if _, err := alone.Sibling("disk-flat.vmdk"); err == nil {
		t.Error("a file that came alone opened another one")
	}
}

func TestAnImageThatAVirtualMachineWritesIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	write(t, path, "d")
	vm, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	if err := unix.FcntlFlock(vm.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK, Start: qemuPermWrite, Len: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, OpenOptions{}); !errors.Is(err, ErrInUse) {
		t.Errorf("as a source: got %v, want ErrInUse", err)
	}
	if src, err := Open(path, OpenOptions{Shared: true}); err != nil {
		t.Errorf("shared: %v", err)
	} else {
		src.Close()
	}
	if _, err := Create(path, CreateOptions{}); !errors.Is(err, ErrInUse) {
		t.Errorf("as a target: got %v, want ErrInUse", err)
	}
}

func TestZeroPunchesOrWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	dst := create(t, path, CreateOptions{})
	put(t, dst, strings.Repeat("x", 20000))
	f, err := dst.Main()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Zero(100, 15000); err != nil {
		t.Fatal(err)
	}
	if err := dst.Commit(); err != nil {
		t.Fatal(err)
	}
	want := strings.Repeat("x", 100) + strings.Repeat("\x00", 15000) + strings.Repeat("x", 4900)
	if read(t, path) != want {
		t.Error("other bytes than those asked for are zeros")
	}
}

func create(t *testing.T, path string, opt CreateOptions) *Target {
	t.Helper()
	dst, err := Create(path, opt)
	if err != nil {
		t.Fatal(err)
	}
	return dst
}

func put(t *testing.T, dst *Target, s string) {
	t.Helper()
	f, err := dst.Main()
	if err == nil {
		_, err = f.WriteAt([]byte(s), 0)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, s string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A device ends where it ends: what passes its end is told as that, and nothing of it is written.
func TestWhatPassesTheEndOfADevice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "device")
	write(t, path, strings.Repeat("x", 1<<20))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	h := &handle{f: f, name: path, block: true, size: 1 << 20}
	defer h.close()
	_, werr := h.WriteAt(make([]byte, 8192), 1<<20-4096)
	for what, err := range map[string]error{"write": werr, "zero": h.Zero(1<<20-4096, 8192), "size": h.Truncate(1<<20 + 1)} {
		var e *image.Error
		if !errors.As(err, &e) || e.Code != "device-too-small" {
			t.Errorf("%s: %v", what, err)
		}
	}
	if got := read(t, path); got != strings.Repeat("x", 1<<20) {
		t.Error("something was written")
	}
}

func TestCharacterDevicesTakeNoDisk(t *testing.T) {
	if _, err := Create("/dev/random", CreateOptions{}); err == nil || !strings.Contains(err.Error(), "is a character device") {
		t.Errorf("got %v", err)
	}
	dst, err := Create("/dev/null", CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dst.Abort()
}

// /dev/stdout leads to what is open, which may have no name.
func TestANameOfAnOpenPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	dst, err := Create(filepath.Join("/proc/self/fd", strconv.Itoa(int(w.Fd()))), CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if dst.Seekable() {
		t.Error("a pipe is taken for a file")
	}
	dst.Abort()
}
