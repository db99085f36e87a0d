package convert

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"initd/tests/tree"
	"initd/v2v/file"
	"initd/v2v/image"
	"initd/v2v/image/imagetest"
)

const testSize = 24<<20 + 3*imagetest.S

func testDisk() imagetest.Disk {
	return imagetest.MixedDisk(77, testSize)
}

func mustRun(t *testing.T, req Request) Outcome {
	t.Helper()
	out, err := Run(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRoundTripsKeepEveryByte(t *testing.T) {
	d := testDisk()
	dir := t.TempDir()
	first := filepath.Join(dir, "first.raw")
	d.WriteRaw(t, first)
	for _, tc := range []struct {
		name    string
		format  string
		options []string
	}{
		{"raw", "raw", nil},
		{"qcow2", "qcow2", nil},
		{"qcow2 zlib", "qcow2", []string{"compress=zlib"}},
		{"qcow2 zstd of 2 MiB", "qcow2", []string{"compress=zstd,cluster_size=2M"}},
		{"qcow2 of 512 bytes, zlib", "qcow2", []string{"compress=zlib", "cluster_size=512"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			there, back := filepath.Join(dir, "there"), filepath.Join(dir, "back")
			out := mustRun(t, Request{Source: first, SourceFormat: "raw", Target: there, TargetFormat: tc.format, Options: tc.options, Verify: true})
			if !out.Verified || out.Size != d.Size {
				t.Errorf("outcome: %+v", out)
			}
			imagetest.Compare(t, "raw", first, tc.format, there)
			imagetest.Check(t, tc.format, there)
			mustRun(t, Request{Source: there, SourceFormat: tc.format, Target: back, TargetFormat: "raw", Verify: true})
			imagetest.Compare(t, "raw", first, "raw", back)
			tree.Dir(dir).Has(t, "back", "there")
		})
	}
}

func TestACancelledRunLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(t.TempDir(), "src")
	testDisk().WriteRaw(t, src)
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	_, err := Run(ctx, Request{Source: src, SourceFormat: "raw", Target: filepath.Join(dir, "dst"), TargetFormat: "qcow2", Options: []string{"compress=zlib"},
		Report: func(Event) { cancel(stop) }})
	if !errors.Is(err, stop) {
		t.Errorf("got %v, want %v", err, stop)
	}
	tree.Dir(dir).Has(t)
}

func TestWhatWasBegunIsGoneOnWithOnlyFromTheSameFiles(t *testing.T) {
	for name, change := range map[string]bool{"nothing changed": false, "the extent of a flat VMDK changed": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			raw, src, dst := filepath.Join(dir, "raw"), filepath.Join(dir, "src.vmdk"), filepath.Join(dir, "dst")
			testDisk().WriteRaw(t, raw)
			mustRun(t, Request{Source: raw, SourceFormat: "raw", Target: src, TargetFormat: "vmdk", Options: []string{"subformat=monolithicFlat"}})
			ctx, cancel := context.WithCancelCause(t.Context())
			req := Request{Source: src, SourceFormat: "vmdk", Target: dst, TargetFormat: "raw", Resume: true, SaveEvery: 1 << 20, Workers: 1}
			req.Report = func(e Event) {
				if e.Offset > 8<<20 {
					cancel(errors.New("stop"))
				}
			}
			if _, err := Run(ctx, req); err == nil {
				t.Fatal("it ended before it was stopped")
			}
			if change {
				extent := filepath.Join(dir, "src-flat.vmdk")
				f, err := os.OpenFile(extent, os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				if _, err := f.WriteAt([]byte("changed"), 100); err != nil {
					t.Fatal(err)
				}
				later := time.Now().Add(time.Hour)
				if err := os.Chtimes(extent, later, later); err != nil {
					t.Fatal(err)
				}
			}
			req.Report = nil
			if out := mustRun(t, req); (out.Resumed == 0) != change {
				t.Errorf("it went on at %d", out.Resumed)
			}
			imagetest.Compare(t, "vmdk", src, "raw", dst)
		})
	}
}

func TestAnExistingTargetStaysWholeUntilTheEnd(t *testing.T) {
	dir := t.TempDir()
	src, dst := filepath.Join(t.TempDir(), "src"), filepath.Join(dir, "dst")
	testDisk().WriteRaw(t, src)
	if err := os.WriteFile(dst, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	seen := false
	mustRun(t, Request{Source: src, SourceFormat: "raw", Target: dst, TargetFormat: "qcow2", Verify: true, Report: func(Event) {
		seen = true
		if b, err := os.ReadFile(dst); err != nil || string(b) != "precious" {
			t.Errorf("meanwhile the target has %d bytes, %v", len(b), err)
		}
	}})
	if !seen {
		t.Error("nothing was reported")
	}
	tree.Dir(dir).Has(t, "dst")
}

func TestTheSourceIsNoTarget(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	testDisk().WriteRaw(t, src)
	if err := os.Link(src, filepath.Join(dir, "hard")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("src", filepath.Join(dir, "soft")); err != nil {
		t.Fatal(err)
	}
	for _, dst := range []string{"src", "hard", "soft"} {
		if _, err := Run(t.Context(), Request{Source: src, SourceFormat: "raw", Target: filepath.Join(dir, dst), TargetFormat: "qcow2"}); !errors.Is(err, file.ErrSame) {
			t.Errorf("to %s: got %v, want ErrSame", dst, err)
		}
	}
	tree.Dir(dir).Has(t, "hard", "soft", "src")
}

// failing is a reader whose disk fails at an offset.
type failing struct {
	image.Reader
	at int64
}

var errMedium = errors.New("medium error")

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off <= f.at && f.at < off+int64(len(p)) {
		return 0, errMedium
	}
	return f.Reader.ReadAt(p, off)
}

func TestAReadErrorEndsTheRunAndLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(t.TempDir(), "src")
	testDisk().WriteRaw(t, src)
	_, err := Run(t.Context(), Request{Source: src, SourceFormat: "raw", Target: filepath.Join(dir, "dst"), TargetFormat: "qcow2",
		Open: func(ctx context.Context, s *file.Source, format string, opt image.OpenOptions) (image.Reader, error) {
			r, err := openDirect(ctx, s, format, opt)
			return failing{r, 7<<20 + 100}, err
		}})
	if !errors.Is(err, errMedium) {
		t.Errorf("got %v, want %v", err, errMedium)
	}
	tree.Dir(dir).Has(t)
}

