package imagetest

import (
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

// Check fails unless qemu-img finds an image whole. Exit status 63 is a format that it cannot check.
func Check(t testing.TB, format, path string) {
	t.Helper()
	if out, code := TryQemuImg(t, "check", "-f", format, path); code != 0 && code != 63 {
		t.Errorf("qemu-img check says %d: %s", code, out)
	}
}
