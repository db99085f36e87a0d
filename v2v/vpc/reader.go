package vpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"initd/v2v/blocks"
	"initd/v2v/image"
	"initd/v2v/span"
)

// probe knows a dynamic disk by the copy of the footer at its beginning, a fixed one by the footer at its end. One whose footer or copy is damaged is
// known too, and refused when it is opened: taken for a raw disk it would be written somewhere as such.
func probe(head, tail []byte, _ int64) bool {
	at := max(0, len(tail)-footerSize)
	return bytes.HasPrefix(head, []byte(cookie)) || bytes.HasPrefix(tail[at:], []byte(cookie))
}

func open(ctx context.Context, src image.Source, opt image.OpenOptions) (image.Reader, error) {
	img := src.Name()
	if src.Size() < footerSize {
		return nil, &image.Error{Fault: image.NotThis, Code: "vhd-magic", Image: img, Format: name, What: "it is shorter than a footer"}
	}
	head, tail := make([]byte, footerSize), make([]byte, footerSize)
	if err := image.ReadFull(src, head, 0); err != nil {
		return nil, fmt.Errorf("%s: vpc: read its beginning: %w", img, err)
	}
	if err := image.ReadFull(src, tail, src.Size()-footerSize); err != nil {
		return nil, fmt.Errorf("%s: vpc: read its end: %w", img, err)
	}
	inFront := string(head[:8]) == cookie
	if string(tail[:8]) != cookie {
		if inFront {
			return nil, image.Corruptf(img, name, "vhd-no-footer", "there is no footer at its end: it was cut short, or something follows it")
		}
		return nil, &image.Error{Fault: image.NotThis, Code: "vhd-magic", Image: img, Format: name, What: "it has no VHD footer"}
	}
	f := decodeFooter(tail)
	if err := f.check(img, "footer", tail); err != nil {
		return nil, err
	}
	if opt.MaxSize > 0 && f.current > uint64(opt.MaxSize) {
		return nil, image.TooLargef(img, name, int64(f.current), opt.MaxSize)
	}
	info := describe(f)
	if f.kind == typeFixed {
		if int64(f.current) != src.Size()-footerSize {
			return nil, image.Corruptf(img, name, "vhd-fixed-size", "the footer says %d bytes, and %d come before it", f.current, src.Size()-footerSize)
		}
		return blocks.NewReader(src, nil, fixed{size: int64(f.current)}, info), nil
	}
	if err := sameFooter(img, f, head); err != nil {
		return nil, err
	}
	l, err := openDynamic(ctx, src, f)
	if err != nil {
		return nil, err
	}
	info.Unit = l.block
	return blocks.NewReader(src, nil, l, info), nil
}

// sameFooter holds the copy at the beginning of a dynamic disk against the footer. Programs may differ in when they update
// time stamps and the saved state, and in nothing that says what the disk is.
func sameFooter(img string, f footer, head []byte) error {
	if string(head[:8]) != cookie {
		return image.Corruptf(img, name, "vhd-no-copy", "the copy of the footer at its beginning is missing")
	}
	c := decodeFooter(head)
	if err := c.check(img, "copy of the footer", head); err != nil {
		return err
	}
	if c.current != f.current || c.kind != f.kind || c.dataOffset != f.dataOffset || !bytes.Equal(c.id[:], f.id[:]) {
		return image.Corruptf(img, name, "vhd-footers-differ", "the footer and its copy at the beginning differ in size, type, offset or identity")
	}
	return nil
}

func describe(f footer) image.Info {
	info := image.Info{Format: name, Subformat: "fixed", Size: int64(f.current), Warnings: f.warnings(), Details: []image.Detail{
		{Name: "creator", Value: fmt.Sprintf("%q on %q", f.creator, f.creatorOS)},
		{Name: "created", Value: time.Unix(epoch+int64(f.stamp), 0).UTC().Format(time.RFC3339)},
		{Name: "geometry", Value: fmt.Sprintf("%d x %d x %d", f.cylinders, f.heads, f.spt)},
		{Name: "uniqueId", Value: fmt.Sprintf("%x-%x-%x-%x-%x", f.id[0:4], f.id[4:6], f.id[6:8], f.id[8:10], f.id[10:])},
	}}
	if f.kind == typeDynamic {
		info.Subformat = "dynamic"
	}
	return info
}

// fixed is the disk before its footer.
type fixed struct{ size int64 }

// At implements blocks.Layout.
func (l fixed) At(off int64) (image.Kind, int64, int64, error) {
	return image.Data, off, l.size - off, nil
}

// dynamic is a disk of blocks, each behind a bitmap of its sectors.
type dynamic struct {
	src    image.Source
	block  int64
	bitmap int64 // bytes, whole sectors
	bat    []uint32

	mu    sync.Mutex
	cache map[int64][]byte // bitmaps by block
}

// cachedBitmaps is how many are kept: each is 512 bytes for a block of 2 MiB.
const cachedBitmaps = 256

