package media

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// The ext2, ext3 and ext4 superblock (kernel, fs/ext4/ext4.h, struct ext4_super_block).
const (
	extAt         = 1024
	extSize       = 1024
	extMagic      = 0xEF53
	extMagicAt    = 0x38
	extMinorAt    = 0x3e
	extRevisionAt = 0x4c
	extCompatAt   = 0x5c
	extIncompatAt = 0x60
	extROCompatAt = 0x64
	extUUIDAt     = 0x68
	extLabelAt    = 0x78
	extLabelSize  = 16
	extChecksumAt = 0x3fc

	extCompatHasJournal     = 0x4
	extIncompatFiletype     = 0x2
	extIncompatRecover      = 0x4
	extIncompatJournalDev   = 0x8
	extIncompatMetaBG       = 0x10
	extROCompatSparseSuper  = 0x1
	extROCompatLargeFile    = 0x2
	extROCompatBtreeDir     = 0x4
	extROCompatMetadataCsum = 0x400

	// What the ext2 and ext3 drivers know; a feature beyond makes it the next one's.
	ext2Incompat = extIncompatFiletype | extIncompatMetaBG
	ext3Incompat = ext2Incompat | extIncompatRecover
	ext3ROCompat = extROCompatSparseSuper | extROCompatLargeFile | extROCompatBtreeDir
)

func probeExt(r *reader) *Signature {
	sb := r.at(extAt, extSize)
	if sb == nil || binary.LittleEndian.Uint16(sb[extMagicAt:]) != extMagic {
		return nil
	}
	compat := binary.LittleEndian.Uint32(sb[extCompatAt:])
	incompat := binary.LittleEndian.Uint32(sb[extIncompatAt:])
	roCompat := binary.LittleEndian.Uint32(sb[extROCompatAt:])
	if roCompat&extROCompatMetadataCsum != 0 {
		// ext4 seeds with all ones and does not invert at the end; hash/crc32 does both.
		if ^crc32.Checksum(sb[:extChecksumAt], castagnoli()) != binary.LittleEndian.Uint32(sb[extChecksumAt:]) {
			return nil
		}
	}
	signature := &Signature{
		Usage:   Filesystem,
		Version: fmt.Sprintf("%d.%d", binary.LittleEndian.Uint32(sb[extRevisionAt:]), binary.LittleEndian.Uint16(sb[extMinorAt:])),
		UUID:    uuid(sb[extUUIDAt:][:16]),
		Label:   text(sb[extLabelAt:][:extLabelSize]),
	}
	journal := compat&extCompatHasJournal != 0
	switch {
	case incompat&extIncompatJournalDev != 0:
		signature.Type, signature.Usage = "jbd", Other
	case roCompat&^ext3ROCompat != 0 || incompat&^ext3Incompat != 0:
		signature.Type = "ext4"
	case journal:
		signature.Type = "ext3"
	case incompat&^ext2Incompat == 0:
		signature.Type = "ext2"
	default:
		return nil
	}
	return signature
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }
