package vdi

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"initd/v2v/blocks"
	"initd/v2v/image"
)

// Format is VDI.
func Format() image.Format {
	return image.Format{
		Name:   name,
		Probe:  probe,
		Open:   open,
		Create: create,
		Resume: resume,
		Sizes:  sizes,
		Options: []image.Option{
			{Name: "subformat", Default: "dynamic", Help: "whether the file grows with its data", Values: []string{"dynamic", "static"}},
			{Name: "static", Default: "off", Help: "qemu-img's word for subformat=static", Values: []string{"on", "off"}},
		},
	}
}

func sizes(size int64, _ image.Options) (int64, error) {
	if size < 0 || size > maxBlocks*writeBlock {
		return 0, fault(image.TooLarge, "", "vdi-size", fmt.Sprintf("a disk of %d bytes; at most %d (16 TiB) are written", size, int64(maxBlocks*writeBlock)), "choose raw or qcow2")
	}
	return image.RoundUp(size, sector), nil
}

func isStatic(opt image.Options) (bool, error) {
	word, said := opt["subformat"]
	flag, too := opt["static"]
	if said && too && (word == "static") != (flag == "on") {
		return false, fmt.Errorf("vdi: subformat=%s and static=%s contradict each other", word, flag)
	}
	return word == "static" || flag == "on", nil
}

func create(_ context.Context, dst image.Target, size int64, opt image.Options) (image.Writer, error) {
	return begin(dst, size, opt, nil)
}

func resume(_ context.Context, dst image.Target, size int64, opt image.Options, b []byte) (image.Writer, error) {
	s, err := blocks.DecodeState(b)
	if err != nil {
		return nil, fmt.Errorf("%s: vdi: the record of the unfinished image: %w", dst.Base(), err)
	}
	return begin(dst, size, opt, &s)
}

// newUUID is random, of version 4.
func newUUID() (u [16]byte) {
	_, _ = rand.Read(u[:]) // it never fails
	u[7] = u[7]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u
}

func begin(dst image.Target, size int64, opt image.Options, from *blocks.State) (image.Writer, error) {
	static, err := isStatic(opt)
	if err != nil {
		return nil, err
	}
	if size, err = sizes(size, opt); err != nil {
		return nil, err
	}
	if !dst.Seekable() {
		return nil, fmt.Errorf("%s: vdi: it cannot be written to a pipe; name a file", dst.Base())
	}
	f, err := dst.Main()
	if err != nil {
		return nil, err
	}
	h := header{kind: typeDynamic, mapOffset: headerSize, size: uint64(size), block: writeBlock, blocks: uint32((size + writeBlock - 1) / writeBlock), uuid: newUUID(), modify: newUUID()}
	// The data begin at a MiB: VirtualBox does it so too, and file systems like it.
	h.dataOffset = uint32(image.RoundUp(headerSize+4*int64(h.blocks), writeBlock))
	if from != nil {
		if err := h.takeIDs(from.ID); err != nil {
			return nil, fmt.Errorf("%s: vdi: the record of the unfinished image: %w", dst.Base(), err)
		}
	}
	if static {
		h.kind, h.allocated = typeStatic, h.blocks
		return newStatic(dst, f, h)
	}
	w := &dynamic{h: h, table: make([]uint32, h.blocks)}
	for i := range w.table {
		w.table[i] = blockFree
	}
	w.Grower = blocks.Grower{F: f, Block: writeBlock, Next: int64(h.dataOffset), Zeros: dst.ReadsZero(), Enter: w.enter}
	if from != nil {
		return w, w.recover(*from)
	}
	return w, f.Zero(0, headerSize)
}

// ids keeps both UUIDs over a checkpoint.
func (h *header) ids() string { return hex.EncodeToString(h.uuid[:]) + hex.EncodeToString(h.modify[:]) }

func (h *header) takeIDs(s string) error {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 32 {
		return fmt.Errorf("%q are no two UUIDs", s)
	}
	copy(h.uuid[:], b)
	copy(h.modify[:], b[16:])
	return nil
}

