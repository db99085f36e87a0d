package vmdk

import (
	"encoding/binary"
	"errors"
	"fmt"

	"initd/v2v/inflate"
)

// inflateGrain decodes into dst, and returns how much there was. More than dst holds is an error, so a bomb costs nothing.
//
// The specification says RFC 1951, and all writers write RFC 1950; both are read.
func inflateGrain(dst, data []byte) (int, error) {
	wrapped := isZlib(data)
	if wrapped {
		data = data[2:]
	}
	n, used, done, err := inflate.Decode(dst, data)
	switch {
	case err != nil:
		return n, err
	case !done && n == len(dst):
		return n, fmt.Errorf("it holds more than the %d bytes of a grain", len(dst))
	case !done:
		return n, errors.New("its compressed data end early")
	}
	if wrapped {
		if len(data)-used < 4 {
			return n, errors.New("its compressed data end before their checksum")
		}
		if got, want := inflate.Adler32(dst[:n]), binary.BigEndian.Uint32(data[used:]); got != want {
			return n, fmt.Errorf("its checksum is %08x, and its data have %08x", want, got)
		}
	}
	return n, nil
}

// isZlib looks at the header of RFC 1950: method 8, a window of at most 32 KiB, no dictionary, the check bits.
func isZlib(b []byte) bool {
	return len(b) >= 2 && b[0]&0x0f == 8 && b[0]>>4 <= 7 && b[1]&0x20 == 0 && (uint(b[0])<<8|uint(b[1]))%31 == 0
}

// decodeGrain decodes the grain of an LBA into dst, which has the room of a whole one. visible is how much of it the disk shows: a
// stored grain holds that much, or a whole one.
func decodeGrain(img string, lba uint64, dst, data []byte, visible int) error {
	n, err := inflateGrain(dst, data)
	if err != nil {
		return corrupt(img, "vmdk-grain-data", "the grain of sector %d: %v", lba, err)
	}
	if n != visible && n != len(dst) {
		return corrupt(img, "vmdk-grain-data", "the grain of sector %d holds %d bytes instead of %d", lba, n, len(dst))
	}
	return nil
}

// maxGrainData is how long the compressed data of a grain may be: what two grains hold with their head.
func (h header) maxGrainData() int64 { return 2*h.grainBytes - grainHead }
