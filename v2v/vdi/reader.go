package vdi

import (
	"context"
	"encoding/binary"
	"fmt"

	"initd/v2v/blocks"
	"initd/v2v/image"
)

func probe(head, _ []byte, _ int64) bool {
	return len(head) >= headerSize && binary.LittleEndian.Uint32(head[64:]) == signature
}

// layout is the map of blocks.
type layout struct {
	h     header
	table []uint32
}

// At implements blocks.Layout.
func (l *layout) At(off int64) (image.Kind, int64, int64, error) {
	in := off % int64(l.h.block)
	length := int64(l.h.block) - in
	switch e := l.table[off/int64(l.h.block)]; e {
	case blockFree:
		return image.Hole, -1, length, nil
	case blockZero:
		return image.Zero, -1, length, nil
	default:
		return image.Data, int64(l.h.dataOffset) + int64(e)*int64(l.h.block) + in, length, nil
	}
}

func open(ctx context.Context, src image.Source, opt image.OpenOptions) (image.Reader, error) {
	if src.Size() < headerSize {
		return nil, &image.Error{Fault: image.NotThis, Code: "vdi-magic", Image: src.Name(), Format: name, What: "it is shorter than a header"}
	}
	b := make([]byte, headerSize)
	if err := image.ReadFull(src, b, 0); err != nil {
		return nil, fmt.Errorf("%s: vdi: read the header: %w", src.Name(), err)
	}
	h := decode(b)
	if err := h.check(src.Name(), src.Size(), opt); err != nil {
		return nil, err
	}
	l, used, err := readMap(ctx, src, h)
	if err != nil {
		return nil, err
	}
	info := image.Info{Format: name, Subformat: "dynamic", Size: int64(h.size), Unit: int64(h.block),
		Details: []image.Detail{{Name: "uuidCreate", Value: uuid(h.uuid)}, {Name: "uuidModify", Value: uuid(h.modify)}, {Name: "cBlocksAllocated", Value: fmt.Sprint(h.allocated)}}}
	if h.kind == typeStatic {
		info.Subformat = "static"
	}
	if used != h.allocated {
		const what = "the header says that %d blocks are allocated, and the map has %d"
		if opt.Counts { // who writes to the image puts the next block on one that is there
			return nil, image.Corruptf(src.Name(), name, "vdi-allocated", what, h.allocated, used)
		}
		info.Warnings = append(info.Warnings, fmt.Sprintf(what, h.allocated, used))
	}
	return blocks.NewReader(src, nil, l, info), nil
}

// readMap reads the map and looks at every block's place.
func readMap(ctx context.Context, src image.Source, h header) (*layout, uint32, error) {
	l := &layout{h: h, table: make([]uint32, h.blocks)}
	// A place in the file is an index below the number of blocks, so a bit for each is enough to find one that is used twice.
	taken := make([]uint64, h.blocks/64+1)
	used := uint32(0)
	buf := make([]byte, 64<<10)
	for i := 0; i < len(l.table); {
		if err := ctx.Err(); err != nil {
			return nil, 0, err
		}
		n := min(len(l.table)-i, len(buf)/4)
		if err := image.ReadFull(src, buf[:4*n], int64(h.mapOffset)+4*int64(i)); err != nil {
			return nil, 0, fmt.Errorf("%s: vdi: read the map: %w", src.Name(), err)
		}
		for j := range n {
			e := binary.LittleEndian.Uint32(buf[4*j:])
			l.table[i+j] = e
			if e == blockFree || e == blockZero {
				continue
			}
			used++
			guest := int64(i+j) * int64(h.block)
			shown := max(0, min(int64(h.block), int64(h.size)-guest))
			switch at := int64(h.dataOffset) + int64(e)*int64(h.block); {
			case e >= h.blocks:
				return nil, 0, image.Corruptf(src.Name(), name, "vdi-block-place", "block %d has the place %d, and there are %d", i+j, e, h.blocks)
			case at+shown > src.Size():
				return nil, 0, image.Corruptf(src.Name(), name, "vdi-block-place", "block %d is at byte %d, past the end of the file (%d bytes)", i+j, at, src.Size())
			case taken[e/64]&(1<<(e%64)) != 0:
				return nil, 0, image.Corruptf(src.Name(), name, "vdi-overlap", "block %d has the place %d, which another one has too", i+j, e)
			}
			taken[e/64] |= 1 << (e % 64)
		}
		i += n
	}
	return l, used, nil
}

// uuid formats one as VirtualBox stores it: the first three groups are little-endian.
func uuid(b [16]byte) string {
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", binary.LittleEndian.Uint32(b[0:]), binary.LittleEndian.Uint16(b[4:]), binary.LittleEndian.Uint16(b[6:]), b[8:10], b[10:])
}
