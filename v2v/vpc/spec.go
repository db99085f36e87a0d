// Package vpc reads and writes VHD, the disks of Virtual PC and Hyper-V (before VHDX), fixed and dynamic. vpc is qemu-img's name.
//
// It follows the "Virtual Hard Disk Image Format Specification" 1.0 (Microsoft, 2006), with the size of the footer's field as the size of
// the disk. Differencing disks are refused: it never follows a chain.
package vpc

import (
	"encoding/binary"
	"fmt"

	"initd/v2v/image"
)

const (
	name   = "vpc"
	sector = image.Sector

	cookie        = "conectix"
	dynamicCookie = "cxsparse"
	footerSize    = 512
	dynamicSize   = 1024
	version       = 0x00010000

	typeFixed        = 2
	typeDynamic      = 3
	typeDifferencing = 4

	noOffset = 1<<64 - 1
	batFree  = 0xffffffff

	// creator is what qemu-img writes when the size in the footer is exact. Readers that trust the geometry instead know it as one whose size counts.
	creator        = "qem2"
	creatorVersion = 0x00050003
	creatorOS      = "Wi2k"
	// creatorCHS is for sizes that the geometry expresses exactly (force_size=off).
	creatorCHS = "qemu"

	// epoch is 2000-01-01 00:00 UTC, where the time stamp begins.
	epoch = 946684800

	maxSectors = 0xff000000 // 2040 GiB, what a BAT can address with room for the bitmaps
	writeBlock = 2 << 20

	// Limits of reading.
	minBlock   = 4 << 10
	maxBlock   = 256 << 20
	maxEntries = 8 << 20 // 32 MiB of table
)

// footer has the fields of the footer that matter; sizes in bytes.
type footer struct {
	features, version uint32
	dataOffset        uint64
	stamp             uint32
	creator           string
	creatorOS         string
	original, current uint64
	cylinders         uint16
	heads, spt        uint8
	kind              uint32
	checksum          uint32
	id                [16]byte
	saved             bool
}

func decodeFooter(b []byte) footer {
	be := binary.BigEndian
	f := footer{
		features: be.Uint32(b[8:]), version: be.Uint32(b[12:]), dataOffset: be.Uint64(b[16:]), stamp: be.Uint32(b[24:]),
		creator: string(b[28:32]), creatorOS: string(b[36:40]), original: be.Uint64(b[40:]), current: be.Uint64(b[48:]),
		cylinders: be.Uint16(b[56:]), heads: b[58], spt: b[59], kind: be.Uint32(b[60:]), checksum: be.Uint32(b[64:]), saved: b[84] != 0,
	}
	copy(f.id[:], b[68:])
	return f
}

func (f footer) encode() []byte {
	b := make([]byte, footerSize)
	be := binary.BigEndian
	copy(b, cookie)
	be.PutUint32(b[8:], 2) // reserved, always set
	be.PutUint32(b[12:], version)
	be.PutUint64(b[16:], f.dataOffset)
	be.PutUint32(b[24:], f.stamp)
	copy(b[28:], f.creator)
	be.PutUint32(b[32:], creatorVersion)
	copy(b[36:], creatorOS)
	be.PutUint64(b[40:], f.current)
	be.PutUint64(b[48:], f.current)
	be.PutUint16(b[56:], f.cylinders)
	b[58], b[59] = f.heads, f.spt
	be.PutUint32(b[60:], f.kind)
	copy(b[68:], f.id[:])
	be.PutUint32(b[64:], checksum(b, 64))
	return b
}

// checksum is the ones' complement of the sum of all bytes but the four of the checksum itself.
func checksum(b []byte, field int) uint32 {
	sum := uint32(0)
	for i, c := range b {
		if i < field || i >= field+4 {
			sum += uint32(c)
		}
	}
	return ^sum
}

// chs is the size that the geometry comes to, in bytes.
func (f footer) chs() uint64 {
	return uint64(f.cylinders) * uint64(f.heads) * uint64(f.spt) * sector
}

// check is for what holds for every footer. place is for messages.
func (f footer) check(img, place string, b []byte) error {
	switch {
	case f.checksum != checksum(b, 64):
		return image.Corruptf(img, name, "vhd-checksum", "the checksum of the %s is %08x, and its bytes have %08x", place, f.checksum, checksum(b, 64))
	case f.version>>16 != version>>16:
		return fault(image.Unsupported, img, "vhd-version", fmt.Sprintf("version %d.%d; only 1.0 is read", f.version>>16, f.version&0xffff), "convert it with the program that wrote it")
	case f.kind == typeDifferencing:
		return fault(image.Refused, img, "vhd-differencing", "it is a differencing disk: most of its data are in another file", "merge it into its parent (Hyper-V: Merge-VHD), and take the result")
	case f.kind != typeFixed && f.kind != typeDynamic:
		return image.Corruptf(img, name, "vhd-type", "the type %d is not known", f.kind)
	case f.current%sector != 0:
		return image.Corruptf(img, name, "vhd-size", "a size of %d bytes is no multiple of a sector", f.current)
	case f.kind == typeFixed && f.current > 1<<50, f.kind == typeDynamic && f.current > maxSectors*sector:
		return fault(image.TooLarge, img, "vhd-size", fmt.Sprintf("a size of %d bytes; the format ends at %d (2040 GiB)", f.current, int64(maxSectors*sector)), "")
	}
	return nil
}

// warnings are what is odd, and does not keep a disk from being read.
func (f footer) warnings() []string {
	var out []string
	if f.saved {
		out = append(out, "the virtual machine is in a saved state (the footer says so); what it had not yet written is lost")
	}
	if !sizeCounts(f) && f.chs() != f.current {
		out = append(out, fmt.Sprintf("the size is %d bytes; qemu-img takes the geometry's %d, because of the creator %q", f.current, f.chs(), f.creator))
	}
	return out
}

// sizeCounts says whether qemu takes the footer's size, and not the geometry, for the size of a disk (block/vpc.c, vpc_open).
func sizeCounts(f footer) bool {
	switch f.creator {
	case "win ", "qem2", "d2v ", "CTXS", "tap\x00":
		return true
	}
	return f.cylinders == 65535 && f.heads == 16 && f.spt == 255
}

// geometry is the specification's algorithm (appendix, "CHS Calculation"), for a number of sectors.
func geometry(sectors int64) (cylinders uint16, heads, spt uint8) {
	sectors = min(sectors, 65535*16*255)
	var h, s, t int64
	if sectors >= 65535*16*63 {
		h, s = 16, 255
		t = sectors / s
	} else {
		s = 17
		t = sectors / s
		h = max(4, (t+1023)/1024)
		if t >= h*1024 || h > 16 {
			h, s = 16, 31
			t = sectors / s
		}
		if t >= h*1024 {
			h, s = 16, 63
			t = sectors / s
		}
	}
	return uint16(t / h), uint8(h), uint8(s)
}

// roundToCHS is the least size that the geometry expresses exactly and that holds this many sectors, as qemu-img rounds without force_size.
func roundToCHS(sectors int64) int64 {
	if sectors > 65535*16*255 {
		return sectors
	}
	for i := int64(0); ; i++ {
		c, h, s := geometry(sectors + i)
		if n := int64(c) * int64(h) * int64(s); n >= sectors {
			return n
		}
	}
}

func fault(f image.Fault, img, code, what, do string) error {
	return &image.Error{Fault: f, Code: code, Image: img, Format: name, What: what, Do: do}
}
