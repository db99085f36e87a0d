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
	zlib  sync.Pool  // of *deflater
	zstd  *sync.Pool // of *zstd.Encoder; nil for zlib
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
	// One that works shows that all will.
	z, err := e.newZstd(p.clusterSize())
	if err != nil {
		return nil, fmt.Errorf("prepare zstd: %w", err)
	}
	e.zstd = &sync.Pool{New: func() any {
		z, _ := e.newZstd(p.clusterSize())
		return z
	}}
	e.zstd.Put(z)
	return e, nil
}

// newZstd makes an encoder for one goroutine at a time: what its tables hold stays in that core's cache. No checksum, as QEMU writes none.
func (e *encoders) newZstd(cluster int64) (*zstd.Encoder, error) {
	level := []zstd.EncoderLevel{0, zstd.SpeedFastest, zstd.SpeedDefault, zstd.SpeedDefault, zstd.SpeedDefault, zstd.SpeedBetterCompression,
		zstd.SpeedBetterCompression, zstd.SpeedBetterCompression, zstd.SpeedBetterCompression, zstd.SpeedBestCompression}[e.level]
	return zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false),
		zstd.WithWindowSize(max(zstd.MinWindowSize, int(cluster))))
}

// encode appends the compressed form of data to dst, unless it is longer than limit.
func (e *encoders) encode(dst, data []byte, limit int) ([]byte, bool, error) {
	if e.zstd != nil {
		z := e.zstd.Get().(*zstd.Encoder)
		out := z.EncodeAll(data, dst)
		e.zstd.Put(z)
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
