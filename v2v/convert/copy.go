package convert

import (
	"bytes"
	"context"
	"io"
	"runtime"
	"slices"

	"initd/v2v/image"
)

const (
	// smallChunk is how much goes through the pipeline at once, in bytes, where no unit is larger.
	smallChunk = 1 << 20
	// buffers bounds what all chunks together hold, in bytes.
	buffers = 96 << 20
	// hole is the least that is left out as zeros inside of data, in bytes, aligned; qemu-img's -S has the same default.
	hole = 4096
	// deviceHole is that on a device, where zeroing is a request of its own and writing zeros is not slower below it.
	deviceHole = 128 << 10
	// ZeroPiece is how much of a device is zeroed at once, in bytes, before a copy looks whether it is to end.
	ZeroPiece = 256 << 20
)

// CopyOptions are decisions about a copy. The zero value copies all, as fast as it goes.
type CopyOptions struct {
	// Workers is how many goroutines decode and encode; 0 is one a core, and twice as many where they write too.
	Workers int
	// Plain is the image's file. Data that lie there as they are, by the reader's map, are read from it and not through the reader; nil asks
	// the reader for all. It must be the same bytes that the reader has.
	Plain io.ReaderAt
	// Rate limits how much data are read, in bytes per second; 0 is no limit.
	Rate int64
	// Digest computes the digest of the disk's content on the way.
	Digest bool
	// Progress is told, in order and from one goroutine, how far the copy is.
	Progress func(Progress)
	// From is where an earlier run ended, in bytes, Sum its digest's state, and Tail the mark's.
	From int64
	Sum  []byte
	Tail []ChunkSum
	// Save is called now and then with what a later run needs; nil saves nothing. Every is how much lies between, in bytes of the disk.
	Save  func(Mark) error
	Every int64
}

// Mark is a place up to which all is stored durably.
type Mark struct {
	// Offset is the place, in bytes of the disk.
	Offset int64
	// Writer is what Format.Resume needs, Sum the digest's state (CopyOptions.Sum).
	Writer, Sum []byte
	// Tail are digests of the last chunks with data before Offset, so that a later run can see that they are there.
	Tail []ChunkSum
}

// ChunkSum is the digest of a range of the disk.
type ChunkSum struct {
	Offset, Length int64
	SHA256         []byte
}

// Progress says how far a copy is.
type Progress struct {
	// Offset is how much of the disk is done, Size all of it, Data how much of that was data, in bytes.
	Offset, Size, Data int64
}

// Result is what a copy did.
type Result struct {
	// Size is the virtual size, Data what was read as data, Zeros how much of that was found to be zeros, in bytes.
	Size, Data, Zeros int64
	// Written is what was handed to the writer, in bytes of stored form.
	Written int64
	// Digest identifies the disk's content, if it was asked for: SHA-256 over offset, length and SHA-256 of each MiB that is not all zeros.
	Digest []byte
}

// Copy copies a disk from a reader to a writer that was created with its size, and does not finish it. A nil writer only reads.
func Copy(ctx context.Context, r image.Reader, w image.Writer, opt CopyOptions) (Result, error) {
	size := chunkSize(w, r.Info().Unit)
	c := newCopier(r.Size(), w, opt)
	if c.sum != nil && opt.From > 0 {
		if err := c.sum.restore(opt.Sum); err != nil {
			return Result{}, err
		}
	}
	e := c.engine(size)
	e.produce = fromExtents(r, opt.From, size, &limiter{rate: opt.Rate})
	lender, lends := r.(image.Lender)
	e.work = func(ctx context.Context, ch *chunk) error {
		if lends && c.placer != nil && c.sum == nil && !ch.gap && !ch.sparse && (opt.Plain == nil || !ch.plain()) {
			// What was digested has to be what is written: with a digest there is a copy.
			ch.zero = true
			return lender.Lend(ch.off, ch.length, func(p []byte, off int64) error { return c.place(ch, p, off) })
		}
		if !ch.gap {
			e.bufs.room(ch)
			if err := ch.read(r, opt.Plain); err != nil {
				return err
			}
		}
		err := c.work(ctx, ch)
		if c.placer != nil || c.w == nil {
			e.bufs.giveBack(ch)
		}
		return err
	}
	return c.finish(e.run(ctx))
}

// CopyStream does the same with a source that comes once. It cannot begin anywhere but at the beginning.
func CopyStream(ctx context.Context, s image.Streamer, w image.Writer, opt CopyOptions) (Result, error) {
	size := chunkSize(w, s.Info().Unit)
	opt.From, opt.Sum, opt.Tail = 0, nil, nil
	c := newCopier(s.Size(), w, opt)
	e := c.engine(size)
	e.produce = fromStream(s, size, e.bufs, &limiter{rate: opt.Rate})
	e.work = c.work
	return c.finish(e.run(ctx))
}

func chunkSize(w image.Writer, unit int64) int64 {
	size := max(int64(smallChunk), min(unit, 2<<20))
	if w != nil {
		size = max(size, w.Unit())
	}
	return size
}

type copier struct {
	size   int64
	w      image.Writer
	placer image.Placer
	opt    CopyOptions
	result Result
	sum    *sum
	tail   []ChunkSum
	saved  int64
}

func newCopier(size int64, w image.Writer, opt CopyOptions) *copier {
	c := &copier{size: size, w: w, opt: opt, saved: opt.From, tail: slices.Clone(opt.Tail)}
	c.placer, _ = w.(image.Placer)
	if opt.Digest || opt.Save != nil {
		c.sum = newSum()
	}
	return c
}

