package vmdk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/adler32"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
)

// inflater decodes compressed grains. Safe for several goroutines.
type inflater struct{ pool sync.Pool }

type inflateState struct {
	in  bytes.Reader
	out io.ReadCloser // a flate reader
	one [1]byte
}

// grain decodes into dst what stands for at least least bytes of it (the last grain of a disk may be stored short or full): more than dst
// holds is an error, so a bomb costs nothing. It returns how much there was.
//
// The specification says RFC 1951, and all writers write RFC 1950; both are read.
func (f *inflater) grain(dst, data []byte) (int, error) {
	s, _ := f.pool.Get().(*inflateState)
	if s == nil {
		s = &inflateState{}
		s.out = flate.NewReader(&s.in)
	}
	defer f.pool.Put(s)
	wrapped := isZlib(data)
	if wrapped {
		data = data[2:]
	}
	s.in.Reset(data)
	if err := s.out.(flate.Resetter).Reset(&s.in, nil); err != nil {
		return 0, err
	}
	n := 0
	for {
		room := dst[n:]
		if len(room) == 0 {
			room = s.one[:]
		}
		k, err := s.out.Read(room)
		if k > 0 && n == len(dst) {
			return n, fmt.Errorf("it holds more than the %d bytes of a grain", len(dst))
		}
		n += k
		if err == io.EOF {
			break
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return n, errors.New("its compressed data end early")
		}
		if err != nil {
			return n, err
		}
	}
	if wrapped {
		var sum [4]byte
		if _, err := io.ReadFull(&s.in, sum[:]); err != nil {
			return n, errors.New("its compressed data end before their checksum")
		}
		if got, want := adler32.Checksum(dst[:n]), binary.BigEndian.Uint32(sum[:]); got != want {
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
func (f *inflater) decodeGrain(img string, lba uint64, dst, data []byte, visible int) error {
	n, err := f.grain(dst, data)
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
