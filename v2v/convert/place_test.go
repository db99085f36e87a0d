package convert

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"initd/tests/tree"
	"initd/v2v/file"
	"initd/v2v/image"
	"initd/v2v/image/imagetest"
)

// device takes what a copy does to a disk that holds anything before.
type device struct {
	image.Placer
	mu     sync.Mutex
	zeroed []span
	wrote  []span
	first  func() // called by the first ZeroAt
	ended  bool
}

func (d *device) Unit() int64     { return 1 << 20 }
func (d *device) ReadsZero() bool { return false }

func (d *device) ZeroAt(off, length int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return errors.New("zeroed after the end")
	}
	if len(d.zeroed) == 0 && d.first != nil {
		d.first()
	}
	d.zeroed = append(d.zeroed, span{off, length, -1})
	return nil
}

func (d *device) Finish() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = true
	return nil
}

func (d *device) WriteAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wrote = append(d.wrote, span{off, int64(len(p)), -1})
	return len(p), nil
}

// small is a disk that begins with data.
type small struct {
	data []byte
	size int64
}

func (s small) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(s.data).ReadAt(p, off)
}
func (s small) Size() int64      { return s.size }
func (s small) Info() image.Info { return image.Info{Size: s.size} }
func (s small) Close() error     { return nil }

func (s small) Extents(from int64) iter.Seq2[image.Extent, error] {
	return func(yield func(image.Extent, error) bool) {
		n := int64(len(s.data))
		if from < n && !yield(image.Extent{Offset: from, Length: n - from, Kind: image.Data, Place: -1}, nil) {
			return
		}
		if n < s.size {
			yield(image.Extent{Offset: n, Length: s.size - n, Place: -1}, nil)
		}
	}
}

// Zeroing a gap of a large device may take hours.
func TestWhoEndsACopyIsHeardInTheMiddleOfAGap(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	d := &device{first: func() { cancel(stop) }}
	_, err := Copy(ctx, small{size: 1 << 40}, d, CopyOptions{})
	if !errors.Is(err, stop) {
		t.Errorf("got %v, want %v", err, stop)
	}
	if diff := cmp.Diff([]span{{0, ZeroPiece, -1}}, d.zeroed, cmp.AllowUnexported(span{})); diff != "" {
		t.Errorf("zeroed (-want +got):\n%s", diff)
	}
}

func TestAGapOfADeviceIsZeroedWhole(t *testing.T) {
	d := &device{}
	if _, err := Copy(t.Context(), small{size: 2*ZeroPiece + 512}, d, CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]span{{0, ZeroPiece, -1}, {ZeroPiece, ZeroPiece, -1}, {2 * ZeroPiece, 512, -1}}, d.zeroed, cmp.AllowUnexported(span{})); diff != "" {
		t.Errorf("zeroed (-want +got):\n%s", diff)
	}
}

// A format that rounds the size up shows what a device held there before.
func TestWhatTheFormatAddsToADiskIsZeroed(t *testing.T) {
	d := &device{}
	j := &job{Request: Request{Report: func(Event) {}}, dst: new(file.Target), reader: small{bytes.Repeat([]byte{7}, 1024), 1024}, writer: d, size: 1024, written: 4096}
	if err := j.copy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]span{{1024, 3072, -1}}, d.zeroed, cmp.AllowUnexported(span{})); diff != "" {
		t.Errorf("zeroed (-want +got):\n%s", diff)
	}
}

// A request to zero 4 KiB costs a device more than 4 KiB of zeros among other data.
func TestFewZerosAmongDataAreWrittenToADevice(t *testing.T) {
	data := bytes.Repeat([]byte{7}, 1<<20)
	clear(data[300<<10 : 304<<10])
	clear(data[512<<10 : 768<<10])
	d := &device{}
	if _, err := Copy(t.Context(), small{data, 1 << 20}, d, CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]span{{0, 512 << 10, -1}, {768 << 10, 256 << 10, -1}}, d.wrote, cmp.AllowUnexported(span{})); diff != "" {
		t.Errorf("written (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]span{{512 << 10, 256 << 10, -1}}, d.zeroed, cmp.AllowUnexported(span{})); diff != "" {
		t.Errorf("zeroed (-want +got):\n%s", diff)
	}
}