func openDynamic(ctx context.Context, src image.Source, f footer) (*dynamic, error) {
	img := src.Name()
	end := src.Size() - footerSize
	if f.dataOffset < footerSize || f.dataOffset%sector != 0 || f.dataOffset > uint64(end-min(end, dynamicSize)) {
		return nil, image.Corruptf(img, name, "vhd-header-place", "the dynamic disk header at %d does not fit the file of %d bytes", f.dataOffset, src.Size())
	}
	b := make([]byte, dynamicSize)
	if err := image.ReadFull(src, b, int64(f.dataOffset)); err != nil {
		return nil, fmt.Errorf("%s: vpc: read the dynamic disk header: %w", img, err)
	}
	be := binary.BigEndian
	tableOffset, entries, block := be.Uint64(b[16:]), be.Uint32(b[28:]), be.Uint32(b[32:])
	switch {
	case string(b[:8]) != dynamicCookie:
		return nil, image.Corruptf(img, name, "vhd-header", "there is no dynamic disk header at %d", f.dataOffset)
	case be.Uint32(b[36:]) != checksum(b, 36):
		return nil, image.Corruptf(img, name, "vhd-checksum", "the checksum of the dynamic disk header is %08x, and its bytes have %08x", be.Uint32(b[36:]), checksum(b, 36))
	case be.Uint32(b[24:])>>16 != version>>16:
		return nil, fault(image.Unsupported, img, "vhd-version", fmt.Sprintf("a dynamic disk header of version %d; only 1 is read", be.Uint32(b[24:])>>16), "convert it with the program that wrote it")
	case block < minBlock || block > maxBlock || block&(block-1) != 0:
		return nil, image.Corruptf(img, name, "vhd-block", "blocks of %d bytes; a power of two from %d to %d is read", block, minBlock, maxBlock)
	case entries > maxEntries:
		return nil, fault(image.TooLarge, img, "vhd-bat", fmt.Sprintf("a table of %d blocks; at most %d are read", entries, maxEntries), "")
	case uint64(entries)*uint64(block) < f.current:
		return nil, image.Corruptf(img, name, "vhd-bat", "%d blocks of %d bytes do not hold the size of %d bytes", entries, block, f.current)
	case tableOffset < footerSize || tableOffset%sector != 0 || tableOffset > uint64(end) || int64(tableOffset)+4*int64(entries) > end:
		return nil, image.Corruptf(img, name, "vhd-bat", "the table at %d, of %d blocks, does not fit the file of %d bytes", tableOffset, entries, src.Size())
	}
	l := &dynamic{src: src, block: int64(block), bitmap: image.RoundUp(int64(block)/sector/8, sector), bat: make([]uint32, entries), cache: map[int64][]byte{}}
	return l, l.readTable(ctx, f, int64(tableOffset), end)
}

// readTable reads the block allocation table, and looks at every block's place.
func (l *dynamic) readTable(ctx context.Context, f footer, at, end int64) error {
	img := l.src.Name()
	raw := make([]byte, 4*len(l.bat))
	if err := image.ReadFull(l.src, raw, at); err != nil {
		return fmt.Errorf("%s: vpc: read the block allocation table: %w", img, err)
	}
	var taken span.Set
	taken.Add(0, 1)
	taken.Add(uint32(f.dataOffset/sector), dynamicSize/sector)
	taken.Add(uint32(at/sector), uint32((int64(len(raw))+sector-1)/sector))
	if unit, found := taken.Overlap(); found {
		return image.Corruptf(img, name, "vhd-overlap", "the headers and the table lie over each other at sector %d", unit)
	}
	for i := range l.bat {
		e := binary.BigEndian.Uint32(raw[4*i:])
		l.bat[i] = e
		if e == batFree {
			continue
		}
		// What of the last block the disk does not show may be missing.
		shown := min(l.block, int64(f.current)-int64(i)*l.block)
		if shown <= 0 {
			return image.Corruptf(img, name, "vhd-block-place", "block %d is allocated, past the end of the disk", i)
		}
		n := l.bitmap + shown
		if int64(e)*sector+n > end {
			return image.Corruptf(img, name, "vhd-block-place", "block %d is at sector %d, and does not fit before the footer of the file (%d bytes)", i, e, l.src.Size())
		}
		if !taken.Add(e, uint32(n/sector)) {
			return fault(image.TooLarge, img, "vhd-fragmented", fmt.Sprintf("the blocks lie in more than %d pieces", span.Max), "")
		}
	}
	if unit, found := taken.Overlap(); found {
		return image.Corruptf(img, name, "vhd-overlap", "two blocks, or a block and a table, lie over each other at sector %d", unit)
	}
	return ctx.Err()
}

// At implements blocks.Layout. A sector whose bit is clear was never written, and reads as zeros.
func (l *dynamic) At(off int64) (image.Kind, int64, int64, error) {
	b, in := off/l.block, off%l.block
	if l.bat[b] == batFree {
		return image.Hole, -1, l.block - in, nil
	}
	bits, err := l.bits(b)
	if err != nil {
		return 0, 0, 0, err
	}
	first := in / sector
	set := bit(bits, first)
	n := first + 1
	for n < l.block/sector && bit(bits, n) == set {
		if n%8 == 0 && (set && bits[n/8] == 0xff || !set && bits[n/8] == 0) {
			n += 8
			continue
		}
		n++
	}
	n = min(n, l.block/sector)
	kind, place := image.Zero, int64(-1)
	if set {
		kind, place = image.Data, int64(l.bat[b])*sector+l.bitmap+in
	}
	return kind, place, n*sector - in, nil
}

func bit(b []byte, i int64) bool { return b[i/8]&(0x80>>(i%8)) != 0 }

// bits gives the bitmap of a block.
func (l *dynamic) bits(block int64) ([]byte, error) {
	l.mu.Lock()
	b, ok := l.cache[block]
	l.mu.Unlock()
	if ok {
		return b, nil
	}
	b = make([]byte, l.bitmap)
	if err := image.ReadFull(l.src, b, int64(l.bat[block])*sector); err != nil {
		return nil, fmt.Errorf("%s: vpc: read the bitmap of block %d: %w", l.src.Name(), block, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.cache) >= cachedBitmaps {
		for k := range l.cache { // any one: disks are read in order
			delete(l.cache, k)
			break
		}
	}
	l.cache[block] = b
	return b, nil
}
