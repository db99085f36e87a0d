// Package media reads what is written on a medium: the signatures of file systems, encrypted volumes, arrays and
// partition tables, with the names that udev makes of them.
//
// It owns the on-disk formats as far as recognising and naming them goes, and follows libblkid (util-linux, the library
// behind udev's blkid builtin) in what counts as recognised, in what order, and what is ambivalent. It needs nothing of the
// kernel but reads. It trusts no byte: memory is bounded, checksums are verified where the format has them, and a read error is
// an error, never 'nothing there'. It never writes and never opens a device by itself, except ProbeDevice, which blocks as long as
// the device does and therefore belongs in a child process.
package media

import (
	"fmt"
	"io"
)

// Usage sorts types by what may be done with them, in libblkid's words.
type Usage string

const (
	Filesystem Usage = "filesystem" // can be mounted
	RAID       Usage = "raid"       // a member that something assembles: LVM2_member, linux_raid_member
	Crypto     Usage = "crypto"     // can be unlocked
	Other      Usage = "other"      // swap, journals
)

// Signature is one recognised format.
type Signature struct {
	// Type is libblkid's name: crypto_LUKS, ext4, xfs, btrfs, vfat, swap, LVM2_member, linux_raid_member, iso9660 ….
	Type    string `json:"type"`
	Usage   Usage  `json:"usage"`
	Version string `json:"version,omitempty"`
	// UUID and Label are as the format shows them, not yet encoded for a link; "" where there is none.
	UUID  string `json:"uuid,omitempty"`
	Label string `json:"label,omitempty"`
}

// Content is what a medium holds. The zero value is an empty medium.
type Content struct {
	// Signature is nil where none was recognised, or where several were and none of them rules the others out.
	Signature *Signature `json:"signature,omitempty"`
	// Ambivalent lists the types in that last case: such a medium has no name by content and must not be used unasked.
	Ambivalent []string `json:"ambivalent,omitempty"`
	// Table is the partition table, nil where there is none. An image of an install medium has a table and a signature.
	Table *Table `json:"table,omitempty"`
}

// Table is a partition table.
type Table struct {
	// Type is gpt or dos, or PMBR where a protective MBR announces a GPT that cannot be read: no blank disk.
	Type string `json:"type"`
	UUID string `json:"uuid,omitempty"`
	// Partitions are in the table's order; the extended partition of a dos table is among them.
	Partitions []Partition `json:"partitions,omitempty"`
	// Damage says what is wrong with a table that could still be read: "primary header: bad checksum; read from the backup".
	Damage string `json:"damage,omitempty"`
}

// Partition is one entry. Start and Size are in bytes.
type Partition struct {
	Number int    `json:"number"` // the kernel's: vda1 is 1
	Start  uint64 `json:"start"`
	Size   uint64 `json:"size"`
	UUID   string `json:"uuid,omitempty"`
	Label  string `json:"label,omitempty"`
	Type   string `json:"type,omitempty"` // a GUID in lower case, or 0x83
}

// Medium is what is to be read.
type Medium struct {
	io.ReaderAt
	Size int64 // bytes
	// SectorSize is the logical sector size in bytes, on which partition tables count; 0 stands for 512.
	SectorSize int
}

// format recognises one kind of signature. It returns nil where the medium has none of its kind; read errors stay with
// the reader.
type format struct {
	name  string
	probe func(*reader) *Signature
	// exclusive formats hide everything after them, as libblkid has it: what shows of a file system inside an array or an encrypted
	// volume is not to be used from outside.
	exclusive bool
	// tolerant formats may stand beside others without being ambivalent: isohybrid images are vfat or hfs too.
	tolerant bool
}

// formats is in libblkid's order (libblkid/src/superblocks/superblocks.c, idinfos): arrays, encryption, then the rest.
func formats() []format {
	return []format{
		{name: "linux_raid_member", probe: probeMDRaid, exclusive: true},
		{name: "LVM2_member", probe: probeLVM2, exclusive: true},
		{name: "crypto_LUKS", probe: probeLUKS, exclusive: true},
		{name: "vfat", probe: probeVFAT},
		{name: "swap", probe: probeSwap},
		{name: "xfs", probe: probeXFS},
		{name: "ext", probe: probeExt},
		{name: "iso9660", probe: probeISO9660, tolerant: true},
		{name: "ntfs", probe: probeNTFS},
		{name: "exfat", probe: probeExFAT},
		{name: "btrfs", probe: probeBtrfs},
	}
}

// Probe reads the signatures and the partition table of a medium. It reads some tens of KiB, and of a partition table up to
// 1 MiB twice. An error means that the medium could not be read; there is then no content to rely on.
func Probe(medium Medium) (Content, error) {
	r := &reader{medium: medium}
	if r.medium.SectorSize == 0 {
		r.medium.SectorSize = 512
	}
	var content Content
	content.Table = probeTable(r)
	r.table = content.Table

	var found []*Signature
	intolerant := false
	for _, f := range formats() {
		signature := f.probe(r)
		if r.err != nil {
			return Content{}, r.err
		}
		if signature == nil {
			continue
		}
		found = append(found, signature)
		if f.exclusive {
			break
		}
		intolerant = intolerant || !f.tolerant
	}
	if r.err != nil {
		return Content{}, r.err
	}
	if len(found) > 1 && intolerant && !isExclusive(found[0]) {
		for _, signature := range found {
			content.Ambivalent = append(content.Ambivalent, signature.Type)
		}
		return content, nil
	}
	if len(found) > 0 {
		content.Signature = found[0]
	}
	return content, nil
}

func isExclusive(s *Signature) bool { return s.Usage == RAID || s.Usage == Crypto }

// reader reads ranges of a medium; a range that is not wholly on it reads as nil. The first failed read is kept, and makes
// every later one nil too.
type reader struct {
	medium Medium
	// table is what probeTable found, for the formats that must not be taken from inside a partition.
	table *Table
	err   error
}

func (r *reader) at(offset int64, length int) []byte {
	if r.err != nil || offset < 0 || length <= 0 || offset > r.medium.Size-int64(length) {
		return nil
	}
	buffer := make([]byte, length)
	n, err := r.medium.ReadAt(buffer, offset)
	if n < length {
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		r.err = fmt.Errorf("read %d bytes at %d: %w", length, offset, err)
		return nil
	}
	return buffer
}

// magic says whether text stands at offset.
func (r *reader) magic(offset int64, text string) bool {
	got := r.at(offset, len(text))
	return got != nil && string(got) == text
}

// covered says whether a partition of the table holds any of that range: then it belongs to the partition, not to the disk.
func (r *reader) covered(offset, length int64) bool {
	if r.table == nil {
		return false
	}
	for _, p := range r.table.Partitions {
		if uint64(offset) < p.Start+p.Size && p.Start < uint64(offset+length) {
			return true
		}
	}
	return false
}
