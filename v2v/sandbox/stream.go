package sandbox

import (
	"context"
	"fmt"
	"io"
	"os"

	"initd/v2v/image"
)

// OpenStream reads an image that comes once (a pipe) in a child, which works ahead. Whoever opened the file closes it.
func OpenStream(ctx context.Context, f *os.File, name string, opt Options) (image.Streamer, error) {
	p, err := start(f, name, nil, opt)
	if err != nil {
		return nil, err
	}
	d, err := p.opening(ctx, opStream, 0)
	if err != nil {
		p.close()
		return nil, err
	}
	s := &stream{process: p, d: d, ctx: ctx}
	for range min(ahead, p.opt.Slots) {
		slot := <-p.free
		if err := p.post(message{op: opNext, slot: slot}); err != nil {
			p.close()
			return nil, err
		}
		s.queue = append(s.queue, slot)
	}
	return s, nil
}

// ahead is how many pieces of a stream the child may have ready.
const ahead = 8

type stream struct {
	*process
	d     description
	ctx   context.Context // of the one who opened: Next has none of its own
	queue []uint32        // slots that are asked for, in order
	at    int64           // the end of the last piece
	piece []byte
	err   error // what the last Next returned, once it has ended
}

func (s *stream) Size() int64      { return s.d.Size }
func (s *stream) Info() image.Info { return s.d.Info }

// Close ends the child.
func (s *stream) Close() error {
	s.close()
	return nil
}

// PID is the child's, for people and tests.
func (s *stream) PID() int { return s.child.PID() }

// Next gives a copy: what is shared with the child could still change.
func (s *stream) Next() (int64, []byte, error) {
	if s.err != nil {
		return 0, nil, s.err
	}
	off, data, err := s.next()
	if err != nil {
		s.err = err
	}
	return off, data, err
}

func (s *stream) next() (int64, []byte, error) {
	if len(s.queue) == 0 {
		return 0, nil, io.ErrUnexpectedEOF
	}
	slot := s.queue[0]
	s.queue = s.queue[1:]
	reply, data, done, err := s.await(s.ctx, slot)
	if err != nil {
		return 0, nil, err
	}
	if reply.n < 1 || reply.n > SlotSize || reply.off < s.at || reply.off > s.d.Size-reply.n {
		done()
		return 0, nil, protocol(s.name, fmt.Sprintf("a piece of %d bytes at %d", reply.n, reply.off))
	}
	s.piece = append(s.piece[:0], data[:reply.n]...)
	s.at = reply.off + reply.n
	done()
	slot = <-s.free
	if err := s.post(message{op: opNext, slot: slot}); err != nil {
		return 0, nil, err
	}
	s.queue = append(s.queue, slot)
	return reply.off, s.piece, nil
}
