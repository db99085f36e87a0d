// Package vmdk reads and writes VMware's disks: hosted sparse extents (monolithicSparse, twoGbMaxExtentSparse), flat ones, and
// streamOptimized in the dialects of VMware, VirtualBox and qemu, from a file or from a pipe.
//
// It follows "Virtual Disk Format 5.0" (VMware, 2011) and, where that is silent or nobody keeps to it, what the readers in use accept.
// It never follows a chain: deltas, vmfsSparse and seSparse are refused. It opens further files only through image.Source.Sibling.
package vmdk

import (
	"encoding/binary"
	"fmt"

	"initd/v2v/image"
)

const (
	name   = "vmdk"
	sector = image.Sector

	magicSparse = "KDMV"
	magicCOWD   = "COWD"
	// magicSESparse is SESPARSE_CONST_HEADER_MAGIC, 0xcafebabe, as the u64 0x00000000cafebabe.
	magicSESparse = "\xbe\xba\xfe\xca\x00\x00\x00\x00"

	flagNewline    = 1 << 0 // the newline test is there
	flagRGD        = 1 << 1 // the redundant grain directory is there
	flagZeroGrain  = 1 << 2 // a grain table entry of 1 reads as zeros
	flagCompressed = 1 << 16
	flagMarkers    = 1 << 17

	compressNone    = 0
	compressDeflate = 1

	// gdAtEnd in the place of the grain directory's offset says that the footer has it.
	gdAtEnd = 1<<64 - 1

	newlineTest = "\n \r\n"

	markerEOS    = 0
	markerGT     = 1
	markerGD     = 2
	markerFooter = 3
	// markerProgress (4) is in files of vSphere, in no document, and has no body.
	markerProgress = 4

	// grainHead is the length of what stands before the data of a compressed grain: its LBA and its size.
	grainHead = 12

	cidNoParent = "ffffffff"
)

// Limits. Files beyond them are refused as too large, so that no header makes us ask for memory.
const (
	minGrain = 8        // sectors; what the specification and VirtualBox demand
	maxGrain = 8192     // sectors, 4 MiB: every worker holds two
	maxGTEs  = 512      // entries of a grain table
	maxGD    = 4 << 20  // entries of a grain directory: 128 TiB in usual grains
	maxSize  = 64 << 40 // bytes of virtual size; vSphere ends at 62 TiB
	maxFile  = 1 << 32  // sectors that a grain table can name
	// maxDescriptor is bytes of text, maxExtents lines in it.
	maxDescriptor = 2 << 20
	maxExtents    = 8192
)

// header is SparseExtentHeader; offsets and sizes are sectors.
type header struct {
	version, flags            uint32
	capacity, grain           uint64
	descOffset, descSize      uint64
	gtes                      uint32
	rgd, gd, overhead         uint64
	unclean                   bool
	newline                   string
	compress                  uint16
	grainBytes, coverageBytes int64 // of a grain, and of a grain table; set by check
}

func decodeHeader(b []byte) header {
	le := binary.LittleEndian
	return header{
		version: le.Uint32(b[4:]), flags: le.Uint32(b[8:]),
		capacity: le.Uint64(b[12:]), grain: le.Uint64(b[20:]),
		descOffset: le.Uint64(b[28:]), descSize: le.Uint64(b[36:]),
		gtes: le.Uint32(b[44:]),
		rgd:  le.Uint64(b[48:]), gd: le.Uint64(b[56:]), overhead: le.Uint64(b[64:]),
		unclean: b[72] != 0, newline: string(b[73:77]), compress: le.Uint16(b[77:]),
	}
}

// encode gives the sector of the header.
func (h header) encode() []byte {
	b := make([]byte, sector)
	le := binary.LittleEndian
	copy(b, magicSparse)
	le.PutUint32(b[4:], h.version)
	le.PutUint32(b[8:], h.flags)
	le.PutUint64(b[12:], h.capacity)
	le.PutUint64(b[20:], h.grain)
	le.PutUint64(b[28:], h.descOffset)
	le.PutUint64(b[36:], h.descSize)
	le.PutUint32(b[44:], h.gtes)
	le.PutUint64(b[48:], h.rgd)
	le.PutUint64(b[56:], h.gd)
	le.PutUint64(b[64:], h.overhead)
	copy(b[73:], newlineTest)
	le.PutUint16(b[77:], h.compress)
	return b
}

func (h header) has(flag uint32) bool { return h.flags&flag != 0 }

// compressed says that grains are stored as a stream of markers.
func (h header) compressed() bool { return h.has(flagCompressed) }

