// Package convert copies virtual disks: from any reader to any writer, with what a machine's cores and disks give, in bounded memory.
//
// It owns the pipeline (reading ahead, decoding and encoding in parallel, writing in order), digests and verification, what a run that was ended
// leaves for the next one, and the checks before anything is written. It knows no format.
package convert

import (
	"context"
	"sync"

	"initd/v2v/image"
)

// chunk is a piece of the disk on its way through the pipeline. Chunks are reused.
type chunk struct {
	off, length int64
	gap         bool // reads as zeros, and nothing was read
	sparse      bool // only parts hold data
	parts       []span

	buf   []byte
	enc   []byte // what Encode appends to
	units []image.Encoded
	zero  bool
	sums  []blockSum
	wrote int64
	err   error
	done  chan struct{}
}

// span is a range of data, and where it lies in the image's file; -1 if that is not known.
type span struct{ off, length, place int64 }

func (c *chunk) end() int64 { return c.off + c.length }

// engine runs chunks through three stages: produce makes them in order, work is called for several at once, collect in order again.
type engine struct {
	workers   int
	inFlight  int
	chunkSize int64
	bufs      *stack
	produce   func(ctx context.Context, next func() (*chunk, error), emit func(*chunk) error) error
	work      func(ctx context.Context, c *chunk) error
	collect   func(ctx context.Context, c *chunk) error
}

// run ends when all is collected, or with the first error in the order of the disk. Nothing of it runs on after it has returned.
func (e *engine) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if e.bufs == nil {
		e.bufs = &stack{size: e.chunkSize}
	}
	free := make(chan *chunk, e.inFlight)
	work := make(chan *chunk, e.inFlight)
	order := make(chan *chunk, e.inFlight)
	for range e.inFlight {
		free <- &chunk{done: make(chan struct{}, 1)}
	}
	var wg sync.WaitGroup
	for range e.workers {
		wg.Go(func() {
			for c := range work {
				if c.err = context.Cause(ctx); c.err == nil {
					c.err = e.work(ctx, c)
				}
				c.done <- struct{}{}
			}
		})
	}
	var produced error
	wg.Go(func() {
		defer close(order)
		defer close(work)
		produced = e.produce(ctx, func() (*chunk, error) {
			select {
			case c := <-free:
				c.gap, c.sparse, c.zero, c.parts, c.units, c.wrote, c.err = false, false, false, c.parts[:0], c.units[:0], 0, nil
				c.sums = c.sums[:0]
				return c, nil
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}, func(c *chunk) error {
			// Both have room: there are no more chunks than that.
			work <- c
			order <- c
			return nil
		})
	})
	var failed error
	for c := range order {
		<-c.done
		if failed == nil {
			if failed = c.err; failed == nil {
				failed = e.collect(ctx, c)
			}
			if failed != nil {
				cancel(failed)
			}
		}
		e.bufs.giveBack(c)
		free <- c
	}
	wg.Wait()
	if failed == nil {
		failed = produced
	}
	return failed
}

// stack lends buffers of one size. The one that was given back last is lent first: it is still in the processor's cache.
type stack struct {
	mu   sync.Mutex
	size int64
	free [][]byte
}

// room gives a chunk a buffer of its range's length, unless it has one.
func (s *stack) room(c *chunk) {
	if c.buf == nil {
		s.mu.Lock()
		if n := len(s.free); n > 0 {
			c.buf, s.free = s.free[n-1], s.free[:n-1]
		}
		s.mu.Unlock()
	}
	if c.buf == nil {
		c.buf = aligned(s.size)
	}
	c.buf = c.buf[:c.length]
}

// giveBack takes a chunk's buffer.
func (s *stack) giveBack(c *chunk) {
	if c.buf == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, c.buf[:s.size])
	c.buf = nil
}
