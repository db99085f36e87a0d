package raw

import (
	"context"

	"initd/v2v/blocks"
	"initd/v2v/image"
)

// unit is how much of the disk is handed over at once, in bytes.
const unit = 1 << 20

// placed writes each byte at its own place.
type placed struct{ blocks.Placed }

var (
	_ image.Placer       = (*placed)(nil)
	_ image.Checkpointer = (*placed)(nil)
)

func create(_ context.Context, dst image.Target, size int64, opt image.Options) (image.Writer, error) {
	size, err := sizes(size, opt)
	if err != nil {
		return nil, err
	}
	f, err := dst.Main()
	if err != nil {
		return nil, err
	}
	if !dst.Seekable() {
		return &appended{dst: f, size: size}, nil
	}
	if err := f.Truncate(size); err != nil {
		return nil, err
	}
	return &placed{blocks.Placed{F: f, Zeros: dst.ReadsZero()}}, nil
}

// Checkpoint needs no state: every byte's place is known.
func (w *placed) Checkpoint() ([]byte, error) { return nil, w.F.Sync() }

func (w *placed) Finish() error { return w.F.Sync() }

// appended writes to what takes bytes in order only; holes become zeros on the way.
type appended struct {
	dst       image.File
	at, size  int64
	zeroBytes []byte
}

func (w *appended) Unit() int64 { return unit }

func (w *appended) Encode(_ []byte, offset int64, data []byte) (image.Encoded, error) {
	return blocks.Plain(offset, data), nil
}

func (w *appended) Put(units []image.Encoded) error {
	for _, u := range units {
		if err := w.fill(u.Offset); err != nil {
			return err
		}
		if _, err := w.dst.WriteAt(u.Bytes, w.at); err != nil {
			return err
		}
		w.at += u.Length
	}
	return nil
}

func (w *appended) fill(to int64) error {
	if w.zeroBytes == nil {
		w.zeroBytes = make([]byte, 256<<10)
	}
	for w.at < to {
		n, err := w.dst.WriteAt(w.zeroBytes[:min(int64(len(w.zeroBytes)), to-w.at)], w.at)
		w.at += int64(n)
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *appended) Finish() error {
	if err := w.fill(w.size); err != nil {
		return err
	}
	return w.dst.Sync()
}

func (w *appended) Close() error { return nil }
