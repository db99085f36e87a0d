package qcow2

import (
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"

	"initd/v2v/image"
	"initd/v2v/inflate"
)

// maxZstdWindow bounds what a decoder keeps, in bytes. QEMU compresses a cluster in one go, so that its window is no larger than the largest cluster.
const maxZstdWindow = 8 << 20

// decoders are what several goroutines decode with.
type decoders struct {
	zstd   bool
	inUse  sync.Pool // of *decoder
	bufs   sync.Pool // of *scratchBuf
	inputs sync.Pool // of *scratchBuf
}

type decoder struct{ zstd *zstd.Decoder }

type scratchBuf struct{ b []byte }

func (d *decoders) scratch(n int) *scratchBuf { return take(&d.bufs, n) }
func (d *decoders) release(s *scratchBuf)     { d.bufs.Put(s) }

func take(pool *sync.Pool, n int) *scratchBuf {
	s, _ := pool.Get().(*scratchBuf)
	if s == nil {
		s = &scratchBuf{}
	}
	if cap(s.b) < n {
		s.b = make([]byte, n)
	}
	s.b = s.b[:n]
	return s
}

// cluster decodes the stream at a place of the file into out, which has to be filled. What follows in the stream's last sector is not
// looked at.
func (d *decoders) cluster(r *reader, out []byte, place, length, guest int64) error {
	// The length is rounded up to sectors, and the file may end before.
	length = min(length, r.src.Size()-place)
	if length <= 0 {
		return r.corrupt("qcow2-changed", "the compressed cluster at %d lies at %d, behind the end of the file", guest, place)
	}
	in := take(&d.inputs, int(length))
	defer d.inputs.Put(in)
	if err := image.ReadFull(r.src, in.b, place); err != nil {
		return fmt.Errorf("%s: read the compressed cluster at %d: %w", r.name, guest, err)
	}
	var err error
	if d.zstd {
		dec, _ := d.inUse.Get().(*decoder)
		if dec == nil {
			dec = &decoder{}
		}
		err = dec.unzstd(out, in.b, int(r.clusterSize()))
		d.inUse.Put(dec)
	} else {
		err = unzlib(out, in.b)
	}
	if err != nil {
		return r.corrupt("qcow2-compressed-data", "the compressed cluster at %d (in the file at %d) cannot be decoded: %v", guest, place, err)
	}
	return nil
}

// unzlib decodes a raw deflate stream (RFC 1951); QEMU's has neither header nor checksum.
func unzlib(out, in []byte) error {
	n, _, _, err := inflate.Decode(out, in)
	if err == nil && n < len(out) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// unzstd decodes frames until out is full. The frames' length is not recorded, and junk follows the last one, so each frame's end is
// looked for first; then it is decoded without a copy.
func (d *decoder) unzstd(out, in []byte, cluster int) error {
	if d.zstd == nil {
		var err error
		d.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxZstdWindow),
			zstd.WithDecoderMaxMemory(64<<20), zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			return err
		}
	}
	// A disk that ends inside a cluster is compressed with the whole cluster.
	whole := out
	if len(out) < cluster {
		whole = make([]byte, cluster)
	}
	done := whole[:0:cluster]
	for len(done) < len(out) {
		n, err := frameLength(in)
		if err != nil {
			return err
		}
		before := len(done)
		if done, err = d.zstd.DecodeAll(in[:n], done); err != nil {
			return err
		}
		if len(done) == before && n == len(in) {
			return io.ErrUnexpectedEOF
		}
		in = in[n:]
	}
	if len(out) < cluster {
		copy(out, done)
	}
	return nil
}

// frameLength is the length of the frame that p begins with (RFC 8878 section 3.1.1): header, blocks, checksum.
func frameLength(p []byte) (int, error) {
	var h zstd.Header
	if err := h.Decode(p); err != nil {
		return 0, err
	}
	if h.Skippable {
		n := int64(h.HeaderSize) + int64(h.SkippableSize)
		if n > int64(len(p)) {
			return 0, io.ErrUnexpectedEOF
		}
		return int(n), nil
	}
	n := h.HeaderSize
	for last := false; !last; {
		if n+3 > len(p) {
			return 0, io.ErrUnexpectedEOF
		}
		b := uint32(p[n]) | uint32(p[n+1])<<8 | uint32(p[n+2])<<16
		last = b&1 != 0
		n += 3
		if b>>1&3 == 1 { // RLE: one byte, however long
			n++
		} else {
			n += int(b >> 3)
		}
	}
	if h.HasCheckSum {
		n += 4
	}
	if n > len(p) {
		return 0, io.ErrUnexpectedEOF
	}
	return n, nil
}