func TestPipes(t *testing.T) {
	d := testDisk()
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	d.WriteRaw(t, src)
	data, err := os.ReadFile(src)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("standard input becomes qcow2", func(t *testing.T) {
		dst := filepath.Join(t.TempDir(), "dst")
		mustRun(t, Request{Source: "-", SourceFormat: "raw", Stdin: io.LimitReader(bytes.NewReader(data), 1<<40), Opening: image.OpenOptions{StreamSize: testSize},
			Target: dst, TargetFormat: "qcow2", Verify: true})
		imagetest.Compare(t, "raw", src, "qcow2", dst)
	})
	t.Run("raw goes to standard output", func(t *testing.T) {
		var out bytes.Buffer
		mustRun(t, Request{Source: src, SourceFormat: "raw", Target: "-", TargetFormat: "raw", Stdout: &out})
		if !bytes.Equal(out.Bytes(), data) {
			t.Errorf("got %d bytes, and not the same as the %d of the source", out.Len(), len(data))
		}
	})
	t.Run("qcow2 cannot", func(t *testing.T) {
		if _, err := Run(t.Context(), Request{Source: src, SourceFormat: "raw", Target: "-", TargetFormat: "qcow2", Stdout: io.Discard}); err == nil {
			t.Error("it went")
		}
	})
}

func TestAnEndIsNotHeldUpByAPipeThatNobodyReads(t *testing.T) {
	dir := t.TempDir()
	src, pipe := filepath.Join(dir, "src"), filepath.Join(dir, "pipe")
	testDisk().WriteRaw(t, src)
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := Run(ctx, Request{Source: src, SourceFormat: "raw", Target: pipe, TargetFormat: "raw"})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want that it ended with its context", err)
	}
	// The one that waits for a reader is let go.
	f, err := os.OpenFile(pipe, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func TestCompare(t *testing.T) {
	dir := t.TempDir()
	d := testDisk()
	raw, q := filepath.Join(dir, "raw"), filepath.Join(dir, "q")
	d.WriteRaw(t, raw)
	mustRun(t, Request{Source: raw, SourceFormat: "raw", Target: q, TargetFormat: "qcow2", Options: []string{"compress=zstd"}})
	open := func(path, format string) image.Reader {
		src, err := file.Open(path, file.OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		r, err := openDirect(t.Context(), src, format, image.OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		return r
	}
	write := func(name string, size, at int64, b byte) string {
		path := filepath.Join(dir, name)
		d.WriteRaw(t, path)
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		if b != 0 {
			if _, err := f.WriteAt([]byte{b}, at); err != nil {
				t.Fatal(err)
			}
		}
		return path
	}
	longer := write("longer", testSize+5<<20, 0, 0)
	behind := write("behind", testSize+5<<20, testSize+4<<20+7, 1)
	var orig [1]byte
	if _, err := d.ReadAt(orig[:], 13<<20+5); err != nil {
		t.Fatal(err)
	}
	other := write("other", testSize, 13<<20+5, orig[0]^0x55)
	for _, tc := range []struct {
		name   string
		a, b   image.Reader
		strict bool
		want   *Difference
	}{
		{"an image and what it was made of", open(raw, "raw"), open(q, "qcow2"), false, nil},
		{"a byte differs", open(q, "qcow2"), open(other, "raw"), false, &Difference{Offset: 13<<20 + 5, What: "content"}},
		{"zeros behind the shorter one are no difference", open(q, "qcow2"), open(longer, "raw"), false, nil},
		{"strictly they are", open(q, "qcow2"), open(longer, "raw"), true, &Difference{testSize, "size", [2]int64{testSize, testSize + 5<<20}}},
		{"data behind the shorter one", open(behind, "raw"), open(q, "qcow2"), false, &Difference{testSize + 4<<20 + 7, "end", [2]int64{testSize + 5<<20, testSize}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := Compare(t.Context(), tc.a, tc.b, CompareOptions{Strict: tc.strict})
			var got *Difference
			errors.As(err, &got)
			switch {
			case tc.want == nil && err != nil:
				t.Errorf("got %v, want them to be the same", err)
			case tc.want != nil && (got == nil || *got != *tc.want):
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}
