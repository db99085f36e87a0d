package convert

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"

	"initd/v2v/image"
)

// Difference is where two disks differ.
type Difference struct {
	// Offset is the first byte that differs, in bytes of the disk.
	Offset int64
	// What says in which way: content, size, allocation, end (data behind the end of the shorter one).
	What string
	// Sizes are those of the disks, in bytes.
	Sizes [2]int64
}

func (d *Difference) Error() string {
	switch d.What {
	case "size":
		return fmt.Sprintf("the sizes differ, %d and %d bytes", d.Sizes[0], d.Sizes[1])
	case "end":
		return fmt.Sprintf("the sizes differ, %d and %d bytes, and there are data behind the end of the shorter one, at %d", d.Sizes[0], d.Sizes[1], d.Offset)
	case "allocation":
		return fmt.Sprintf("one holds data at %d, and the other has a hole there", d.Offset)
	}
	return fmt.Sprintf("the content differs at %d", d.Offset)
}

// CompareOptions are decisions about a comparison.
type CompareOptions struct {
	// Strict takes different sizes and different allocation for differences, as qemu-img compare -s does.
	Strict bool
	// Progress is told how far the comparison is.
	Progress func(Progress)
}

// Compare reads both disks where either has data. It gives a *Difference for the first place where they differ; behind the shorter one's
// end the longer one has to be zeros.
func Compare(ctx context.Context, a, b image.Reader, opt CompareOptions) error {
	size, sizes := max(a.Size(), b.Size()), [2]int64{a.Size(), b.Size()}
	if opt.Strict {
		if a.Size() != b.Size() {
			return &Difference{Offset: min(a.Size(), b.Size()), What: "size", Sizes: sizes}
		}
		if err := sameAllocation(a, b); err != nil {
			return err
		}
	}
	step := max(chunkSize(nil, a.Info().Unit), chunkSize(nil, b.Info().Unit))
	both := pair{padded{a, size}, padded{b, size}}
	e := &engine{workers: runtime.GOMAXPROCS(0), chunkSize: step, bufs: &stack{size: step}}
	e.inFlight = max(3, min(2*e.workers+2, int(buffers/step/2)))
	e.workers = min(e.workers, e.inFlight)
	e.produce = fromExtents(both, 0, step, nil)
	e.work = func(_ context.Context, c *chunk) error { return both.same(c, e.bufs) }
	e.collect = func(_ context.Context, c *chunk) error {
		if opt.Progress != nil {
			opt.Progress(Progress{Offset: c.end(), Size: size, Data: c.end()})
		}
		return nil
	}
	err := e.run(ctx)
	var d *Difference
	if errors.As(err, &d) && d.Offset >= min(a.Size(), b.Size()) {
		return &Difference{Offset: d.Offset, What: "end", Sizes: sizes}
	}
	return err
}

// padded shows zeros behind a disk's end.
type padded struct {
	image.Reader
	size int64
}

func (p padded) Size() int64 { return p.size }

func (p padded) ReadAt(b []byte, off int64) (int, error) {
	n := len(b)
	if rest := max(0, p.Reader.Size()-off); int64(n) > rest {
		clear(b[rest:])
		b = b[:rest]
	}
	if len(b) > 0 {
		if err := readFull(p.Reader, b, off); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// pair is a reader as far as the producer wants one: its extents are what either has data in.
type pair struct{ a, b padded }

func (p pair) ReadAt([]byte, int64) (int, error) { panic("a pair is read by same") }
func (p pair) Size() int64                       { return p.a.size }
func (p pair) Info() image.Info                  { return image.Info{Size: p.a.size} }
func (p pair) Close() error                      { return nil }

func (p pair) Extents(from int64) iter.Seq2[image.Extent, error] {
	return func(yield func(image.Extent, error) bool) {
		nextA, stopA := iter.Pull2(dataOf(p.a.Reader, from))
		defer stopA()
		nextB, stopB := iter.Pull2(dataOf(p.b.Reader, from))
		defer stopB()
		ea, erra, oka := nextA()
		eb, errb, okb := nextB()
		at := from
		for oka || okb {
			if err := errors.Join(erra, errb); err != nil {
				yield(image.Extent{}, err)
				return
			}
			// The one that begins first is given, without what was given before.
			var e image.Extent
			if oka && (!okb || ea.Offset <= eb.Offset) {
				e = ea
				ea, erra, oka = nextA()
			} else {
				e = eb
				eb, errb, okb = nextB()
			}
			start := max(e.Offset, at)
			if start >= e.End() {
				continue
			}
			at = e.End()
			if !yield(image.Extent{Offset: start, Length: at - start, Kind: image.Data, Place: -1}, nil) {
				return
			}
		}
		if err := errors.Join(erra, errb); err != nil {
			yield(image.Extent{}, err)
		}
	}
}

func dataOf(r image.Reader, from int64) iter.Seq2[image.Extent, error] {
	return func(yield func(image.Extent, error) bool) {
		if from >= r.Size() {
			return
		}
		for e, err := range r.Extents(from) {
			if (err != nil || e.Stored()) && !yield(e, err) {
				return
			}
		}
	}
}

// same compares a chunk of both. The buffer of encoded bytes is the second one's.
func (p pair) same(c *chunk, bufs *stack) error {
	if c.gap {
		return nil
	}
	bufs.room(c)
	if int64(cap(c.enc)) < bufs.size {
		c.enc = aligned(bufs.size)
	}
	other := c.enc[:c.length]
	if err := readFull(p.a, c.buf, c.off); err != nil {
		return err
	}
	if err := readFull(p.b, other, c.off); err != nil {
		return err
	}
	if bytes.Equal(c.buf, other) {
		return nil
	}
	for i := range other {
		if c.buf[i] != other[i] {
			return &Difference{Offset: c.off + int64(i), What: "content"}
		}
	}
	return nil
}

// sameAllocation compares where both have data.
func sameAllocation(a, b image.Reader) error {
	nextB, stop := iter.Pull2(b.Extents(0))
	defer stop()
	eb, err, ok := nextB()
	for ea, erra := range a.Extents(0) {
		if erra != nil {
			return erra
		}
		for at := ea.Offset; at < ea.End(); {
			for ok && err == nil && eb.End() <= at {
				eb, err, ok = nextB()
			}
			if err != nil {
				return err
			}
			if !ok {
				return fmt.Errorf("a map ended before the disk, at %d", at)
			}
			if (ea.Kind == image.Hole) != (eb.Kind == image.Hole) {
				return &Difference{Offset: at, What: "allocation"}
			}
			at = min(ea.End(), eb.End())
		}
	}
	return nil
}
