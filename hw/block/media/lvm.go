package media

import (
	"encoding/binary"
	"hash/crc32"
)

// The LVM2 label (lvm2, lib/label/label.h, struct label_header, and lib/format_text/layout.h, struct pv_header): in one of the
// first four sectors of 512 bytes.
const (
	lvmLabelSize  = 512
	lvmLabelMagic = "LABELONE"
	lvmType       = "LVM2 001"
	lvmSectorAt   = 8
	lvmChecksumAt = 16
	lvmOffsetAt   = 20
	lvmTypeAt     = 24
	lvmUUIDSize   = 32
	// lvmInitialCRC seeds the label's checksum (lvm2, lib/misc/crc.h).
	lvmInitialCRC = 0xf597a6cf
)

func probeLVM2(r *reader) *Signature {
	for sector := range int64(4) {
		label := r.at(sector*lvmLabelSize, lvmLabelSize)
		if label == nil || string(label[:8]) != lvmLabelMagic || string(label[lvmTypeAt:][:8]) != lvmType {
			continue
		}
		// crc32.Update inverts before and after, LVM does neither.
		sum := ^crc32.Update(^uint32(lvmInitialCRC), crc32.IEEETable, label[lvmOffsetAt:])
		offset := binary.LittleEndian.Uint32(label[lvmOffsetAt:])
		if binary.LittleEndian.Uint64(label[lvmSectorAt:]) != uint64(sector) ||
			binary.LittleEndian.Uint32(label[lvmChecksumAt:]) != sum || offset > lvmLabelSize-lvmUUIDSize {
			continue
		}
		return &Signature{Type: "LVM2_member", Usage: RAID, Version: lvmType, UUID: lvmUUID(label[offset:][:lvmUUIDSize])}
	}
	return nil
}

// lvmUUID groups 32 characters by 6-4-4-4-4-4-6.
func lvmUUID(b []byte) string {
	for _, c := range b {
		if c < '!' || c > '~' {
			return ""
		}
	}
	s := string(b)
	return s[0:6] + "-" + s[6:10] + "-" + s[10:14] + "-" + s[14:18] + "-" + s[18:22] + "-" + s[22:26] + "-" + s[26:32]
}