// dynamic grows by blocks.
type dynamic struct {
	blocks.Grower
	h      header
	table  []uint32
	stored int // entries of the map that are in the file
}

var _ image.Checkpointer = (*dynamic)(nil)

func (w *dynamic) enter(block, _ int64) error {
	w.table[block] = w.h.allocated
	w.h.allocated++
	return nil
}

// writeMap writes the entries up to one.
func (w *dynamic) writeMap(to int) error {
	b := make([]byte, 4*(to-w.stored))
	for i, e := range w.table[w.stored:to] {
		binary.LittleEndian.PutUint32(b[4*i:], e)
	}
	if _, err := w.F.WriteAt(b, headerSize+4*int64(w.stored)); err != nil {
		return err
	}
	w.stored = max(0, to-1) // the last block is not full
	return nil
}

func (w *dynamic) Checkpoint() ([]byte, error) {
	if b, any := w.Current(); any {
		if err := w.writeMap(int(b) + 1); err != nil {
			return nil, err
		}
	}
	if err := w.F.Sync(); err != nil {
		return nil, err
	}
	return w.State(w.h.ids()), nil
}

// recover reads the map as it was at a checkpoint.
func (w *dynamic) recover(s blocks.State) error {
	if err := w.Resume(s); err != nil {
		return fmt.Errorf("vdi: %w", err)
	}
	b, any := w.Current()
	if !any {
		return nil
	}
	if b >= int64(len(w.table)) {
		return fmt.Errorf("vdi: the record of the unfinished image is of another one")
	}
	raw := make([]byte, 4*(b+1))
	if err := blocks.ReadFull(w.F, raw, headerSize); err != nil {
		return fmt.Errorf("vdi: read the map of the unfinished image: %w", err)
	}
	for i := range w.table[:b+1] {
		e := binary.LittleEndian.Uint32(raw[4*i:])
		w.table[i] = e
		if e != blockFree {
			w.h.allocated++
		}
	}
	return nil
}

func (w *dynamic) Finish() error {
	w.stored = 0
	if err := w.writeMap(len(w.table)); err != nil {
		return err
	}
	return finish(w.F, w.h, w.Next)
}

// finish writes the header, last.
func finish(f image.File, h header, size int64) error {
	if err := f.Truncate(size); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if _, err := f.WriteAt(h.encode(), 0); err != nil {
		return err
	}
	return f.Sync()
}

func (w *dynamic) Close() error { return nil }

// static has every block at its place.
type static struct {
	blocks.Placed
	h header
}

var (
	_ image.Placer       = (*static)(nil)
	_ image.Checkpointer = (*static)(nil)
)

func (h header) end() int64 { return int64(h.dataOffset) + int64(h.blocks)*int64(h.block) }

func newStatic(dst image.Target, f image.File, h header) (image.Writer, error) {
	w := &static{Placed: blocks.Placed{F: f, Base: int64(h.dataOffset), Zeros: dst.ReadsZero()}, h: h}
	if err := f.Truncate(h.end()); err != nil {
		return nil, err
	}
	if err := f.Zero(0, headerSize); err != nil {
		return nil, err
	}
	// What of the last block the disk does not show.
	if tail := int64(h.blocks)*int64(h.block) - int64(h.size); !w.Zeros && tail > 0 {
		return w, f.Zero(w.Base+int64(h.size), tail)
	}
	return w, nil
}

func (w *static) Checkpoint() ([]byte, error) {
	if err := w.F.Sync(); err != nil {
		return nil, err
	}
	return (&blocks.Grower{Next: w.h.end()}).State(w.h.ids()), nil
}

func (w *static) Finish() error {
	b := make([]byte, 4*int64(w.h.blocks))
	for i := range w.h.blocks {
		binary.LittleEndian.PutUint32(b[4*i:], i)
	}
	if _, err := w.F.WriteAt(b, headerSize); err != nil {
		return err
	}
	return finish(w.F, w.h, w.h.end())
}

func (w *static) Close() error { return nil }
