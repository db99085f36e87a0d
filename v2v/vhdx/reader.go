package vhdx

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"initd/v2v/blocks"
	"initd/v2v/image"
	"initd/v2v/span"
)

func probe(head, _ []byte, _ int64) bool {
	return len(head) >= 8 && string(head[:8]) == fileMagic
}

// opening is a file that is being opened.
type opening struct {
	img  string
	in   io.ReaderAt // the file, or the file with its log
	size int64       // of in
	ids  ids
	p    parameters

	regions  span.Set // in MiB
	bat      region
	metadata region
	table    []uint32
	warnings []string
}

type region struct {
	at, length int64
	there      bool
}

func open(ctx context.Context, src image.Source, opt image.OpenOptions) (image.Reader, error) {
	img := src.Name()
	magic := make([]byte, 8)
	if src.Size() < 8 || image.ReadFull(src, magic, 0) != nil || string(magic) != fileMagic {
		return nil, &image.Error{Fault: image.NotThis, Code: "vhdx-magic", Image: img, Format: name, What: "it has no VHDX signature"}
	}
	if src.Size() < sectionEnd {
		return nil, corrupt(img, "vhdx-truncated", "it has %d bytes, less than its header section", src.Size())
	}
	o := &opening{img: img, in: src, size: src.Size(), ids: newIDs()}
	h, err := o.headers()
	if err != nil {
		return nil, err
	}
	var over io.ReaderAt
	if h.log != (guid{}) {
		l, err := replay(src, h)
		if err != nil {
			return nil, err
		}
		o.in, o.size, over = l, l.size, l
		o.warnings = append(o.warnings, "it was not closed by the program that wrote it; its log was replayed in memory, and the file left as it is")
	}
	// The log is a region like the others, without a line in their table.
	if h.logLength > 0 {
		if h.logLength%mib != 0 || h.logOffset%mib != 0 || h.logOffset < sectionEnd || h.logOffset > uint64(o.size) {
			return nil, corrupt(img, "vhdx-log", "a log of %d bytes at %d", h.logLength, h.logOffset)
		}
		o.regions.Add(uint32(h.logOffset/mib), h.logLength/mib)
	}
	for _, step := range []func() error{o.readRegions, o.readMetadata, func() error { return o.check(opt) }, func() error { return o.readBAT(ctx) }} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return blocks.NewReader(src, over, &layout{p: o.p, table: o.table}, o.info(h)), nil
}

// headers gives the header that counts: of the two the valid one with the higher sequence number.
func (o *opening) headers() (header, error) {
	var best header
	found := 0
	for i, at := range []int64{headerAt1, headerAt2} {
		b := make([]byte, headerSize)
		if err := image.ReadFull(o.in, b, at); err != nil {
			return best, fmt.Errorf("%s: vhdx: read a header: %w", o.img, err)
		}
		h, ok := decodeHeader(b)
		if !ok {
			o.warnings = append(o.warnings, fmt.Sprintf("header %d is damaged; the other one is read", i+1))
			continue
		}
		if found++; found == 1 || h.sequence > best.sequence {
			best = h
		}
	}
	switch {
	case found == 0:
		return best, corrupt(o.img, "vhdx-headers", "both headers are damaged")
	case best.version != 1:
		return best, fault(image.Unsupported, o.img, "vhdx-version", fmt.Sprintf("version %d; only 1 is read", best.version), "convert it with the program that wrote it")
	}
	return best, nil
}

// readRegions finds the table and the metadata, by the first copy of the region table that is whole.
func (o *opening) readRegions() error {
	var b []byte
	for i, at := range []int64{regionAt1, regionAt2} {
		t := make([]byte, regionSize)
		if err := image.ReadFull(o.in, t, at); err != nil {
			return fmt.Errorf("%s: vhdx: read the region table: %w", o.img, err)
		}
		if string(t[:4]) == regiMagic && binary.LittleEndian.Uint32(t[4:]) == checksum(t, 4) {
			if b == nil {
				b = t
			} else if string(b) != string(t) {
				o.warnings = append(o.warnings, "the two region tables differ; the first one is read")
			}
			continue
		}
		o.warnings = append(o.warnings, fmt.Sprintf("region table %d is damaged; the other one is read", i+1))
	}
	if b == nil {
		return corrupt(o.img, "vhdx-regions", "both region tables are damaged")
	}
	n := binary.LittleEndian.Uint32(b[8:])
	if n > maxRegions {
		return corrupt(o.img, "vhdx-regions", "the region table has %d entries; at most %d are allowed", n, maxRegions)
	}
	for i := range int(n) {
		if err := o.region(b[16+32*i:]); err != nil {
			return err
		}
	}
	if !o.bat.there || !o.metadata.there {
		return corrupt(o.img, "vhdx-regions", "the region table names no block allocation table, or no metadata")
	}
	if at, found := o.regions.Overlap(); found {
		return corrupt(o.img, "vhdx-overlap", "two regions, or a region and the log, lie over each other at %d MiB", at)
	}
	return nil
}

