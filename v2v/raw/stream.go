package raw

import (
	"errors"
	"fmt"
	"io"

	"initd/v2v/image"
)

// streamUnit is how much of a pipe is read at once, in bytes.
const streamUnit = 1 << 20

type streamer struct {
	src  io.Reader
	name string
	size int64
	off  int64
	buf  []byte
}

// openStream needs to be told the size (OpenOptions.StreamSize): a pipe does not say it, and a target has to be made before its end is seen.
func openStream(src io.Reader, name string, opt image.OpenOptions) (image.Streamer, error) {
	if opt.StreamSize <= 0 {
		return nil, &image.Error{Fault: image.Undeclared, Code: "stream-size", Image: name, Format: "raw",
			What: "a pipe does not say how large the disk is", Do: "say it with --size, or give a file"}
	}
	size, err := sizes(opt.StreamSize, nil)
	if err != nil {
		return nil, err
	}
	return &streamer{src: src, name: name, size: size, buf: make([]byte, streamUnit)}, nil
}

func (s *streamer) Size() int64 { return s.size }

func (s *streamer) Info() image.Info {
	return image.Info{Format: "raw", Size: s.size, Unit: streamUnit, Stored: -1}
}

func (s *streamer) Next() (int64, []byte, error) {
	if s.off >= s.size {
		// One byte more says that the size was wrong, and that what was written is not all.
		if n, err := io.ReadFull(s.src, s.buf[:1]); n > 0 {
			return 0, nil, image.Corruptf(s.name, "raw", "stream-longer", "more follows after the %d bytes that were said", s.size)
		} else if !errors.Is(err, io.EOF) {
			return 0, nil, fmt.Errorf("%s: read: %w", s.name, err)
		}
		return 0, nil, io.EOF
	}
	want := min(int64(len(s.buf)), s.size-s.off)
	n, err := io.ReadFull(s.src, s.buf[:want])
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			if s.size-s.off-int64(n) < image.Sector {
				clear(s.buf[n:want])
				n, err = int(want), nil
			} else {
				return 0, nil, image.Corruptf(s.name, "raw", "stream-shorter", "ends after %d of the %d bytes that were said", s.off+int64(n), s.size)
			}
		} else {
			return 0, nil, fmt.Errorf("%s: read at %d: %w", s.name, s.off+int64(n), err)
		}
	}
	off := s.off
	s.off += int64(n)
	return off, s.buf[:n], nil
}

func (s *streamer) Close() error { return nil }