// marked is a device that can be gone on with.
type marked struct{ *device }

func (marked) Checkpoint() ([]byte, error) { return nil, nil }

// What a later run compares with must not be nothing, because zeros came last.
func TestAMarkBehindZerosKeepsTheLastData(t *testing.T) {
	data := make([]byte, 4<<20)
	copy(data, bytes.Repeat([]byte{7}, 1<<20))
	var marks []Mark
	opt := CopyOptions{Every: 1 << 20, Save: func(m Mark) error { marks = append(marks, m); return nil }}
	if _, err := Copy(t.Context(), small{data, 4 << 20}, marked{&device{}}, opt); err != nil {
		t.Fatal(err)
	}
	if len(marks) != 3 || len(marks[0].Tail) != 1 {
		t.Fatalf("got %+v", marks)
	}
	first := marks[0]
	marks = nil
	opt.From, opt.Sum, opt.Tail = first.Offset, first.Sum, first.Tail
	if _, err := Copy(t.Context(), small{data, 4 << 20}, marked{&device{}}, opt); err != nil {
		t.Fatal(err)
	}
	if len(marks) != 2 || cmp.Diff(first.Tail, marks[1].Tail) != "" {
		t.Errorf("after the resumption: got %+v", marks)
	}
}

// What an earlier run wrote behind its last mark may be of a source that has changed without a trace since, as a block device does.
func TestWhatLiesBehindTheMarkIsNotTrusted(t *testing.T) {
	for _, tc := range []struct {
		name, format string
		options      []string
		part         string // what holds the data, as a suffix of the unfinished file's name
	}{
		{"raw", "raw", nil, ""},
		{"a fixed VHD", "vpc", []string{"subformat=fixed"}, ""},
		{"a static VDI", "vdi", []string{"subformat=static"}, ""},
		{"a flat VMDK", "vmdk", []string{"subformat=monolithicFlat"}, ".dst-flat.vmdk"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			src, dst := filepath.Join(t.TempDir(), "src"), filepath.Join(t.TempDir(), "dst")
			testDisk().WriteRaw(t, src)
			req := Request{Source: src, SourceFormat: "raw", Target: dst, TargetFormat: tc.format, Options: tc.options, Resume: true, Workers: 1}
			unfinished(t, req)
			spoil(t, file.PartPath(dst)+tc.part, 16<<20, 4<<20)
			if out := mustRun(t, req); out.Resumed == 0 {
				t.Error("it began again")
			}
			imagetest.Compare(t, "raw", src, tc.format, dst)
		})
	}
}

// spoil writes over a range of a file.
func spoil(t *testing.T, path string, off, length int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte{0x5a}, int(length)), off); err != nil {
		t.Fatal(err)
	}
}

