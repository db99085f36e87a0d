package imagetest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"testing"

	"initd/v2v/image"
)

// Field is a number in a header or a table that is written wrong in every way.
type Field struct {
	Name   string
	Offset int64
	Bytes  int // 1, 2, 4 or 8
	Order  binary.ByteOrder
}

// Bytes is a Source out of memory.
type Bytes struct {
	Label string
	Data  []byte
}

var _ image.Source = Bytes{}

func (b Bytes) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	if off >= int64(len(b.Data)) {
		return 0, io.EOF
	}
	n := copy(p, b.Data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (b Bytes) Size() int64  { return int64(len(b.Data)) }
func (b Bytes) Name() string { return b.Label }
func (b Bytes) Close() error { return nil }
func (b Bytes) Sibling(name string) (image.Source, error) {
	return nil, &image.Error{Fault: image.Refused, Code: "sibling-alone", Image: b.Label, What: fmt.Sprintf("names a further file, %q", name)}
}

// Mutations sets each field of a whole image to 0, to its maximum, and to one more and one less, cuts the image at each given place, and
// reads what still opens. Nothing may panic, and no image of that size may cost more than limit bytes of memory.
func Mutations(t *testing.T, f image.Format, whole []byte, fields []Field, cuts []int64, limit uint64) {
	t.Helper()
	for _, fld := range fields {
		was := getUint(whole[fld.Offset:], fld)
		for _, v := range []uint64{0, 1<<(8*fld.Bytes) - 1, was + 1, was - 1, 1 << (8*fld.Bytes - 1), was << 1} {
			if fld.Bytes == 8 && v == 0 {
				v = ^uint64(0)
			}
			mutant := append([]byte(nil), whole...)
			putUint(mutant[fld.Offset:], fld, v)
			Hostile(t, fmt.Sprintf("%s=%#x", fld.Name, v), f, mutant, limit)
		}
		if fld.Bytes == 8 {
			mutant := append([]byte(nil), whole...)
			putUint(mutant[fld.Offset:], fld, 0)
			Hostile(t, fld.Name+"=0", f, mutant, limit)
		}
	}
	for _, cut := range cuts {
		for _, n := range []int64{cut - 1, cut, cut + 1, cut + 511, cut + 512} {
			if n >= 0 && n <= int64(len(whole)) {
				Hostile(t, fmt.Sprintf("cut at %d", n), f, whole[:n], limit)
			}
		}
	}
}

// Hostile opens bytes that nobody vouches for and reads what there is of them, as a fuzz target does.
func Hostile(t testing.TB, name string, f image.Format, data []byte, limit uint64) {
	t.Helper()
	var before, after runtime.MemStats
	if limit > 0 {
		runtime.ReadMemStats(&before)
	}
	defer func() {
		t.Helper()
		if p := recover(); p != nil {
			t.Errorf("%s: panic: %v", name, p)
			panic(p)
		}
		if limit > 0 {
			runtime.ReadMemStats(&after)
			if used := after.TotalAlloc - before.TotalAlloc; used > limit {
				t.Errorf("%s: %d bytes were allocated for an image of %d, at most %d should be", name, used, len(data), limit)
			}
		}
	}()
	r, err := f.Open(t.Context(), Bytes{Label: "hostile", Data: data}, image.OpenOptions{Counts: true})
	if err != nil {
		if r != nil {
			t.Errorf("%s: both a reader and %v", name, err)
		}
		return
	}
	defer r.Close()
	if r.Size() < 0 || r.Size()%S != 0 {
		t.Errorf("%s: the virtual size is %d", name, r.Size())
	}
	buf := make([]byte, 256<<10)
	at, n := int64(0), 0
	for e, err := range r.Extents(0) {
		if err != nil {
			break
		}
		if e.Offset != at || e.Length <= 0 {
			t.Errorf("%s: extent %d+%d after %d", name, e.Offset, e.Length, at)
			return
		}
		at = e.End()
		if n++; n > 1000 {
			return
		}
		// The ends of each extent are enough to reach every path.
		if _, err := r.ReadAt(buf[:min(int64(len(buf)), e.Length)], e.Offset); err != nil && !errors.Is(err, io.EOF) {
			continue
		}
		if _, err := r.ReadAt(buf[:min(int64(len(buf)), e.Length)], e.End()-min(int64(len(buf)), e.Length)); err != nil {
			continue
		}
	}
}

func getUint(b []byte, f Field) uint64 {
	switch f.Bytes {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(f.Order.Uint16(b))
	case 4:
		return uint64(f.Order.Uint32(b))
	}
	return f.Order.Uint64(b)
}

func putUint(b []byte, f Field, v uint64) {
	switch f.Bytes {
	case 1:
		b[0] = byte(v)
	case 2:
		f.Order.PutUint16(b, uint16(v))
	case 4:
		f.Order.PutUint32(b, uint32(v))
	default:
		f.Order.PutUint64(b, v)
	}
}
