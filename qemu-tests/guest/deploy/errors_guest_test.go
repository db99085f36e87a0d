//go:build guest

package deploy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"initd/hw/dm"
	"initd/tests/tree"
	"initd/v2v/image/imagetest"
)

// below is the disk under the maps of this test: half of it for a source or target that is broken, half for a good one.
const below, half = "/dev/vda", 32 * mib

// stretch is a part of a map, in bytes: linear, error or flakey.
type stretch struct {
	length int
	kind   string
	more   string
}

// remap makes a map of stretches, or changes it, and gives its node.
func remap(t *testing.T, name string, offset int, parts ...stretch) string {
	t.Helper()
	if _, err := dm.Stat(name); err != nil {
		if err := dm.Create(name, "TEST-"+name); err != nil {
			t.Fatal(err)
		}
	}
	var table []dm.Target
	at := 0
	for _, p := range parts {
		line := dm.Target{Start: uint64(at / 512), Length: uint64(p.length / 512), Type: p.kind}
		if p.kind != "error" {
			line.Params = strings.TrimSpace(fmt.Sprintf("%s %d %s", below, (offset+at)/512, p.more))
		}
		table = append(table, line)
		at += p.length
	}
	if err := dm.LoadTargets(name, table...); err != nil {
		t.Fatal(err)
	}
	if err := dm.Resume(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	return dm.Node(name)
}

func sound(length int) stretch { return stretch{length, "linear", ""} }

// broken is a half that can neither be read nor written from one place to another.
func broken(from, to int) []stretch {
	return []stretch{sound(from), {to - from, "error", ""}, sound(half - to)}
}

func fill(t *testing.T, device string, content []byte) {
	t.Helper()
	f, err := os.OpenFile(device, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

// A disk that fails in the middle, where it is written, zeroed or read, says which disk and what; it is not taken for one that went away, nor for a damaged
// image. Nothing unfinished has the target's name. After it was mended a deploy goes on.
func TestDisksThatFail(t *testing.T) {
	dir := t.TempDir()
	raw, qcow2, holes := filepath.Join(dir, "t.raw"), filepath.Join(dir, "t.qcow2"), filepath.Join(dir, "holes.raw")
	image := disk(5)
	if err := os.WriteFile(raw, image, 0o600); err != nil {
		t.Fatal(err)
	}
	v2v(t, "", "convert", "-q", "-f", "raw", "-O", "qcow2", raw, qcow2)
	if err := os.WriteFile(holes, image[:mib], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(holes, size); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out")
	if err := os.Mkdir(out, 0o755); err != nil {
		t.Fatal(err)
	}
	good := remap(t, "good", half, sound(half))
	deploy := func(device string, args ...string) []string {
		return append([]string{"deploy", "--json", "--wait", "3s", "--mark-every", "2M", "--state", filepath.Join(dir, "state"), "--device", device}, args...)
	}

	t.Log("written")
	fill(t, below, bytes.Repeat([]byte("old"), 2*half/3))
	bad := remap(t, "bad", 0, broken(8*mib, 9*mib)...)
	v2v(t, "zero "+bad+" at |write "+bad+" at |make durable what was written to "+bad+": input/output error", "convert", "-q", "-f", "raw", "-O", "raw", raw, bad)
	v2v(t, bad+": is there, and fails again and again", deploy(bad, "--force", "-f", "raw", raw)...)
	remap(t, "bad", 0, sound(half))
	var done struct {
		Resumed  int64
		Verified bool
	}
	text := v2v(t, "", deploy(bad, "-f", "raw", raw)...)
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &done); err != nil || done.Resumed < 2*mib || !done.Verified {
		t.Errorf("after the disk was mended: %+v, %v: %s", done, err, text)
	}
	imagetest.Begins(t, bad, image)

	t.Log("zeroed")
	remap(t, "bad", 0, broken(8*mib, 9*mib)...)
	v2v(t, "zero "+bad+" at ", "convert", "-q", "-f", "raw", "-O", "raw", holes, bad)

	t.Log("read, as it is and by a reader without rights")
	v2v(t, bad+": read 1048576 bytes at 8388608: read "+bad+": input/output error|"+bad+": input/output error", "convert", "-q", "-f", "raw", "-O", "qcow2", bad, filepath.Join(out, "t.qcow2"))
	tree.Dir(out).Has(t)
	v2v(t, bad+": input/output error", deploy(good, "--force", "-f", "raw", bad)...)
	packed, err := os.ReadFile(qcow2)
	if err != nil {
		t.Fatal(err)
	}
	remap(t, "bad", 0, sound(half))
	fill(t, bad, packed)
	remap(t, "bad", 0, broken(4*mib, 5*mib)...)
	v2v(t, "input/output error", "convert", "-q", "-f", "qcow2", "-O", "raw", bad, filepath.Join(out, "t.raw"))
	v2v(t, "input/output error", deploy(good, "--force", "--fresh", "-f", "qcow2", bad)...)
	tree.Dir(out).Has(t)

	t.Log("written and forgotten: only reading back finds that")
	v2v(t, "", "convert", "-q", "--verify", "-f", "raw", "-O", "raw", raw, good)
	fill(t, good, bytes.Repeat([]byte("old"), half/3))
	remap(t, "good", half, stretch{half, "flakey", "0 3600 1 drop_writes"})
	v2v(t, "reads back other than it was written", deploy(good, "--force", "--fresh", "-f", "raw", raw)...)
	v2v(t, "reads back other than it was written", "convert", "-q", "--verify", "-f", "raw", "-O", "raw", raw, good)
	remap(t, "good", half, sound(half))
	v2v(t, "", deploy(good, "--force", "--fresh", "-f", "qcow2", qcow2)...)
	imagetest.Begins(t, good, image)
}

// A file system that is full: said before anything is written where that can be known, and otherwise with nothing left under the target's name, and what was
// there as it was; the same command does it once there is room.
func TestAFileSystemThatIsFull(t *testing.T) {
	dir, small := t.TempDir(), "/mnt/small"
	if err := os.MkdirAll(small, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(small, 0) })
	raw, target := filepath.Join(dir, "t.raw"), filepath.Join(small, "out")
	image := disk(6)
	for path, content := range map[string][]byte{raw: image, target: []byte("somebody's")} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	v2v(t, "bytes are needed, and the file system of "+small+" has", "convert", "-q", "-f", "raw", "-O", "raw", raw, target)
	const full = "no space left on device; free some room there, and run it again"
	for _, into := range [][]string{
		{"-O", "raw", "--no-space-check"}, {"-O", "qcow2", "--no-space-check"}, {"-O", "qcow2", "-o", "compress=zlib"}, {"-O", "vmdk", "-o", "subformat=streamOptimized"},
		{"-O", "vmdk", "-o", "subformat=twoGbMaxExtentFlat", "--no-space-check"}, {"-O", "vpc", "--no-space-check"}, {"-O", "vhdx", "--no-space-check"}, {"-O", "vdi", "--no-space-check"},
	} {
		v2v(t, full, append(append([]string{"convert", "-q", "-f", "raw"}, into...), raw, target)...)
		tree.Dir(small).Has(t, "out")
		imagetest.Begins(t, target, []byte("somebody's"))
	}

	if err := unix.Mount("", small, "", unix.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	v2v(t, "", "convert", "-q", "-f", "raw", "-O", "raw", raw, target)
	tree.Dir(small).Has(t, "out")
	imagetest.Begins(t, target, image)
}