func (o *opening) region(b []byte) error {
	le := binary.LittleEndian
	id, at, length := guid(b[:16]), le.Uint64(b[16:]), le.Uint32(b[24:])
	required := le.Uint32(b[28:])&1 != 0
	if at%mib != 0 || length%mib != 0 || length == 0 || at < sectionEnd || at > uint64(o.size) || int64(at)+int64(length) > o.size {
		return corrupt(o.img, "vhdx-regions", "the region %s at %d, of %d bytes, does not fit the file of %d bytes", id, at, length, o.size)
	}
	if !o.regions.Add(uint32(at/mib), length/mib) {
		return corrupt(o.img, "vhdx-regions", "too many regions")
	}
	r := region{int64(at), int64(length), true}
	switch id {
	case o.ids.bat:
		if o.bat.there {
			return corrupt(o.img, "vhdx-regions", "the region table names two block allocation tables")
		}
		o.bat = r
	case o.ids.metadata:
		if o.metadata.there {
			return corrupt(o.img, "vhdx-regions", "the region table names two metadata regions")
		}
		o.metadata = r
	default:
		if required {
			return fault(image.Unsupported, o.img, "vhdx-unknown-region", fmt.Sprintf("it has the region %s, which must be known to read it, and is not", id), "convert it on Hyper-V")
		}
	}
	return nil
}

// readMetadata reads the items.
func (o *opening) readMetadata() error {
	b := make([]byte, metaTable)
	if err := image.ReadFull(o.in, b, o.metadata.at); err != nil {
		return fmt.Errorf("%s: vhdx: read the metadata: %w", o.img, err)
	}
	le := binary.LittleEndian
	n := int(le.Uint16(b[10:]))
	if string(b[:8]) != metaMagic || n > maxItems {
		return corrupt(o.img, "vhdx-metadata", "the metadata table is damaged")
	}
	seen := map[guid]bool{}
	for i := range n {
		e := b[32+32*i:][:32]
		id, at, length, flags := guid(e[:16]), int64(le.Uint32(e[16:])), int64(le.Uint32(e[20:])), le.Uint32(e[24:])
		if length > mib || length > 0 && at < metaTable || at+length > o.metadata.length {
			return corrupt(o.img, "vhdx-metadata", "the metadata item %s at %d, of %d bytes, does not fit its region", id, at, length)
		}
		if seen[id] {
			return corrupt(o.img, "vhdx-metadata", "the metadata item %s comes twice", id)
		}
		seen[id] = true
		if err := o.item(id, at, length, flags); err != nil {
			return err
		}
	}
	for _, id := range []guid{o.ids.parameters, o.ids.size, o.ids.logical} {
		if !seen[id] {
			return corrupt(o.img, "vhdx-metadata", "the metadata item %s is missing", id)
		}
	}
	return nil
}

func (o *opening) item(id guid, at, length int64, flags uint32) error {
	want := map[guid]int64{o.ids.parameters: 8, o.ids.size: 8, o.ids.logical: 4, o.ids.physical: 4, o.ids.page83: 16}[id]
	switch {
	case id == o.ids.locator:
		return refuseParent(o.img)
	case want == 0 && flags&flagRequired != 0:
		return fault(image.Unsupported, o.img, "vhdx-unknown-item", fmt.Sprintf("it has the metadata item %s, which must be known to read it, and is not", id), "convert it on Hyper-V")
	case want == 0:
		return nil
	case length != want:
		return corrupt(o.img, "vhdx-metadata", "the metadata item %s has %d bytes instead of %d", id, length, want)
	}
	b := make([]byte, want)
	if err := image.ReadFull(o.in, b, o.metadata.at+at); err != nil {
		return fmt.Errorf("%s: vhdx: read the metadata: %w", o.img, err)
	}
	le := binary.LittleEndian
	switch id {
	case o.ids.parameters:
		o.p.block, o.p.flags = le.Uint32(b), le.Uint32(b[4:])
	case o.ids.size:
		o.p.size = le.Uint64(b)
	case o.ids.logical:
		o.p.logical = le.Uint32(b)
	case o.ids.physical:
		o.p.physical = le.Uint32(b)
	case o.ids.page83:
		o.p.page83 = guid(b)
	}
	return nil
}

func refuseParent(img string) error {
	return fault(image.Refused, img, "vhdx-differencing", "it is a differencing disk: most of its data are in another file", "merge it into its parent (Hyper-V: Merge-VHD), and take the result")
}

