package qcow2

import (
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

// encoders compress clusters from several goroutines at once.
type encoders struct {
	zlib  sync.Pool // of *deflater
	zstd  *zstd.Encoder
	level int
}

type deflater struct {
	w    *flate.Writer
	sink sink
}

// errLonger stops a compression that does not pay.
var errLonger = errors.New("longer than the data")

// sink appends up to a limit.
type sink struct {
	b     []byte
	limit int
}

func (s *sink) Write(p []byte) (int, error) {
	if len(s.b)+len(p) > s.limit {
		return 0, errLonger
	}
	s.b = append(s.b, p...)
	return len(p), nil
}

func newEncoders(p params) (*encoders, error) {
	e := &encoders{level: p.level}
	if p.compress != "zstd" {
		return e, nil
	}
	level := zstd.EncoderLevelFromZstd([]int{0, 1, 3, 5, 6, 7, 8, 9, 10, 11}[p.level])
	var err error
	// One window, one encoder a goroutine that asks; no checksum, as QEMU writes none.
	e.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(16), zstd.WithEncoderCRC(false),
		zstd.WithWindowSize(max(zstd.MinWindowSize, int(p.clusterSize()))), zstd.WithLowerEncoderMem(true), zstd.WithSingleSegment(false))
	if err != nil {
		return nil, fmt.Errorf("prepare zstd: %w", err)
	}
	return e, nil
}

// encode appends the compressed form of data to dst, unless it is longer than limit.
func (e *encoders) encode(dst, data []byte, limit int) ([]byte, bool, error) {
	if e.zstd != nil {
		out := e.zstd.EncodeAll(data, dst)
		return out, len(out)-len(dst) <= limit, nil
	}
	d, _ := e.zlib.Get().(*deflater)
	if d == nil {
		d = &deflater{}
		var err error
		if d.w, err = flate.NewWriter(&d.sink, e.level); err != nil {
			return nil, false, err
		}
	}
	defer e.zlib.Put(d)
	d.sink = sink{b: dst, limit: len(dst) + limit}
	d.w.Reset(&d.sink)
	_, err := d.w.Write(data)
	if err == nil {
		err = d.w.Close()
	}
	out := d.sink.b
	d.sink.b = nil
	if errors.Is(err, errLonger) {
		return nil, false, nil
	}
	return out, err == nil, err
}
