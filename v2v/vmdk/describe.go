package vmdk

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"
)

// identity is what tells one disk from another.
type identity struct {
	// CID changes with the content; ffffffff and fffffffe have meanings of their own.
	CID uint32
	// LongContentID is 32 hexadecimal digits that end with the CID.
	LongContentID string
}

func newID() identity {
	var b [16]byte
	for {
		_, _ = rand.Read(b[:]) // it never fails
		cid := uint32(b[12])<<24 | uint32(b[13])<<16 | uint32(b[14])<<8 | uint32(b[15])
		if cid != 0 && cid < 0xfffffffe {
			return identity{CID: cid, LongContentID: hex.EncodeToString(b[:])}
		}
	}
}

// description makes the descriptor of a disk once its extents are known.
type description struct {
	set     settings
	id      identity
	sectors int64
}

func describe(set settings, id identity, size int64) description {
	return description{set: set, id: id, sectors: size / sector}
}

// text gives the descriptor. The key and its value are written without spaces above, and with them in the database, as all readers know it.
func (d description) text(extents []extentLine) []byte {
	var b strings.Builder
	encoding := ""
	for _, e := range extents {
		if strings.ContainsFunc(e.file, func(r rune) bool { return r >= utf8.RuneSelf }) {
			encoding = "encoding=\"UTF-8\"\n"
		}
	}
	fmt.Fprintf(&b, "# Disk DescriptorFile\nversion=1\n%sCID=%08x\nparentCID=%s\ncreateType=\"%s\"\n\n# Extent description\n", encoding, d.id.CID, cidNoParent, d.set.subformat)
	for _, e := range extents {
		fmt.Fprintf(&b, "%s %d %s \"%s\"", e.access, e.sectors, e.kind, e.file)
		if e.kind == "FLAT" {
			fmt.Fprintf(&b, " %d", e.offset)
		}
		b.WriteByte('\n')
	}
	c, h, s := d.geometry()
	fmt.Fprintf(&b, "\n# The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"%s\"\nddb.geometry.cylinders = \"%d\"\nddb.geometry.heads = \"%d\"\nddb.geometry.sectors = \"%d\"\n"+
		"ddb.adapterType = \"%s\"\nddb.longContentID = \"%s\"\nddb.toolsVersion = \"2147483647\"\n", d.set.hardware, c, h, s, d.set.adapter, d.id.LongContentID)
	return []byte(b.String())
}

// geometry is what the BIOS of the virtual machine is to say; a disk is as large as its extents, whatever this comes to.
func (d description) geometry() (cylinders int64, heads, sectors int) {
	heads, sectors = 16, 63
	if d.set.adapter != "ide" {
		heads = 255
	}
	cylinders = d.sectors / int64(heads*sectors)
	if d.set.adapter == "ide" {
		cylinders = min(cylinders, 16383) // ATA-4
	}
	return cylinders, heads, sectors
}
