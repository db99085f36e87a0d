package sandbox

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"initd/v2v/image"
)

// source is an image.Source and image.Mapper over a descriptor that came from the parent, in the child.
type source struct {
	child *child
	fd    int
	name  string
	size  int64
	run   image.LastRun
}

func (s *source) Size() int64  { return s.size }
func (s *source) Name() string { return s.name }
func (s *source) Close() error { return nil } // descriptors live as long as the child

func (s *source) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("%s: read at %d: a negative offset", s.name, off)
	}
	if off >= s.size {
		return 0, io.EOF
	}
	short := int64(len(p)) > s.size-off
	if short {
		p = p[:s.size-off]
	}
	done := 0
	for done < len(p) {
		n, err := unix.Pread(s.fd, p[done:], off+int64(done))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return done, fmt.Errorf("read %s at %d: %w", s.name, off+int64(done), err)
		}
		if n == 0 {
			return done, fmt.Errorf("read %s at %d: %w: the file became shorter", s.name, off+int64(done), io.ErrUnexpectedEOF)
		}
		done += n
	}
	if short {
		return done, io.EOF
	}
	return done, nil
}

// NextData is SEEK_DATA and SEEK_HOLE. Nobody else uses the descriptor's own offset.
func (s *source) NextData(from int64) (start, end int64, err error) { return s.run.Next(from, s.seek) }

func (s *source) seek(from int64) (start, end int64, err error) {
	if from >= s.size {
		return 0, 0, io.EOF
	}
	start, err = unix.Seek(s.fd, from, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		if now, err := unix.Seek(s.fd, 0, unix.SEEK_END); err == nil && now < s.size {
			return 0, 0, image.Shrunk(s.name, s.size, now)
		}
		return 0, 0, io.EOF
	}
	if err != nil { // a file system or device that does not know: everything is data
		return from, s.size, nil
	}
	if start >= s.size {
		return 0, 0, io.EOF
	}
	end, err = unix.Seek(s.fd, start, unix.SEEK_HOLE)
	if err != nil {
		return start, s.size, nil
	}
	return start, min(end, s.size), nil
}

// Sibling asks the parent, who opens or refuses.
func (s *source) Sibling(name string) (image.Source, error) {
	c := s.child
	c.asking <- struct{}{}
	defer func() { <-c.asking }()
	text := []byte(name)
	if len(text) > 4096 {
		return nil, &image.Error{Fault: image.Refused, Code: "extent-name", Image: s.name, What: fmt.Sprintf("the name of a further file has %d bytes", len(text))}
	}
	if err := send(fdSocket, message{op: opSibling, text: text}, -1); err != nil {
		return nil, err
	}
	a := <-c.siblings
	if a.msg.failed {
		return nil, decodeFault(a.msg.text, s.name)
	}
	return &source{child: c, fd: a.fd, name: name, size: a.msg.n}, nil
}

// pipe reads a descriptor in order.
type pipe int

func (p pipe) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(int(p), b)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, fmt.Errorf("read the stream: %w", err)
		case n == 0 && len(b) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}
