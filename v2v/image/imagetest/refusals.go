package imagetest

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"initd/v2v/file"
	"initd/v2v/image"
)

// Damage is a change to a whole image, and the code of the error with which it is refused then; an empty one: it is read. (An alias, so that
// the rows of a table need no names.)
type Damage = struct {
	Name, Code string
	Change     func([]byte)
}

// Refusals opens an image with each damage, and cut at each place: that is never read.
func Refusals(t *testing.T, f image.Format, whole []byte, damages []Damage, cuts ...int) {
	t.Helper()
	for _, d := range damages {
		t.Run(d.Name, func(t *testing.T) {
			b := slices.Clone(whole)
			d.Change(b)
			if _, err := OpenBytes(t, f, b); Code(err) != d.Code {
				t.Errorf("got %q (%v), want %q", Code(err), err, d.Code)
			}
		})
	}
	for _, n := range cuts {
		if _, err := OpenBytes(t, f, whole[:n]); err == nil {
			t.Errorf("cut at %d of %d: it is read", n, len(whole))
		}
	}
}

// Code is the code of an image's error, the text of any other one, and empty without one.
func Code(err error) string {
	var e *image.Error
	if errors.As(err, &e) {
		return e.Code
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// OpenBytes opens an image that is in memory alone.
func OpenBytes(t testing.TB, f image.Format, b []byte) (image.Reader, error) {
	t.Helper()
	return f.Open(t.Context(), Bytes{Label: "disk." + f.Name, Data: b}, image.OpenOptions{})
}

// OpenFile opens an image until the test ends.
func OpenFile(t testing.TB, f image.Format, path string) image.Reader {
	t.Helper()
	src, err := file.Open(path, file.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := f.Open(t.Context(), src, image.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// Written is the image of a disk.
func (w Writing) Written(t testing.TB, d Disk) []byte {
	t.Helper()
	b, err := os.ReadFile(w.Write(t, t.TempDir(), d))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ReadsQemus reads what qemu-img writes of a disk with each of its options. also, if any, is called with each such image.
func (w Writing) ReadsQemus(t *testing.T, d Disk, also func(t *testing.T, option, path string), options ...string) {
	t.Helper()
	raw := filepath.Join(t.TempDir(), "raw")
	d.WriteRaw(t, raw)
	for _, o := range options {
		t.Run(d.Name+" "+o, func(t *testing.T) {
			path := w.path(t.TempDir())
			QemuImg(t, "convert", "-O", w.Qemu, "-o", o, raw, path)
			// Some round the size up; what is there beyond the disk reads as zeros.
			d := d
			if d.Size = VirtualSize(t, w.Qemu, path); d.Size < w.size(t, d) {
				t.Errorf("qemu-img says that the disk has %d bytes", d.Size)
			}
			Reader(t, OpenFile(t, w.Format, path), d, d.Size)
			if also != nil {
				also(t, o, path)
			}
		})
	}
}
