package media

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf16"
)

// text is a fixed-size field that ends at its first NUL, without the white space at its end (libblkid's
// blkid_rtrim_whitespace).
func text(field []byte) string {
	if end := bytes.IndexByte(field, 0); end >= 0 {
		field = field[:end]
	}
	return trimRight(string(field))
}

// trimRight trims what C's isspace holds for white space.
func trimRight(s string) string { return strings.TrimRight(s, " \t\n\v\f\r") }

// uuid shows 16 bytes in their order, or "" where all are zero.
func uuid(b []byte) string {
	if len(b) != 16 || allZero(b) {
		return ""
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// guid shows 16 bytes as EFI does: the first three fields are little-endian (UEFI 2.10, appendix A).
func guid(b []byte) string {
	if len(b) != 16 {
		return ""
	}
	return fmt.Sprintf("%02x%02x%02x%02x-%02x%02x-%02x%02x-%x-%x",
		b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8:10], b[10:16])
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// wide is a UTF-16 field that ends at its first zero unit, without white space at its end.
func wide(field []byte, unit func([]byte) uint16) string {
	var units []uint16
	for i := 0; i+1 < len(field); i += 2 {
		u := unit(field[i:])
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return trimRight(string(utf16.Decode(units)))
}
