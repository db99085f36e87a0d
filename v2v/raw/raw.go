// Package raw reads and writes disks that are nothing but their bytes.
//
// It has no magic, and so never claims a file: it is chosen by name, or where the user said that what matches nothing is raw.
package raw

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"initd/v2v/image"
)

// Format is the raw disk.
func Format() image.Format {
	return image.Format{
		Name:    "raw",
		Aliases: []string{"img", "dd"},
		Probe:   func(head, tail []byte, size int64) bool { return false },
		Open:    open,
		OpenStream: func(_ context.Context, src io.Reader, name string, opt image.OpenOptions) (image.Streamer, error) {
			return openStream(src, name, opt)
		},
		Create: create,
		Resume: func(ctx context.Context, dst image.Target, size int64, opt image.Options, state []byte) (image.Writer, error) {
			return create(ctx, dst, size, opt)
		},
		Sizes:   sizes,
		Streams: func(image.Options) bool { return true },
	}
}

func sizes(size int64, _ image.Options) (int64, error) {
	if size < 0 || size > image.MaxDisk {
		return 0, &image.Error{Fault: image.TooLarge, Code: "raw-size", Format: "raw", What: fmt.Sprintf("a disk of %d bytes", size)}
	}
	return image.RoundUp(size, image.Sector), nil
}

type reader struct {
	src  image.Source
	size int64
}

func open(_ context.Context, src image.Source, opt image.OpenOptions) (image.Reader, error) {
	size, err := sizes(src.Size(), nil)
	if err != nil {
		return nil, err
	}
	if opt.MaxSize > 0 && size > opt.MaxSize {
		return nil, image.TooLargef(src.Name(), "raw", size, opt.MaxSize)
	}
	return &reader{src: src, size: size}, nil
}

func (r *reader) Size() int64 { return r.size }

// ReadAt shows an odd last sector filled up with zeros, as qemu does.
func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("%s: raw: read at the negative offset %d", r.src.Name(), off)
	}
	if off >= r.size {
		return 0, io.EOF
	}
	var eof error
	if int64(len(p)) > r.size-off {
		p, eof = p[:r.size-off], io.EOF
	}
	n, err := r.src.ReadAt(p, off)
	if n == len(p) {
		return n, eof
	}
	if !errors.Is(err, io.EOF) {
		return n, fmt.Errorf("%s: read %d bytes at %d: %w", r.src.Name(), len(p), off, err)
	}
	if off+int64(n) < r.src.Size() {
		return n, image.Corruptf(r.src.Name(), "raw", "raw-cut", "the file was cut while it was read: nothing at %d, and it had %d bytes", off+int64(n), r.src.Size())
	}
	clear(p[n:])
	return len(p), eof
}

func (r *reader) Extents(from int64) iter.Seq2[image.Extent, error] {
	return func(yield func(image.Extent, error) bool) {
		image.MapExtents(r.src, 0, 0, 0, r.size, from, yield)
	}
}

func (r *reader) Info() image.Info {
	return image.Info{Format: "raw", Size: r.size, Stored: stored(r.src)}
}

func (r *reader) Close() error { return r.src.Close() }

func stored(src image.Source) int64 {
	if s, ok := src.(interface{ Stored() int64 }); ok {
		return s.Stored()
	}
	return -1
}
