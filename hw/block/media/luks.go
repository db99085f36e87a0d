package media

import (
	"encoding/binary"
	"fmt"
)

// LUKS1: LUKS On-Disk Format Specification 1.2.3, section 'The partition header'; LUKS2: LUKS2 On-Disk Format
// Specification 1.1.1, section 2.1, 'Binary header'. The fields used here lie in the same places.
const (
	luksMagic          = "LUKS\xba\xbe"
	luksSecondaryMagic = "SKUL\xba\xbe"
	luksHeaderSize     = 592
	luksVersionAt      = 6
	luks2LabelAt       = 24
	luks2LabelSize     = 48
	luksUUIDAt         = 168
	luksUUIDSize       = 40
	luks2HeaderOffAt   = 256
)

// luks2Secondary are the offsets at which a LUKS2 secondary header may lie (section 2.2).
func luks2Secondary() []int64 {
	return []int64{0x4000, 0x8000, 0x10000, 0x20000, 0x40000, 0x80000, 0x100000, 0x200000, 0x400000}
}

func probeLUKS(r *reader) *Signature {
	if header := r.at(0, luksHeaderSize); header != nil && string(header[:len(luksMagic)]) == luksMagic {
		return luks(header)
	}
	for _, offset := range luks2Secondary() {
		if !r.magic(offset, luksSecondaryMagic) {
			continue
		}
		header := r.at(offset, luksHeaderSize)
		if header != nil && binary.BigEndian.Uint64(header[luks2HeaderOffAt:]) == uint64(offset) {
			return luks(header)
		}
	}
	return nil
}

func luks(header []byte) *Signature {
	version := binary.BigEndian.Uint16(header[luksVersionAt:])
	signature := &Signature{
		Type: "crypto_LUKS", Usage: Crypto, Version: fmt.Sprint(version),
		UUID: text(header[luksUUIDAt:][:luksUUIDSize]),
	}
	switch version {
	case 1:
	case 2:
		signature.Label = text(header[luks2LabelAt:][:luks2LabelSize])
	default:
		return nil
	}
	return signature
}
