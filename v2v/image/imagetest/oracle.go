package imagetest

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
)

// QemuImg runs qemu-img and gives its output. A machine without it cannot run these tests.
func QemuImg(t testing.TB, args ...string) string {
	t.Helper()
	out, code := TryQemuImg(t, args...)
	if code != 0 {
		t.Fatalf("qemu-img %s: exit status %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// TryQemuImg gives output and exit status.
func TryQemuImg(t testing.TB, args ...string) (string, int) {
	t.Helper()
	return run(t, "qemu-img", args...)
}

// QemuIO runs qemu-io.
func QemuIO(t testing.TB, args ...string) string {
	t.Helper()
	out, code := run(t, "qemu-io", args...)
	if code != 0 {
		t.Fatalf("qemu-io %s: exit status %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

func run(t testing.TB, program string, args ...string) (string, int) {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%s is missing: install the Debian package qemu-utils", program)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatalf("%s: %v", program, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// Compare fails unless qemu-img finds two images the same in content and in size. -s is not used: besides the size it compares what is
// allocated, which differs between a sparse raw file and clusters of 64 KiB. What -s adds of worth is the size (without it a longer tail of
// zeros passes), and that is asked of qemu-img info.
func Compare(t testing.TB, formatA, a, formatB, b string) {
	t.Helper()
	if out, code := TryQemuImg(t, "compare", "-f", formatA, "-F", formatB, a, b); code != 0 {
		t.Errorf("qemu-img compare says %d: %s", code, out)
	}
	if x, y := VirtualSize(t, formatA, a), VirtualSize(t, formatB, b); x != y {
		t.Errorf("qemu-img info: %s has %d bytes, %s has %d", a, x, b, y)
	}
}

// VirtualSize is what qemu-img takes for an image's virtual size, in bytes.
func VirtualSize(t testing.TB, format, path string) int64 {
	t.Helper()
	var info struct {
		VirtualSize int64 `json:"virtual-size"`
	}
	if err := json.Unmarshal([]byte(QemuImg(t, "info", "-f", format, "--output=json", path)), &info); err != nil {
		t.Fatalf("qemu-img info: %v", err)
	}
	return info.VirtualSize
}

// SevenZip writes a disk and fails unless 7-Zip, which shares nothing with qemu-img, finds it in the image. kind is its word for the format.
func (w Writing) SevenZip(t *testing.T, kind string, d Disk) {
	t.Helper()
	prog, err := exec.LookPath("7zz")
	if err != nil {
		t.Fatal("7zz is missing: install the Debian package 7zip")
	}
	want := make([]byte, d.Size)
	_, _ = d.ReadAt(want, 0)
	cmd := exec.CommandContext(t.Context(), prog, "e", "-t"+kind, "-so", w.Write(t, t.TempDir(), d))
	cmd.Dir = t.TempDir()
	if got, err := cmd.Output(); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v: 7zz reads %d bytes, other than the %d that were written: %v", w.Options, len(got), len(want), err)
	}
}

// Check fails unless qemu-img finds an image whole. Exit status 63 is a format that it cannot check.
func Check(t testing.TB, format, path string) {
	t.Helper()
	if out, code := TryQemuImg(t, "check", "-f", format, path); code != 0 && code != 63 {
		t.Errorf("qemu-img check says %d: %s", code, out)
	}
}
