package convert

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"unsafe"

	"initd/v2v/image"
)

// fromExtents makes chunks out of a map of the disk: those that hold data, and the gaps between them.
func fromExtents(r image.Reader, from, chunkSize int64, limit *limiter) func(context.Context, func() (*chunk, error), func(*chunk) error) error {
	return func(ctx context.Context, next func() (*chunk, error), emit func(*chunk) error) error {
		p := &producer{ctx: ctx, next: next, emit: emit, size: r.Size(), chunkSize: chunkSize, at: from, limit: limit}
		for e, err := range r.Extents(from) {
			if err != nil {
				return err
			}
			if !e.Stored() {
				continue
			}
			if err := p.data(e.Offset, e.End(), placeOf(e)); err != nil {
				return err
			}
		}
		return p.close()
	}
}

// producer gathers ranges of data, which come in order, into chunks.
type producer struct {
	ctx       context.Context
	next      func() (*chunk, error)
	emit      func(*chunk) error
	size      int64
	chunkSize int64
	at        int64 // the end of what was emitted
	open      *chunk
	bufs      *stack
	limit     *limiter
}

// placeOf is where an extent's data lie in the image's file; -1 where they have to be asked from the reader.
func placeOf(e image.Extent) int64 {
	if e.Compressed || e.File != 0 {
		return -1
	}
	return e.Place
}

func (p *producer) data(from, to, place int64) error {
	for from < to {
		start := from / p.chunkSize * p.chunkSize
		if p.open == nil || p.open.off != start {
			if err := p.begin(start); err != nil {
				return err
			}
		}
		stop := min(to, p.open.end())
		p.open.parts = append(p.open.parts, span{from, stop - from, place})
		if place >= 0 {
			place += stop - from
		}
		from = stop
	}
	return nil
}

// begin closes the open chunk, emits the gap before the next one, and opens that.
func (p *producer) begin(start int64) error {
	if err := p.flush(); err != nil {
		return err
	}
	start = max(start, p.at)
	if err := p.gap(start); err != nil {
		return err
	}
	c, err := p.next()
	if err != nil {
		return err
	}
	c.off, c.length = start, min(p.size, start/p.chunkSize*p.chunkSize+p.chunkSize)-start
	p.open = c
	return nil
}

func (p *producer) gap(to int64) error {
	if to <= p.at {
		return nil
	}
	c, err := p.next()
	if err != nil {
		return err
	}
	c.off, c.length, c.gap, c.zero = p.at, to-p.at, true, true
	p.at = to
	return p.emit(c)
}

func (p *producer) flush() error {
	if p.open == nil {
		return nil
	}
	c := p.open
	p.open = nil
	p.at = c.end()
	var data int64
	for _, s := range c.parts {
		data += s.length
	}
	// Small islands are read one by one; otherwise the whole chunk is, whose holes the reader fills in.
	c.sparse = data < c.length/2 && len(c.parts) <= 64
	if err := p.limit.wait(p.ctx, data); err != nil {
		return err
	}
	return p.emit(c)
}

func (p *producer) close() error {
	if err := p.flush(); err != nil {
		return err
	}
	return p.gap(p.size)
}

// read fills a chunk's buffer. Plain is the image's file, where it is known: what lies there as it is needs no reader, and is not copied
// out of another process. The map says where, and nobody vouches for it: a place outside the file is the reader's to judge.
func (c *chunk) read(r image.Reader, plain io.ReaderAt) error {
	if plain != nil && c.readPlain(plain) {
		return nil
	}
	if !c.sparse {
		return readFull(r, c.buf, c.off)
	}
	at := c.off
	for _, s := range c.parts {
		clear(c.buf[at-c.off : s.off-c.off])
		at = s.off + s.length
		if err := readFull(r, c.buf[s.off-c.off:at-c.off], s.off); err != nil {
			return err
		}
	}
	clear(c.buf[at-c.off:])
	return nil
}

// plain says whether all data of a chunk lie plainly in the file, by the map.
func (c *chunk) plain() bool {
	return !slices.ContainsFunc(c.parts, func(s span) bool { return s.place < 0 })
}

// readPlain says whether all data of a chunk lie plainly in the file, and were read.
func (c *chunk) readPlain(plain io.ReaderAt) bool {
	if !c.plain() {
		return false
	}
	at := c.off
	for _, s := range c.parts {
		clear(c.buf[at-c.off : s.off-c.off])
		at = s.off + s.length
		if n, _ := plain.ReadAt(c.buf[s.off-c.off:at-c.off], s.place); int64(n) != s.length {
			return false
		}
	}
	clear(c.buf[at-c.off:])
	return true
}

func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	switch {
	case err != nil && !errors.Is(err, io.EOF): // also with a count that says that all is there
		return err
	case n < len(p):
		return fmt.Errorf("read at %d: only %d of %d bytes came", off, n, len(p))
	}
	return nil
}

// piece is what a stream gives at once.
type piece struct {
	off  int64
	data []byte
}

// orDone is what do gives, or the end of ctx: a pipe whose other end falls silent must not hold up a signal. Nobody hears of do any more then.
func orDone[T any](ctx context.Context, do func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	got := make(chan result, 1)
	go func() {
		v, err := do()
		got <- result{v, err}
	}()
	select {
	case r := <-got:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// fromStream makes chunks out of a source that comes once.
func fromStream(s image.Streamer, chunkSize int64, bufs *stack, limit *limiter) func(context.Context, func() (*chunk, error), func(*chunk) error) error {
	return func(ctx context.Context, next func() (*chunk, error), emit func(*chunk) error) error {
		p := &producer{ctx: ctx, next: next, emit: emit, size: s.Size(), chunkSize: chunkSize, bufs: bufs, limit: limit}
		var last int64
		for {
			next, err := orDone(ctx, func() (piece, error) {
				off, data, err := s.Next()
				return piece{off, data}, err
			})
			off, data := next.off, next.data
			if errors.Is(err, io.EOF) {
				return p.close()
			}
			if err != nil {
				return err
			}
			if off < last || off+int64(len(data)) > p.size {
				return fmt.Errorf("a stream gave %d bytes at %d, of %d, after %d", len(data), off, p.size, last)
			}
			last = off + int64(len(data))
			if err := p.bytes(off, data); err != nil {
				return err
			}
		}
	}
}

// bytes copies data that come now into chunks.
func (p *producer) bytes(off int64, data []byte) error {
	for len(data) > 0 {
		start := off / p.chunkSize * p.chunkSize
		if p.open == nil || p.open.off != start {
			if err := p.begin(start); err != nil {
				return err
			}
			p.bufs.room(p.open)
			clear(p.open.buf)
		}
		n := copy(p.open.buf[off-start:], data)
		p.open.parts = append(p.open.parts, span{off, int64(n), -1})
		off, data = off+int64(n), data[n:]
	}
	return nil
}

// aligned gives memory that begins at a page, as O_DIRECT wants it.
func aligned(size int64) []byte {
	page := int64(os.Getpagesize())
	b := make([]byte, size+page)
	skip := (page - int64(uintptr(unsafe.Pointer(&b[0]))%uintptr(page))) % page
	return b[skip : skip+size : skip+size]
}