func (c *copier) engine(size int64) *engine {
	e := &engine{workers: c.opt.Workers, chunkSize: size, collect: c.collect, bufs: &stack{size: size}}
	if e.workers <= 0 {
		e.workers = runtime.GOMAXPROCS(0)
		if c.placer != nil {
			e.workers *= 2
		}
	}
	e.inFlight = max(3, min(2*e.workers+2, int(buffers/size)))
	e.workers = min(e.workers, e.inFlight)
	return e
}

// work is what several goroutines do at once with a chunk that was read.
func (c *copier) work(ctx context.Context, ch *chunk) error {
	if ch.gap {
		if c.placer != nil {
			return c.zeros(ctx, ch.off, ch.length)
		}
		return nil
	}
	ch.zero = image.IsZero(ch.buf)
	if c.sum != nil && !ch.zero {
		ch.sums = blockSums(ch.sums, ch.off, ch.buf)
	}
	switch {
	case c.w == nil:
		return nil
	case c.placer != nil:
		return c.place(ch, ch.buf, ch.off)
	case ch.zero:
		return nil
	}
	return c.encode(ch)
}

// zeros makes a gap read as zeros. On a device that may write all of it, and can take hours: who wants to end it is heard in between.
func (c *copier) zeros(ctx context.Context, off, length int64) error {
	if c.placer.ReadsZero() {
		return c.placer.ZeroAt(off, length)
	}
	for length > 0 {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n := min(length, ZeroPiece)
		if err := c.placer.ZeroAt(off, n); err != nil {
			return err
		}
		off, length = off+n, length-n
	}
	return nil
}

func (c *copier) encode(ch *chunk) error {
	unit := c.w.Unit()
	used := 0
	for at := int64(0); at < ch.length; at += unit {
		data := ch.buf[at:min(at+unit, ch.length)]
		if image.IsZero(data) {
			continue
		}
		if ch.enc == nil {
			ch.enc = make([]byte, 0, 4096)
		}
		e, err := c.w.Encode(ch.enc[used:used:cap(ch.enc)], ch.off+at, data)
		if err != nil {
			return err
		}
		if !e.Plain {
			if used+len(e.Bytes) > cap(ch.enc) {
				// It was appended elsewhere, because the room was too small: there is enough for the next ones.
				ch.enc, used = make([]byte, 0, 2*cap(ch.buf)), 0
			} else {
				used += len(e.Bytes)
			}
		}
		ch.units = append(ch.units, e)
		ch.wrote += int64(len(e.Bytes))
	}
	return nil
}

// place writes what is no zeros to its place: data of a chunk that begin at off.
func (c *copier) place(ch *chunk, p []byte, off int64) error {
	least := int64(hole)
	if !c.placer.ReadsZero() {
		least = deviceHole
	}
	return runs(p, least, func(from, to int64, zero bool) error {
		if zero {
			return c.placer.ZeroAt(off+from, to-from)
		}
		ch.zero = false
		ch.wrote += to - from
		_, err := c.placer.WriteAt(p[from:to], off+from)
		return err
	})
}

// runs splits a buffer into runs of zeros (whole multiples of hole, at least least bytes long, or all of the buffer) and the rest.
func runs(p []byte, least int64, yield func(from, to int64, zero bool) error) error {
	n := int64(len(p))
	var data int64 // where the data that were not given yet begin
	for at := int64(0); at < n; {
		end := at
		for end < n && image.IsZero(p[end:min(end+hole, n)]) {
			end = min(end+hole, n)
		}
		if end == at {
			at += hole
			continue
		}
		if end-at >= least || end-at == n {
			if at > data {
				if err := yield(data, at, false); err != nil {
					return err
				}
			}
			if err := yield(at, end, true); err != nil {
				return err
			}
			data = end
		}
		at = end
	}
	if data < n {
		return yield(data, n, false)
	}
	return nil
}

// collect is called in the order of the disk.
func (c *copier) collect(_ context.Context, ch *chunk) error {
	if len(ch.units) > 0 {
		if err := c.w.Put(ch.units); err != nil {
			return err
		}
	}
	if !ch.gap {
		c.result.Data += ch.length
		if ch.zero {
			c.result.Zeros += ch.length
		}
	}
	c.result.Written += ch.wrote
	if c.sum != nil && !ch.zero {
		c.sum.add(ch.sums)
		c.remember(ch)
	}
	if c.opt.Progress != nil {
		c.opt.Progress(Progress{Offset: ch.end(), Size: c.size, Data: c.result.Data})
	}
	if c.opt.Save != nil && ch.end()-c.saved >= c.opt.Every && ch.end() < c.size {
		return c.save(ch.end())
	}
	return nil
}

func (c *copier) remember(ch *chunk) {
	if c.opt.Save == nil {
		return
	}
	const most = 4
	for _, b := range ch.sums {
		if len(c.tail) == most {
			c.tail = append(c.tail[:0], c.tail[1:]...)
		}
		c.tail = append(c.tail, ChunkSum{b.off, b.length, bytes.Clone(b.digest[:])})
	}
}

func (c *copier) save(offset int64) error {
	w, ok := c.w.(image.Checkpointer)
	if !ok {
		return nil
	}
	state, err := w.Checkpoint()
	if err != nil {
		return err
	}
	sum, err := c.sum.state()
	if err != nil {
		return err
	}
	c.saved = offset
	return c.opt.Save(Mark{Offset: offset, Writer: state, Sum: sum, Tail: c.tail})
}

func (c *copier) finish(err error) (Result, error) {
	c.result.Size = c.size
	if c.sum != nil {
		c.result.Digest = c.sum.digest()
	}
	return c.result, err
}
