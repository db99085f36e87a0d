package imagetest

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"initd/v2v/file"
	"initd/v2v/image"
)

// Writing says what is written, and what it has to read back as.
type Writing struct {
	Format  image.Format
	Options image.Options
	// Name of the file; descriptors name siblings after it. Empty: disk.img.
	Name string
	// Qemu is qemu-img's name of the format, for the other opinion; empty where qemu-img cannot read what is written.
	Qemu string
	// QemuMin is the smallest disk that qemu-img opens, in bytes: it makes some empty images that it does not read.
	QemuMin int64
	// QemuMax is the largest disk that qemu-img is asked about, in bytes; 0 is no bound. It takes minutes for TiBs in small grains.
	QemuMax int64
	// MaxSize leaves out patterns beyond what the format holds; 0 is no bound.
	MaxSize int64
	// Stream writes to what takes bytes in order only, and copies it to a file then.
	Stream bool
}

// Writer writes every pattern and reads it back with the format's own reader and with qemu-img.
func Writer(t *testing.T, w Writing) {
	t.Helper()
	for _, d := range Patterns() {
		if w.MaxSize > 0 && d.Size > w.MaxSize {
			continue
		}
		t.Run(d.Name, func(t *testing.T) {
			dir := t.TempDir()
			path := w.Write(t, dir, d)
			w.ReadBack(t, path, d)
		})
	}
}

func (w Writing) path(dir string) string {
	if w.Name == "" {
		return filepath.Join(dir, "disk.img")
	}
	return filepath.Join(dir, w.Name)
}

// Write makes an image of a disk in a directory and gives its path.
func (w Writing) Write(t testing.TB, dir string, d Disk) string {
	t.Helper()
	path := w.path(dir)
	opt := file.CreateOptions{}
	to := path
	if w.Stream {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		to, opt.Stdout = "-", f
	}
	dst, err := file.Create(to, opt)
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Abort()
	out, err := w.Format.Create(t.Context(), dst, w.size(t, d), w.Options)
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	if err := Feed(out, d, 0, rand.New(rand.NewPCG(3, uint64(d.Size))), nil); err != nil {
		t.Fatal(err)
	}
	if err := out.Finish(); err != nil {
		t.Fatalf("finish: %v", err)
	}
	if err := out.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	if err := dst.Commit(); err != nil {
		t.Fatal(err)
	}
	return path
}

func (w Writing) size(t testing.TB, d Disk) int64 {
	t.Helper()
	size, err := w.Format.Sizes(d.Size, w.Options)
	if err != nil {
		t.Fatalf("size %d: %v", d.Size, err)
	}
	return size
}

// ReadBack opens what was written with the format's own reader, holds it against the disk, and asks qemu-img.
func (w Writing) ReadBack(t *testing.T, path string, d Disk) {
	t.Helper()
	d.Size = w.size(t, d)
	src, err := file.Open(path, file.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := w.Format.Open(t.Context(), src, image.OpenOptions{})
	if err != nil {
		t.Fatalf("open what was written: %v", err)
	}
	Reader(t, r, d, d.Size)
	if err := r.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if w.Qemu != "" && d.Size >= w.QemuMin && (w.QemuMax == 0 || d.Size <= w.QemuMax) {
		raw := filepath.Join(t.TempDir(), "want.raw")
		d.WriteRaw(t, raw)
		Compare(t, "raw", raw, w.Qemu, path)
		Check(t, w.Qemu, path)
	}
}

// Feed puts a disk into a writer from an offset on, in batches of random length, leaving out units of zeros. After each batch it calls
// after (which may be nil) with the offset up to which all was put.
func Feed(out image.Writer, d Disk, from int64, g *rand.Rand, after func(done int64) error) error {
	unit := out.Unit()
	if unit <= 0 || unit&(unit-1) != 0 {
		return fmt.Errorf("the unit is %d, no power of two", unit)
	}
	var batch []image.Encoded
	batchMost := int(max(1, min(32, (4<<20)/unit)))
	most := 1 + g.IntN(batchMost)
	flush := func(done int64) error {
		if err := out.Put(batch); err != nil {
			return fmt.Errorf("put up to %d: %w", done, err)
		}
		batch, most = nil, 1+g.IntN(batchMost)
		if after != nil {
			return after(done)
		}
		return nil
	}
	for _, off := range units(d, unit, from) {
		data := make([]byte, min(unit, d.Size-off))
		if _, err := d.ReadAt(data, off); err != nil && err != io.EOF {
			return err
		}
		if image.IsZero(data) {
			continue
		}
		e, err := out.Encode(nil, off, data)
		if err != nil {
			return fmt.Errorf("encode %d: %w", off, err)
		}
		if e.Offset != off || e.Length != int64(len(data)) {
			return fmt.Errorf("encode of %d+%d gives %d+%d", off, len(data), e.Offset, e.Length)
		}
		if batch = append(batch, e); len(batch) >= most {
			if err := flush(off + e.Length); err != nil {
				return err
			}
		}
	}
	return flush(d.Size)
}

// units lists the units that a disk has data in, from an offset on.
func units(d Disk, unit, from int64) []int64 {
	var at []int64
	next := from / unit * unit
	for _, r := range d.Ranges {
		for off := max(next, r.Off/unit*unit); off < r.Off+r.Len; off += unit {
			at = append(at, off)
			next = off + unit
		}
	}
	return at
}

// Resume writes a disk in as many lives as it has checkpoints: each ends right after a checkpoint, or a few batches after it, without
// Finish and without Close, and the next goes on from the state. What comes out has to be the same disk.
func Resume(t *testing.T, w Writing, d Disk) {
	t.Helper()
	if w.Format.Resume == nil {
		t.Fatal("the format has no Resume")
	}
	dir := t.TempDir()
	size := w.size(t, d)
	g := rand.New(rand.NewPCG(11, 13))
	var state []byte
	var done int64
	for life := 0; ; life++ {
		if life > 10000 {
			t.Fatal("no end after 10,000 lives")
		}
		dst, err := file.Create(w.path(dir), file.CreateOptions{Resume: life > 0})
		if err != nil {
			t.Fatal(err)
		}
		var out image.Writer
		if life == 0 {
			out, err = w.Format.Create(t.Context(), dst, size, w.Options)
		} else {
			out, err = w.Format.Resume(t.Context(), dst, size, w.Options, state)
		}
		if err != nil {
			t.Fatalf("life %d: %v", life, err)
		}
		saved, after := false, g.IntN(3)
		err = Feed(out, d, done, g, func(at int64) error {
			if saved {
				if after--; after < 0 {
					return errKilled
				}
				return nil
			}
			if at == d.Size {
				return nil
			}
			var err error
			if state, err = out.(image.Checkpointer).Checkpoint(); err != nil {
				return err
			}
			saved, done = true, at
			return nil
		})
		if err == errKilled {
			dst.Keep()
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := out.Finish(); err != nil {
			t.Fatal(err)
		}
		if err := dst.Commit(); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d lives", life+1)
		break
	}
	w.ReadBack(t, w.path(dir), d)
}

var errKilled = fmt.Errorf("killed")