// check looks at the parameters.
func (o *opening) check(opt image.OpenOptions) error {
	p := o.p
	switch {
	case p.flags&flagParent != 0:
		return refuseParent(o.img)
	case p.logical == 4096:
		return fault(image.Unsupported, o.img, "vhdx-4096", "the disk has sectors of 4096 bytes: partition tables count in them, so elsewhere it would not boot", "convert it on Hyper-V to a disk with sectors of 512 bytes")
	case p.logical != sector:
		return corrupt(o.img, "vhdx-sector", "sectors of %d bytes", p.logical)
	case p.block < minBlock || p.block > maxBlock || p.block&(p.block-1) != 0:
		return corrupt(o.img, "vhdx-block", "blocks of %d bytes; a power of two from 1 to 256 MiB is allowed", p.block)
	case p.size%sector != 0:
		return corrupt(o.img, "vhdx-size", "a size of %d bytes is no multiple of a sector", p.size)
	case p.size > maxSize:
		return fault(image.TooLarge, o.img, "vhdx-size", fmt.Sprintf("a size of %d bytes; the format ends at %d (64 TiB)", p.size, int64(maxSize)), "")
	case opt.MaxSize > 0 && p.size > uint64(opt.MaxSize):
		return image.TooLargef(o.img, name, int64(p.size), opt.MaxSize)
	case p.entries()*8 > o.bat.length:
		return corrupt(o.img, "vhdx-bat", "the block allocation table has room for %d entries, and the disk needs %d", o.bat.length/8, p.entries())
	case p.entries() > maxEntries:
		return fault(image.TooLarge, o.img, "vhdx-bat", fmt.Sprintf("a table of %d blocks; at most %d are read", p.entries(), maxEntries), "")
	}
	return nil
}

// In the table that is kept an entry has its state in the upper three bits, and its place in MiB below.
const placeBits = 29

// readBAT reads the block allocation table, and looks at every block's place.
func (o *opening) readBAT(ctx context.Context) error {
	p := o.p
	ratio, entries := p.ratio(), p.entries()
	o.table = make([]uint32, p.blocks())
	room := (o.size + mib - 1) / mib
	raw := make([]byte, 64*kib)
	block := int64(0)
	for i := int64(0); i < entries; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(entries-i, int64(len(raw))/8)
		if err := image.ReadFull(o.in, raw[:8*n], o.bat.at+8*i); err != nil {
			return fmt.Errorf("%s: vhdx: read the block allocation table: %w", o.img, err)
		}
		for j := range n {
			e := binary.LittleEndian.Uint64(raw[8*j:])
			state, at := e&7, int64(e>>20)
			if (i+j)%(ratio+1) == ratio {
				// The entry of a sector bitmap: only differencing disks have those.
				if state == statePresent {
					return corrupt(o.img, "vhdx-bat", "the table names a sector bitmap, which only a differencing disk has")
				}
				continue
			}
			if err := o.block(block, state, at, room); err != nil {
				return err
			}
			block++
		}
		i += n
	}
	if at, found := o.regions.Overlap(); found {
		return corrupt(o.img, "vhdx-overlap", "two blocks, or a block and a region, lie over each other at %d MiB", at)
	}
	return nil
}

// block takes the entry of a block: its state and its place in MiB.
func (o *opening) block(block int64, state uint64, at, room int64) error {
	switch state {
	case stateNotPresent, stateUndefined, stateZero, stateUnmapped, stateUnmapped5:
		o.table[block] = uint32(state) << placeBits
		return nil
	case statePartial:
		return refuseParent(o.img)
	case statePresent:
	default:
		return corrupt(o.img, "vhdx-bat", "block %d has the unknown state %d", block, state)
	}
	shown := min(int64(o.p.block), int64(o.p.size)-block*int64(o.p.block))
	if at < 1 || at >= room || at >= 1<<placeBits || at*mib+shown > o.size {
		return corrupt(o.img, "vhdx-block-place", "block %d is at %d MiB, and does not fit the file of %d bytes", block, at, o.size)
	}
	if !o.regions.Add(uint32(at), uint32((shown+mib-1)/mib)) {
		return fault(image.TooLarge, o.img, "vhdx-fragmented", fmt.Sprintf("the blocks lie in more than %d pieces", span.Max), "")
	}
	o.table[block] = uint32(state)<<placeBits | uint32(at)
	return nil
}

func (o *opening) info(h header) image.Info {
	info := image.Info{Format: name, Subformat: "dynamic", Size: int64(o.p.size), Unit: int64(o.p.block), Warnings: o.warnings, Details: []image.Detail{
		{Name: "logicalSectorSize", Value: fmt.Sprint(o.p.logical)}, {Name: "physicalSectorSize", Value: fmt.Sprint(o.p.physical)},
		{Name: "virtualDiskId", Value: o.p.page83.String()}, {Name: "dataWriteGuid", Value: h.dataWrite.String()}}}
	if o.p.flags&flagKeepBlocks != 0 {
		info.Subformat = "fixed"
	}
	return info
}

// layout is the table of blocks.
type layout struct {
	p     parameters
	table []uint32
}

// At implements blocks.Layout.
func (l *layout) At(off int64) (image.Kind, int64, int64, error) {
	b, in := off/int64(l.p.block), off%int64(l.p.block)
	length := int64(l.p.block) - in
	e := l.table[b]
	switch e >> placeBits {
	case statePresent:
		return image.Data, int64(e&(1<<placeBits-1))*mib + in, length, nil
	case stateZero:
		return image.Zero, -1, length, nil
	}
	return image.Hole, -1, length, nil
}
