package imagetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"initd/v2v/image"
)

// Reader holds a reader against what its disk is known to hold: extents cover it from any offset without gap or overlap, what is no data
// reads as zeros, reads of any range agree with each other and with the disk, also at the same time, and the end is told as io.ReaderAt says.
func Reader(t *testing.T, r image.Reader, want io.ReaderAt, size int64) {
	t.Helper()
	if r.Size() != size {
		t.Fatalf("the virtual size is %d, want %d", r.Size(), size)
	}
	if info := r.Info(); info.Size != size || info.Format == "" || info.Unit&(info.Unit-1) != 0 {
		t.Errorf("info has size %d, format %q, unit %d", info.Size, info.Format, info.Unit)
	}
	extents := allExtents(t, r, 0)
	if err := covers(extents, 0, size); err != nil {
		t.Fatal(err)
	}
	checkContent(t, r, want, extents)
	checkEnd(t, r, size)
	g := rand.New(rand.NewPCG(7, uint64(size)))
	for range 20 {
		if size == 0 {
			break
		}
		from := g.Int64N(size) / S * S
		part := allExtents(t, r, from)
		if err := covers(part, from, size); err != nil {
			t.Errorf("extents from %d: %v", from, err)
		}
		if a, b := kindAt(extents, from), kindAt(part, from); a != b {
			t.Errorf("at %d extents from the start say %v, extents from there %v", from, a, b)
		}
	}
	for range r.Extents(0) {
		break // a consumer may stop at any time
	}
	randomReads(t, r, want, extents, size)
}

// MaxExtents bounds how many extents a test collects.
const maxExtents = 1 << 20

func allExtents(t *testing.T, r image.Reader, from int64) []image.Extent {
	t.Helper()
	var all []image.Extent
	for e, err := range r.Extents(from) {
		if err != nil {
			t.Fatalf("extents from %d: %v", from, err)
		}
		if all = append(all, e); len(all) > maxExtents {
			t.Fatalf("more than %d extents from %d", maxExtents, from)
		}
	}
	return all
}

func covers(extents []image.Extent, from, size int64) error {
	at := from
	for i, e := range extents {
		if e.Offset != at {
			return fmt.Errorf("extent %d begins at %d, and the last one ended at %d", i, e.Offset, at)
		}
		if e.Length <= 0 || e.Offset%S != 0 || e.Length%S != 0 {
			return fmt.Errorf("extent %d (%d+%d) is no whole number of sectors", i, e.Offset, e.Length)
		}
		if e.Kind > image.Data {
			return fmt.Errorf("extent %d has the kind %d", i, e.Kind)
		}
		at = e.End()
	}
	if at != size {
		return fmt.Errorf("the extents end at %d, and the disk has %d bytes", at, size)
	}
	return nil
}

func kindAt(extents []image.Extent, off int64) image.Kind {
	for _, e := range extents {
		if off < e.End() {
			return e.Kind
		}
	}
	return 255
}

// checkContent compares all data, and of holes their ends: a hole of a TiB is not read through.
func checkContent(t *testing.T, r image.Reader, want io.ReaderAt, extents []image.Extent) {
	t.Helper()
	const most = 256 << 10
	for _, e := range extents {
		for at := e.Offset; at < e.End(); at += most {
			if e.Kind != image.Data && e.Length > 64*most && at == e.Offset+most {
				at = (e.End() - most) / S * S
			}
			if err := same(r, want, at, min(most, e.End()-at), e.Kind != image.Data); err != nil {
				t.Fatalf("extent %d+%d (%v): %v", e.Offset, e.Length, e.Kind, err)
			}
		}
	}
}

func same(r image.Reader, want io.ReaderAt, off, n int64, zeros bool) error {
	got, exp := bytes.Repeat([]byte{0xee}, int(n)), make([]byte, n)
	if k, err := r.ReadAt(got, off); k != len(got) || (err != nil && !(errors.Is(err, io.EOF) && off+n == r.Size())) {
		return fmt.Errorf("read %d bytes at %d: got %d, %v", n, off, k, err)
	}
	if _, err := want.ReadAt(exp, off); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if !bytes.Equal(got, exp) {
		for i := range got {
			if got[i] != exp[i] {
				return fmt.Errorf("the byte at %d is %#x, want %#x", off+int64(i), got[i], exp[i])
			}
		}
	}
	if zeros && !image.IsZero(got) {
		return fmt.Errorf("%d+%d is no data, and does not read as zeros", off, n)
	}
	return nil
}

func checkEnd(t *testing.T, r image.Reader, size int64) {
	t.Helper()
	buf := make([]byte, 2*S)
	if n, err := r.ReadAt(buf, size); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("a read at the end gives %d, %v; want 0, EOF", n, err)
	}
	if n, err := r.ReadAt(buf, size+1<<40); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("a read far past the end gives %d, %v; want 0, EOF", n, err)
	}
	if _, err := r.ReadAt(buf, -1); err == nil {
		t.Error("a read at -1 succeeds")
	}
	if size >= S {
		if n, err := r.ReadAt(buf, size-S); n != S || !errors.Is(err, io.EOF) {
			t.Errorf("a read over the end gives %d, %v; want %d, EOF", n, err, S)
		}
		if n, err := r.ReadAt(buf[:S], size-S); n != S || (err != nil && !errors.Is(err, io.EOF)) {
			t.Errorf("a read up to the end gives %d, %v", n, err)
		}
	}
	if n, err := r.ReadAt(nil, 0); n != 0 || (err != nil && !errors.Is(err, io.EOF)) {
		t.Errorf("a read of nothing gives %d, %v", n, err)
	}
}

// randomReads reads from several goroutines at the same time: under -race it finds what is shared.
func randomReads(t *testing.T, r image.Reader, want io.ReaderAt, extents []image.Extent, size int64) {
	t.Helper()
	if size == 0 {
		return
	}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			g := rand.New(rand.NewPCG(uint64(w), uint64(size)))
			for range 25 {
				// Near the ends of extents is where readers go wrong.
				e := extents[g.IntN(len(extents))]
				off := max(0, min(size-1, e.Offset+g.Int64N(64<<10)-32<<10))
				if g.IntN(2) == 0 {
					off = g.Int64N(size)
				}
				n := min(size-off, 1+g.Int64N(200<<10))
				if err := same(r, want, off, n, false); err != nil {
					t.Errorf("random read: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
}
