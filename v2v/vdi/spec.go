// Package vdi reads and writes VirtualBox's disks, of the types dynamic and static.
//
// There is no specification; it follows VirtualBox's VDICore.h and VDI.cpp, and what qemu accepts. Differencing and undo images are
// refused: it never follows a chain.
package vdi

import (
	"encoding/binary"
	"fmt"

	"initd/v2v/image"
)

const (
	name   = "vdi"
	sector = image.Sector

	signature   = 0xbeda107f
	version     = 0x00010001
	headerSize  = 512
	headerBytes = 0x190 // what VirtualBox says of the header's length, which ends after the geometry of the logical disk

	typeDynamic = 1
	typeStatic  = 2
	typeUndo    = 3
	typeDiff    = 4

	blockFree = 0xffffffff
	blockZero = 0xfffffffe

	banner = "<<< Oracle VM VirtualBox Disk Image >>>\n"

	writeBlock = 1 << 20
)

// Limits.
const (
	minBlock  = 4 << 10
	maxBlock  = 64 << 20
	maxBlocks = 16 << 20 // 64 MiB of map; 16 TiB in usual blocks
)

// header has the fields that matter, by VDICore.h (VDIHEADER1PLUS); offsets in the file, sizes in bytes.
type header struct {
	headerLen          uint32
	kind               uint32
	mapOffset          uint32
	dataOffset         uint32
	sectorSize         uint32
	size               uint64
	block, extra       uint32
	blocks, allocated  uint32
	uuid, modify       [16]byte
	link, parent       [16]byte
	signature, version uint32
}

func decode(b []byte) header {
	le := binary.LittleEndian
	h := header{
		signature: le.Uint32(b[64:]), version: le.Uint32(b[68:]), headerLen: le.Uint32(b[72:]), kind: le.Uint32(b[76:]),
		mapOffset: le.Uint32(b[340:]), dataOffset: le.Uint32(b[344:]), sectorSize: le.Uint32(b[360:]), size: le.Uint64(b[368:]),
		block: le.Uint32(b[376:]), extra: le.Uint32(b[380:]), blocks: le.Uint32(b[384:]), allocated: le.Uint32(b[388:]),
	}
	copy(h.uuid[:], b[392:])
	copy(h.modify[:], b[408:])
	copy(h.link[:], b[424:])
	copy(h.parent[:], b[440:])
	return h
}

func (h header) encode() []byte {
	b := make([]byte, headerSize)
	le := binary.LittleEndian
	copy(b, banner)
	le.PutUint32(b[64:], signature)
	le.PutUint32(b[68:], version)
	le.PutUint32(b[72:], headerBytes)
	le.PutUint32(b[76:], h.kind)
	le.PutUint32(b[340:], h.mapOffset)
	le.PutUint32(b[344:], h.dataOffset)
	le.PutUint32(b[360:], sector)
	le.PutUint64(b[368:], h.size)
	le.PutUint32(b[376:], h.block)
	le.PutUint32(b[384:], h.blocks)
	le.PutUint32(b[388:], h.allocated)
	copy(b[392:], h.uuid[:])
	copy(b[408:], h.modify[:])
	return b
}

// check refuses what should not be read; fileSize is in bytes.
func (h header) check(img string, fileSize int64, opt image.OpenOptions) error {
	var null [16]byte
	again := "convert it with the program that wrote it"
	switch {
	case h.signature != signature:
		return &image.Error{Fault: image.NotThis, Code: "vdi-magic", Image: img, Format: name, What: "it has no VDI signature"}
	case h.version != version:
		return fault(image.Unsupported, img, "vdi-version", fmt.Sprintf("version %d.%d; only 1.1 is read", h.version>>16, h.version&0xffff), again)
	case h.kind == typeDiff || h.kind == typeUndo || h.link != null || h.parent != null:
		return fault(image.Refused, img, "vdi-differencing", "it is a differencing image: most of its data are in another one", "merge the snapshots, or clone the disk, and take the result")
	case h.kind != typeDynamic && h.kind != typeStatic:
		return image.Corruptf(img, name, "vdi-type", "the type %d is not known", h.kind)
	case h.headerLen < 0x180 || h.headerLen > 1<<20:
		return image.Corruptf(img, name, "vdi-header", "a header of %d bytes", h.headerLen)
	case h.sectorSize != sector:
		return fault(image.Unsupported, img, "vdi-sector", fmt.Sprintf("sectors of %d bytes; only %d are read", h.sectorSize, sector), again)
	case h.size%sector != 0:
		return image.Corruptf(img, name, "vdi-size", "a virtual size of %d bytes is no multiple of a sector", h.size)
	case h.block < minBlock || h.block > maxBlock || h.block&(h.block-1) != 0:
		return image.Corruptf(img, name, "vdi-block", "blocks of %d bytes; a power of two from %d to %d is read", h.block, minBlock, maxBlock)
	case h.extra != 0:
		return fault(image.Unsupported, img, "vdi-extra", fmt.Sprintf("%d bytes before each block are not read", h.extra), again)
	case h.blocks > maxBlocks:
		return fault(image.TooLarge, img, "vdi-blocks", fmt.Sprintf("a map of %d blocks; at most %d are read", h.blocks, maxBlocks), "")
	case h.size > uint64(h.blocks)*uint64(h.block):
		return image.Corruptf(img, name, "vdi-blocks", "%d blocks of %d bytes do not hold the virtual size of %d bytes", h.blocks, h.block, h.size)
	case h.allocated > h.blocks:
		return image.Corruptf(img, name, "vdi-allocated", "%d blocks are said to be allocated, of %d", h.allocated, h.blocks)
	case h.mapOffset%sector != 0 || h.dataOffset%sector != 0:
		return image.Corruptf(img, name, "vdi-offset", "the map at %d, or the data at %d, do not begin at a sector", h.mapOffset, h.dataOffset)
	case h.mapOffset < headerSize || int64(h.mapOffset)+4*int64(h.blocks) > fileSize:
		return image.Corruptf(img, name, "vdi-map", "the map at %d, of %d blocks, does not fit the file of %d bytes", h.mapOffset, h.blocks, fileSize)
	case int64(h.dataOffset) < headerSize || int64(h.dataOffset) < int64(h.mapOffset)+4*int64(h.blocks) && int64(h.dataOffset)+int64(h.block) > int64(h.mapOffset) && h.blocks > 0:
		return image.Corruptf(img, name, "vdi-overlap", "the data at %d lie over the map at %d", h.dataOffset, h.mapOffset)
	case opt.MaxSize > 0 && h.size > uint64(opt.MaxSize):
		return image.TooLargef(img, name, int64(h.size), opt.MaxSize)
	}
	return nil
}

func fault(f image.Fault, img, code, what, do string) error {
	return &image.Error{Fault: f, Code: code, Image: img, Format: name, What: what, Do: do}
}
