package qcow2

import (
	"bytes"
	"context"
	"encoding/gob"
	"fmt"

	"initd/v2v/image"
)

// state is what a later process needs to go on. L1 lies in the file.
type state struct {
	Size   int64
	Next   int64
	Stream packed
	TableI int64
	Table  []byte // without the zeros at its end
	Base   int64
	Held   []uint16
	Blocks []uint64
}

// Checkpoint makes durable what was put so far. The current table is not closed: it goes into the state, so that checkpoints leave no
// trace in the image.
func (w *writer) Checkpoint() ([]byte, error) {
	if err := w.flush(); err != nil {
		return nil, err
	}
	if err := w.storeL1(); err != nil {
		return nil, err
	}
	if err := w.dst.Sync(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(state{
		Size: w.size, Next: w.next, Stream: w.stream, TableI: w.tableI, Table: bytes.TrimRight(w.table, "\x00"),
		Base: w.refs.base, Held: w.refs.held, Blocks: w.refs.blocks,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: note the state: %w", w.name, err)
	}
	return b.Bytes(), nil
}

func resume(_ context.Context, dst image.Target, size int64, opt image.Options, saved []byte) (image.Writer, error) {
	w, err := newWriter(dst, size, opt)
	if err != nil {
		return nil, err
	}
	var s state
	if err := gob.NewDecoder(bytes.NewReader(saved)).Decode(&s); err != nil {
		return nil, fmt.Errorf("%s: read the state of the earlier run: %w", w.name, err)
	}
	cs := w.clusterSize()
	if s.Size != w.size || s.Next%cs != 0 || len(s.Table) > len(w.table) || s.TableI >= int64(len(w.l1)) || s.Stream.At > s.Stream.End ||
		s.Stream.End > s.Next || s.Base+int64(len(s.Held)) != s.Next/cs {
		return nil, fmt.Errorf("%s: the state of the earlier run is not of this conversion", w.name)
	}
	w.next, w.stream, w.tableI = s.Next, s.Stream, s.TableI
	copy(w.table, s.Table)
	w.refs = refcounts{blockEntries: cs / 2, base: s.Base, held: s.Held, blocks: s.Blocks}
	l1, err := readTable(fileSource{w.dst, w.name}, w.l1At, int64(len(w.l1)))
	if err != nil {
		return nil, err
	}
	copy(w.l1, l1)
	// What was put after the checkpoint is put again, at other places perhaps.
	for i := range w.l1 {
		if int64(w.l1[i]&offsetMask) >= w.next || int64(i) == w.tableI {
			w.l1[i] = 0
		}
	}
	if err := w.dst.Truncate(w.next); err != nil {
		return nil, err
	}
	return w, nil
}

// fileSource lets tables be read from what is being written.
type fileSource struct {
	image.File
	name string
}

func (f fileSource) Size() int64                          { return image.MaxDisk }
func (f fileSource) Name() string                         { return f.name }
func (f fileSource) Close() error                         { return nil }
func (f fileSource) Sibling(string) (image.Source, error) { return nil, fmt.Errorf("none") }