func TestALostFileOfAnUnfinishedImageBeginsAgain(t *testing.T) {
	src, dst := filepath.Join(t.TempDir(), "src"), filepath.Join(t.TempDir(), "dst")
	testDisk().WriteRaw(t, src)
	for _, tc := range []struct{ subformat, part string }{{"monolithicFlat", "dst-flat.vmdk"}, {"twoGbMaxExtentFlat", "dst-f001.vmdk"}, {"twoGbMaxExtentSparse", "dst-s001.vmdk"}} {
		t.Run(tc.subformat, func(t *testing.T) {
			req := Request{Source: src, SourceFormat: "raw", Target: dst, TargetFormat: "vmdk", Options: []string{"subformat=" + tc.subformat}, Resume: true, Workers: 1}
			unfinished(t, req)
			if err := os.Remove(file.PartPath(dst) + "." + tc.part); err != nil {
				t.Fatal(err)
			}
			if out := mustRun(t, req); out.Resumed != 0 {
				t.Errorf("it went on at %d", out.Resumed)
			}
			imagetest.Compare(t, "raw", src, "vmdk", dst)
			if err := os.Remove(dst); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A run that goes on behind the mark would not find what is wrong before it, nor mend it.
func TestWhatReadsBackOtherThanItWasWrittenIsNotGoneOnWith(t *testing.T) {
	dir := t.TempDir()
	src, dst := filepath.Join(t.TempDir(), "src"), filepath.Join(dir, "dst")
	testDisk().WriteRaw(t, src)
	req := Request{Source: src, SourceFormat: "raw", Target: dst, TargetFormat: "raw", Resume: true, SaveEvery: 1 << 20, Verify: true}
	req.Report = func(e Event) {
		if e.Phase == "copy" && e.Offset == e.Size {
			spoil(t, file.PartPath(dst), 1<<20, 1<<20)
		}
	}
	_, err := Run(t.Context(), req)
	var wrong *VerifyError
	if !errors.As(err, &wrong) {
		t.Fatalf("got %v, want a VerifyError", err)
	}
	tree.Dir(dir).Has(t)
	req.Report, req.Verify = nil, false
	if out := mustRun(t, req); out.Resumed != 0 {
		t.Errorf("it went on at %d", out.Resumed)
	}
	imagetest.Compare(t, "raw", src, "raw", dst)
}

// huge is a disk with more data than any file system has room for.
type huge struct{ image.Reader }

func (h huge) Size() int64 { return 1 << 55 }

func (h huge) Extents(int64) iter.Seq2[image.Extent, error] {
	return func(yield func(image.Extent, error) bool) {
		yield(image.Extent{Length: h.Size(), Kind: image.Data, Place: -1}, nil)
	}
}

func TestWhatIsUnfinishedOutlastsAWantOfRoom(t *testing.T) {
	src, dst := filepath.Join(t.TempDir(), "src"), filepath.Join(t.TempDir(), "dst")
	testDisk().WriteRaw(t, src)
	req := Request{Source: src, SourceFormat: "raw", Target: dst, TargetFormat: "raw", Resume: true, Workers: 1}
	unfinished(t, req)
	full := req
	full.Open = func(ctx context.Context, s *file.Source, format string, opt image.OpenOptions) (image.Reader, error) {
		r, err := openDirect(ctx, s, format, opt)
		return huge{r}, err
	}
	_, err := Run(t.Context(), full)
	if e, ok := errors.AsType[*image.Error](err); !ok || e.Code != "no-space" {
		t.Fatalf("got %v", err)
	}
	if out := mustRun(t, req); out.Resumed == 0 {
		t.Error("it began again")
	}
	imagetest.Compare(t, "raw", src, "raw", dst)
}

// What looks at the end of its file cannot lie on a device, and what is not written from front to back cannot go to a pipe: that is said before either is opened.
func TestWhatHasNoPlaceOnADeviceOrInAPipe(t *testing.T) {
	for _, tc := range []struct {
		format       string
		options      []string
		device, pipe bool
	}{
		{"raw", nil, true, true},
		{"qcow2", nil, true, false},
		{"vhdx", nil, true, false},
		{"vdi", []string{"static=on"}, true, false},
		{"vpc", nil, false, false},
		{"vpc", []string{"subformat=fixed"}, false, false},
		{"vmdk", nil, true, false},
		{"vmdk", []string{"subformat=streamOptimized"}, false, true},
	} {
		j := &job{Request: Request{Source: "a", Target: "b", TargetFormat: tc.format, Options: tc.options}}
		if err := j.check(); err != nil {
			t.Fatal(err)
		}
		if err := j.fits(fs.ModeDevice); (err == nil) != tc.device {
			t.Errorf("%s %v on a device: %v", tc.format, tc.options, err)
		}
		if err := j.fits(fs.ModeNamedPipe); (err == nil) != tc.pipe {
			t.Errorf("%s %v to a pipe: %v", tc.format, tc.options, err)
		}
	}
}