// tables is the number of grain tables that cover the disk.
func (h header) tables() int {
	return int((int64(h.capacity)*sector + h.coverageBytes - 1) / h.coverageBytes)
}

// gtSectors is the room of one grain table.
func (h header) gtSectors() uint32 { return (h.gtes*4 + sector - 1) / sector }

// check looks at all that the header says by itself, and sets what is computed from it. limit is OpenOptions.MaxSize.
func (h *header) check(img string, limit int64) error {
	switch {
	case h.version == 0:
		return corrupt(img, "vmdk-version", "the header has version 0")
	case h.version > 3:
		return unsupported(img, "vmdk-version", fmt.Sprintf("the header has version %d, and 1 to 3 are known", h.version), "convert it with the program that wrote it")
	case h.has(flagNewline) && h.newline != newlineTest:
		return corrupt(img, "vmdk-newline", "the line ends of the header were changed (%q): it was copied as a text", h.newline)
	case h.flags>>18 != 0:
		return unsupported(img, "vmdk-flags", fmt.Sprintf("the header has the flags %#x, of which %#x are not known", h.flags, h.flags>>18<<18), "convert it with the program that wrote it")
	case h.has(flagCompressed) != h.has(flagMarkers):
		return corrupt(img, "vmdk-flags", "the flags %#x say compressed or markers, and not both", h.flags)
	case h.compressed() && h.compress != compressDeflate, !h.compressed() && h.compress != compressNone:
		return corrupt(img, "vmdk-compression", "the flags %#x and the compression %d do not agree", h.flags, h.compress)
	case h.grain < minGrain || h.grain&(h.grain-1) != 0:
		return corrupt(img, "vmdk-grain", "a grain of %d sectors; it has to be a power of two of at least %d", h.grain, minGrain)
	case h.grain > maxGrain:
		return tooLarge(img, "vmdk-grain", "a grain of %d sectors; at most %d are read", h.grain, maxGrain)
	case h.gtes == 0 || h.gtes > maxGTEs:
		return corrupt(img, "vmdk-gtes", "grain tables of %d entries; 1 to %d are allowed", h.gtes, maxGTEs)
	case h.capacity > maxSize/sector:
		return tooLarge(img, "vmdk-size", "%d sectors; at most %d (64 TiB) are read", h.capacity, int64(maxSize/sector))
	case limit > 0 && h.capacity*sector > uint64(limit):
		return image.TooLargef(img, name, int64(h.capacity)*sector, limit)
	}
	h.grainBytes = int64(h.grain) * sector
	h.coverageBytes = h.grainBytes * int64(h.gtes)
	if h.tables() > maxGD {
		return tooLarge(img, "vmdk-tables", "%d grain tables; at most %d are read", h.tables(), maxGD)
	}
	if h.gd == gdAtEnd && !h.compressed() {
		return corrupt(img, "vmdk-gd", "the grain directory is said to be at the end, which only a streamOptimized disk may say")
	}
	return nil
}

// marker is a sector of a stream that is not a grain, or the head of a grain: for a grain value is its LBA, size that of its data.
type marker struct {
	value uint64
	size  uint32
	kind  uint32
}

func decodeMarker(b []byte) marker {
	m := marker{value: binary.LittleEndian.Uint64(b), size: binary.LittleEndian.Uint32(b[8:])}
	if m.size == 0 {
		m.kind = binary.LittleEndian.Uint32(b[12:])
	}
	return m
}

func (m marker) grain() bool { return m.size != 0 }

// encode gives the sector of a marker that is not a grain.
func (m marker) encode() []byte {
	b := make([]byte, sector)
	binary.LittleEndian.PutUint64(b, m.value)
	binary.LittleEndian.PutUint32(b[12:], m.kind)
	return b
}

// sectorsOf rounds up.
func sectorsOf(bytes int64) int64 { return (bytes + sector - 1) / sector }

func corrupt(img, code, what string, args ...any) error {
	return image.Corruptf(img, name, code, what, args...)
}

func tooLarge(img, code, what string, args ...any) error {
	return &image.Error{Fault: image.TooLarge, Code: code, Image: img, Format: name, What: fmt.Sprintf(what, args...)}
}

func unsupported(img, code, what, do string) error {
	return &image.Error{Fault: image.Unsupported, Code: code, Image: img, Format: name, What: what, Do: do}
}

func refused(img, code, what, do string) error {
	return &image.Error{Fault: image.Refused, Code: code, Image: img, Format: name, What: what, Do: do}
}
