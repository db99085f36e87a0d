// Package vhdx reads and writes the disks of Hyper-V since 2012, by [MS-VHDX]. A log that was not yet replayed is replayed on read, in memory:
// the file is left as it is.
//
// Differencing disks are refused: it never follows a chain.
package vhdx

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"initd/v2v/image"
)

const (
	name   = "vhdx"
	sector = image.Sector
	kib    = 1 << 10
	mib    = 1 << 20

	fileMagic = "vhdxfile"
	headMagic = "head"
	regiMagic = "regi"
	metaMagic = "metadata"

	// [MS-VHDX] 2.2: the header section.
	headerAt1, headerAt2 = 64 * kib, 128 * kib
	regionAt1, regionAt2 = 192 * kib, 256 * kib
	headerSize           = 4 * kib
	regionSize           = 64 * kib
	sectionEnd           = mib // the header section; regions begin behind it
	maxRegions           = 2047
	maxItems             = 2047

	metaTable = 64 * kib

	stateNotPresent = 0
	stateUndefined  = 1
	stateZero       = 2
	stateUnmapped   = 3
	stateUnmapped5  = 5 // in old files
	statePresent    = 6
	statePartial    = 7

	flagKeepBlocks = 1 << 0
	flagParent     = 1 << 1

	flagRequired = 1 << 2
	flagDisk     = 1 << 1

	minBlock = mib
	maxBlock = 256 * mib
	maxSize  = 64 << 40

	// Limits of reading.
	maxEntries = 24 << 20 // of the block allocation table, of which each costs 4 bytes
	maxLog     = 64 * mib
)

type guid [16]byte

// parseGUID reads the usual notation; the first three groups are stored little-endian.
func parseGUID(s string) (g guid) {
	var a uint32
	var b, c uint16
	var rest [8]byte
	n, err := fmt.Sscanf(s, "%08X-%04X-%04X-%02X%02X-%02X%02X%02X%02X%02X%02X", &a, &b, &c, &rest[0], &rest[1], &rest[2], &rest[3], &rest[4], &rest[5], &rest[6], &rest[7])
	if err != nil || n != 11 {
		panic("vhdx: " + s + " is no GUID") // a constant of this package
	}
	binary.LittleEndian.PutUint32(g[0:], a)
	binary.LittleEndian.PutUint16(g[4:], b)
	binary.LittleEndian.PutUint16(g[6:], c)
	copy(g[8:], rest[:])
	return g
}

func (g guid) String() string {
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", binary.LittleEndian.Uint32(g[0:]), binary.LittleEndian.Uint16(g[4:]), binary.LittleEndian.Uint16(g[6:]), g[8:10], g[10:])
}

// ids are the GUIDs of regions and metadata items ([MS-VHDX] 2.2.3.2 and 2.6.2).
type ids struct {
	bat, metadata                                        guid
	parameters, size, logical, physical, page83, locator guid
}

func newIDs() ids {
	return ids{
		bat:        parseGUID("2DC27766-F623-4200-9D64-115E9BFD4A08"),
		metadata:   parseGUID("8B7CA206-4790-4B9A-B8FE-575F050F886E"),
		parameters: parseGUID("CAA16737-FA36-4D43-B3B6-33F0AA44E76B"),
		size:       parseGUID("2FA54224-CD1B-4876-B211-5DBED83BF4B8"),
		logical:    parseGUID("8141BF1D-A96F-4709-BA47-F233A8FAAB5F"),
		physical:   parseGUID("CDA348C7-445D-4471-9CC9-E9885251C556"),
		page83:     parseGUID("BECA12AB-B2E6-4523-93EF-C309E000C746"),
		locator:    parseGUID("A8D35F2D-B30B-454D-ABF7-D3D84834AB0C"),
	}
}

// checksum is CRC-32C over b with four bytes at field taken for zeros.
func checksum(b []byte, field int) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	c := crc32.Update(0, table, b[:field])
	c = crc32.Update(c, table, []byte{0, 0, 0, 0})
	return crc32.Update(c, table, b[field+4:])
}

// header is one of the two headers ([MS-VHDX] 2.2.2).
type header struct {
	sequence             uint64
	fileWrite, dataWrite guid
	log                  guid
	logVersion, version  uint16
	logLength            uint32
	logOffset            uint64
}

// decodeHeader says no to what has no signature or a wrong checksum.
func decodeHeader(b []byte) (header, bool) {
	le := binary.LittleEndian
	if string(b[:4]) != headMagic || le.Uint32(b[4:]) != checksum(b, 4) {
		return header{}, false
	}
	h := header{sequence: le.Uint64(b[8:]), logVersion: le.Uint16(b[64:]), version: le.Uint16(b[66:]), logLength: le.Uint32(b[68:]), logOffset: le.Uint64(b[72:])}
	copy(h.fileWrite[:], b[16:])
	copy(h.dataWrite[:], b[32:])
	copy(h.log[:], b[48:])
	return h, true
}

func (h header) encode() []byte {
	b := make([]byte, headerSize)
	le := binary.LittleEndian
	copy(b, headMagic)
	le.PutUint64(b[8:], h.sequence)
	copy(b[16:], h.fileWrite[:])
	copy(b[32:], h.dataWrite[:])
	copy(b[48:], h.log[:])
	le.PutUint16(b[64:], h.logVersion)
	le.PutUint16(b[66:], h.version)
	le.PutUint32(b[68:], h.logLength)
	le.PutUint64(b[72:], h.logOffset)
	le.PutUint32(b[4:], checksum(b, 4))
	return b
}

// parameters are what the metadata say of the disk.
type parameters struct {
	block   uint32
	flags   uint32
	size    uint64
	logical uint32
	// physical and page83 are for Info only.
	physical uint32
	page83   guid
}

// ratio is how many payload blocks a sector bitmap block stands for ([MS-VHDX] 2.5): in the table one entry follows so many.
func (p parameters) ratio() int64 { return (1 << 23) * int64(p.logical) / int64(p.block) }

func (p parameters) blocks() int64 { return (int64(p.size) + int64(p.block) - 1) / int64(p.block) }

// entries is the length of the table of a disk without a parent.
func (p parameters) entries() int64 {
	n := p.blocks()
	if n == 0 {
		return 0
	}
	return n + (n-1)/p.ratio()
}

func (p parameters) index(block int64) int64 { return block + block/p.ratio() }

func fault(f image.Fault, img, code, what, do string) error {
	return &image.Error{Fault: f, Code: code, Image: img, Format: name, What: what, Do: do}
}

func corrupt(img, code, what string, args ...any) error {
	return image.Corruptf(img, name, code, what, args...)
}
