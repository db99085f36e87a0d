package vdi

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"

	"initd/v2v/blocks"
	"initd/v2v/image"
)

// Format is VDI.
func Format() image.Format {
	create, resume := blocks.Creating(name, begin)
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

func sizes(size int64, opt image.Options) (int64, error) {
	if _, err := isStatic(opt); err != nil {
		return 0, err
	}
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

func begin(dst image.Target, size int64, opt image.Options, from *blocks.State) (image.Writer, error) {
	static, err := isStatic(opt)
	if err != nil {
		return nil, err
	}
	if size, err = sizes(size, opt); err != nil {
		return nil, err
	}
	f, err := blocks.MainFile(dst, name)
	if err != nil {
		return nil, err
	}
	h := header{kind: typeDynamic, mapOffset: headerSize, size: uint64(size), block: writeBlock, blocks: uint32((size + writeBlock - 1) / writeBlock), uuid: blocks.NewGUID(), modify: blocks.NewGUID()}
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
	w := &dynamic{h: h}
	w.Grower = blocks.Grower{
		F: f, Block: writeBlock, Next: int64(h.dataOffset), Zeros: dst.ReadsZero(), Enter: w.enter,
		Blocks: int64(h.blocks), Table: make([]byte, 4*int64(h.blocks)), TableAt: headerSize, TableEnd: func(b int64) int64 { return 4 * (b + 1) },
	}
	for i := range int64(h.blocks) {
		w.set(i, blockFree)
	}
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
	h header
}

var _ image.Checkpointer = (*dynamic)(nil)

func (w *dynamic) set(block int64, entry uint32) {
	binary.LittleEndian.PutUint32(w.Table[4*block:], entry)
}

func (w *dynamic) enter(block, _ int64) error {
	w.set(block, w.h.allocated)
	w.h.allocated++
	return nil
}

func (w *dynamic) Checkpoint() ([]byte, error) { return w.Keep(w.h.ids()) }

// recover reads the map as it was at a checkpoint, and counts the blocks that are allocated in it.
func (w *dynamic) recover(s blocks.State) error {
	if err := w.Recover(s); err != nil {
		return fmt.Errorf("vdi: %w", err)
	}
	for e := range slices.Chunk(w.Table, 4) {
		if binary.LittleEndian.Uint32(e) != blockFree {
			w.h.allocated++
		}
	}
	return nil
}

func (w *dynamic) Finish() error {
	if err := blocks.WriteParts(w.F, blocks.Part{B: w.Table, At: headerSize}); err != nil {
		return err
	}
	return finish(w.F, w.h, w.Next)
}

// finish writes the header, last.
func finish(f image.File, h header, size int64) error {
	if err := f.Truncate(size); err != nil {
		return err
	}
	return blocks.Seal(f, blocks.Part{B: h.encode(), At: 0})
}

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

func (w *static) Checkpoint() ([]byte, error) { return w.Keep(w.h.ids()) }

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
