package qcow2

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"initd/v2v/image"
	"initd/v2v/image/imagetest"
)

// qemuCounts is what qemu-img check finds.
func qemuCounts(t *testing.T, path string) (low, leaked int64) {
	t.Helper()
	out, err := exec.Command("qemu-img", "check", "--output=json", "-f", "qcow2", path).Output()
	var found struct{ Corruptions, Leaks int64 }
	if jerr := json.Unmarshal(out, &found); jerr != nil {
		t.Fatalf("qemu-img check (package qemu-utils): %v, %v", err, jerr)
	}
	return found.Corruptions, found.Leaks
}

// Counts of every width, in images of QEMU's with plain and compressed clusters; then some are changed by hand, as a writer that was killed or a bug
// leaves them. qemu-img check is asked the same.
func TestCountsAreWhatQemuCounts(t *testing.T) {
	dir := t.TempDir()
	raw := filepath.Join(dir, "raw")
	d := imagetest.MixedDisk(7, 6<<20)
	d.WriteRaw(t, raw)
	for order := range 7 {
		for _, args := range [][]string{nil, {"-c"}, {"-c", "-o", "cluster_size=4k"}} {
			// Streams share clusters, which counts of one or two bits cannot tell.
			if len(args) > 0 && order < 4 {
				continue
			}
			path := filepath.Join(dir, "q")
			all := append([]string{"convert", "-f", "raw", "-O", "qcow2", "-o", "refcount_bits=" + strconv.Itoa(1<<order)}, args...)
			imagetest.QemuImg(t, append(all, raw, path)...)
			t.Run(strconv.Itoa(1<<order)+" bits"+filepath.Join(args...), func(t *testing.T) { countsOf(t, path, order) })
		}
	}
}

func countsOf(t *testing.T, path string, order int) {
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	be := binary.BigEndian
	block := int64(be.Uint64(whole[be.Uint64(whole[48:]):]))
	clusterSize := int64(1) << be.Uint32(whole[20:])
	last := int64(len(whole)-1) / clusterSize
	set := func(b []byte, cluster int64, value uint64) {
		bits := int64(1) << order
		if bits < 8 {
			at, shift := block+cluster*bits/8, cluster*bits%8
			b[at] = b[at]&^byte((1<<bits-1)<<shift) | byte(value<<shift)
			return
		}
		for i := range bits / 8 {
			b[block+cluster*bits/8+i] = byte(value >> (8 * (bits/8 - 1 - i)))
		}
	}
	for _, tc := range []struct {
		name   string
		change func(b []byte) []byte
	}{
		{"whole", func(b []byte) []byte { return b }},
		{"the last cluster is not counted", func(b []byte) []byte { set(b, last, 0); return b }},
		{"the header is not counted", func(b []byte) []byte { set(b, 0, 0); return b }},
		{"three clusters behind the end belong to nobody", func(b []byte) []byte {
			b = append(b[:(last+1)*clusterSize:(last+1)*clusterSize], make([]byte, 3*clusterSize)...)
			for i := range int64(3) {
				set(b, last+1+i, 1)
			}
			return b
		}},
		{"the count of the last cluster is too high for its entry", func(b []byte) []byte { set(b, last, 1<<min(1<<order-1, 3)); return b }},
		{"an entry of L1 does not say that its count is one", func(b []byte) []byte { b[be.Uint64(b[40:])] &^= 0x80; return b }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if (last+4)<<order/8 >= clusterSize {
				t.Fatal("the test's image has more than one block of counts")
			}
			b := make([]byte, (last+1)*clusterSize) // QEMU leaves the last cluster short
			copy(b, whole)
			changed := filepath.Join(t.TempDir(), "q")
			if err := os.WriteFile(changed, tc.change(b), 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := openFile(t, changed, image.OpenOptions{Counts: true})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			low, leaked := qemuCounts(t, changed)
			got := *r.Info().Counts
			// QEMU says a count that is too low once more for the entry that has the flag of a count of one.
			if got.Leaked != leaked || (got.Low+got.Marks > 0) != (low > 0) || low > 2*got.Low+got.Marks || got.Low+got.Marks > low {
				t.Errorf("%d too low, %d contradicted, %d leaked; qemu-img: %d and %d; %v", got.Low, got.Marks, got.Leaked, low, leaked, got.First)
			}
			if got.Not != "" || int64(len(got.First)) != min(got.Low+got.Marks+got.Leaked, maxCountsShown) {
				t.Errorf("described: %q; not compared: %q", got.First, got.Not)
			}
		})
	}
}

// Snapshots refer to clusters too, so that a count may be higher than what the current state uses; it may never be lower.
func TestWithSnapshotsOnlyLeaksAreNotLookedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q")
	imagetest.QemuImg(t, "create", "-q", "-f", "qcow2", path, "1M")
	imagetest.QemuImg(t, "snapshot", "-c", "before", path)
	counts := func() *image.Counts {
		r, err := openFile(t, path, image.OpenOptions{Counts: true, IgnoreSnapshots: true})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		return r.Info().Counts
	}
	if c := counts(); c.Not != "" || c.NotLeaked == "" || c.Leaked != 0 || c.Low != 0 || c.Marks != 0 {
		t.Errorf("counts: %+v", c)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	be := binary.BigEndian
	block := be.Uint64(b[be.Uint64(b[48:]):])
	be.PutUint16(b[block:], 0)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if c := counts(); c.Low != 1 {
		t.Errorf("the header is not counted: %+v", c)
	}
	plain, err := openFile(t, path, image.OpenOptions{IgnoreSnapshots: true})
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if c := plain.Info().Counts; c != nil {
		t.Errorf("nobody asked for counts: %+v", c)
	}
}

// A cluster of zeros whose place lies behind the end of the file is read all the same, as QEMU reads it; check says what qemu-img check says.
func TestAPlaceOfZerosBehindTheEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q")
	imagetest.QemuImg(t, "create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", path, "1M")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	be := binary.BigEndian
	table := be.Uint64(b[be.Uint64(b[40:]):]) & offsetMask
	be.PutUint64(b[table:], copied|zeroFlag|1<<40)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if low, _ := qemuCounts(t, path); low == 0 {
		t.Error("qemu-img check finds nothing")
	}
	r, err := openFile(t, path, image.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	var e *image.Error
	if _, err := openFile(t, path, image.OpenOptions{Counts: true}); !errors.As(err, &e) || e.Code != "qcow2-data-offset" {
		t.Errorf("got %v", err)
	}
}
