package sandbox

import (
	"context"
	"fmt"
	"io"
	"iter"
	"sync"

	"initd/v2v/image"
)

// Open reads an image in a child. The reader can be used like any other; its errors are those of the format, and those of Code….
// The child ends with Close, with ctx, and with this process.
// The source belongs to the reader once there is one.
func Open(ctx context.Context, src Source, opt Options) (image.Reader, error) {
	p, err := start(src.File(), src.Name(), src, opt)
	if err != nil {
		return nil, err
	}
	d, err := p.opening(ctx, opOpen, src.Size())
	if err != nil {
		p.close()
		return nil, err
	}
	r := &reader{process: p, d: d, stop: context.AfterFunc(ctx, func() { p.end(context.Cause(ctx)) })}
	return r, nil
}

type reader struct {
	*process
	d    description
	stop func() bool
}

func (r *reader) Size() int64      { return r.d.Size }
func (r *reader) Info() image.Info { return r.d.Info }

func (r *reader) Close() error {
	r.stop()
	r.close()
	return r.src.Close()
}

// PID is the child's, for people and tests.
func (r *reader) PID() int { return r.child.PID() }

// ReadAt asks for at most a slot at a time, for several at once.
func (r *reader) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read %s at %d: a negative offset", r.name, off)
	}
	if off >= r.d.Size {
		return 0, io.EOF
	}
	end := error(nil)
	if int64(len(b)) > r.d.Size-off {
		b, end = b[:r.d.Size-off], io.EOF
	}
	if first := SlotSize - int(off%SlotSize); len(b) <= first {
		n, err := r.piece(b, off)
		if err == nil {
			err = end
		}
		return n, err
	}
	var all sync.WaitGroup
	failed := make(chan error, 1) // the first
	for at := 0; at < len(b); {
		n := min(SlotSize-int((off+int64(at))%SlotSize), len(b)-at)
		part, from := b[at:at+n], off+int64(at)
		all.Go(func() {
			if _, err := r.piece(part, from); err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
		at += n
	}
	all.Wait()
	select {
	case err := <-failed:
		return 0, err
	default:
		return len(b), end
	}
}

func (r *reader) piece(b []byte, off int64) (n int, err error) {
	if len(b) == 0 {
		return 0, nil
	}
	err = r.lend(off, int64(len(b)), func(p []byte, _ int64) error {
		n = copy(b, p)
		return nil
	})
	return n, err
}

// Lend gives what is shared with the child, which could change it at any time.
func (r *reader) Lend(off, length int64, use func(p []byte, off int64) error) error {
	for length > 0 {
		n := min(SlotSize-off%SlotSize, length)
		if err := r.lend(off, n, use); err != nil {
			return err
		}
		off, length = off+n, length-n
	}
	return nil
}

// lend is for a range that fits a slot.
func (r *reader) lend(off, length int64, use func(p []byte, off int64) error) error {
	reply, slot, done, err := r.ask(context.Background(), message{op: opRead, off: off, n: length})
	if err != nil {
		return err
	}
	defer done()
	if reply.n != length {
		return protocol(r.name, fmt.Sprintf("%d bytes instead of %d", reply.n, length))
	}
	return use(slot[:length:length], off)
}

// Extents asks for a page at a time, and hands on only what is in order and within bounds.
func (r *reader) Extents(from int64) iter.Seq2[image.Extent, error] {
	return func(yield func(image.Extent, error) bool) {
		for at := from; at < r.d.Size; {
			page, err := r.page(at)
			if err != nil {
				yield(image.Extent{}, err)
				return
			}
			for _, e := range page {
				if !yield(e, nil) {
					return
				}
				at = e.End()
			}
		}
	}
}

func (r *reader) page(at int64) ([]image.Extent, error) {
	reply, slot, done, err := r.ask(context.Background(), message{op: opExtents, off: at})
	if err != nil {
		return nil, err
	}
	defer done()
	if reply.n < 1 || reply.n > extentsPage {
		return nil, protocol(r.name, fmt.Sprintf("a map of %d extents", reply.n))
	}
	page := make([]image.Extent, reply.n)
	for i := range page {
		e := getExtent(slot[i*extentSize:])
		if e.Offset != at || e.Length <= 0 || e.Length > r.d.Size-at || e.Kind > image.Data || e.File > len(r.d.Info.Files) || e.Place < -1 {
			return nil, protocol(r.name, fmt.Sprintf("a map whose extents are not in order at %d", at))
		}
		page[i], at = e, e.End()
	}
	return page, nil
}

// Call asks a further question about a file (Roles.Calls).
func Call(ctx context.Context, src Source, opt Options, name string, input []byte) ([]byte, error) {
	p, err := start(src.File(), src.Name(), src, opt)
	if err != nil {
		return nil, err
	}
	defer p.close()
	return p.callOnce(ctx, name, input)
}
