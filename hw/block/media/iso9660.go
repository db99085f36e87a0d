package media

import (
	"encoding/binary"
	"strings"
)

// Volume descriptors (ECMA-119, section 8): 2 KiB each from sector 16 on.
const (
	isoAt           = 32 << 10
	isoSector       = 2048
	isoMagic        = "CD001"
	isoLabelAt      = 40
	isoLabelSize    = 32
	isoEscapeAt     = 88
	isoCreatedAt    = 813
	isoModifiedAt   = 830
	isoMaxVolumes   = 16
	isoPrimary      = 1
	isoSupplement   = 2
	isoTerminator   = 255
	isoTimeDigits   = 16
	isoMagicAt      = 1
	isoTimeIsAbsent = "0000000000000000"
)

func probeISO9660(r *reader) *Signature {
	primary := r.at(isoAt, isoSector)
	if primary == nil || primary[0] != isoPrimary || string(primary[isoMagicAt:][:len(isoMagic)]) != isoMagic {
		return nil
	}
	signature := &Signature{Type: "iso9660", Usage: Filesystem, Label: text(primary[isoLabelAt:][:isoLabelSize])}
	for _, at := range []int{isoModifiedAt, isoCreatedAt} {
		if signature.UUID = isoTime(primary[at:][:isoTimeDigits]); signature.UUID != "" {
			break
		}
	}
	for i := int64(1); i < isoMaxVolumes; i++ {
		volume := r.at(isoAt+i*isoSector, isoSector)
		if volume == nil || volume[0] == isoTerminator || string(volume[isoMagicAt:][:len(isoMagic)]) != isoMagic {
			break
		}
		if volume[0] != isoSupplement {
			continue
		}
		switch string(volume[isoEscapeAt:][:3]) {
		case "%/@", "%/C", "%/E": // Joliet: the label is UCS-2
			signature.Version = "Joliet Extension"
			joliet := wide(volume[isoLabelAt:][:isoLabelSize], binary.BigEndian.Uint16)
			signature.Label = isoLabel(signature.Label, joliet)
			return signature
		}
	}
	return signature
}

// isoTime makes an identifier of a time of 16 digits: 2026-07-30-12-34-56-00.
func isoTime(digits []byte) string {
	s := string(digits)
	if s == isoTimeIsAbsent || strings.Trim(s, "0123456789") != "" {
		return ""
	}
	return strings.Join([]string{s[0:4], s[4:6], s[6:8], s[8:10], s[10:12], s[12:14], s[14:16]}, "-")
}

// isoLabel prefers the Joliet label, which has all characters but is cut after 16; where the primary one says the same and goes
// on, its end is added.
func isoLabel(primary, joliet string) string {
	if joliet == "" {
		return primary
	}
	units := []rune(joliet)
	if len(units) < isoLabelSize/2 || len(primary) <= len(units) {
		return joliet
	}
	for i, r := range units {
		if c := rune(primary[i]); c != r && c != '_' && !strings.EqualFold(string(c), string(r)) {
			return joliet
		}
	}
	return joliet + primary[len(units):]
}
