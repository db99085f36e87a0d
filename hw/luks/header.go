package luks

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
)

// SectorSize is the unit of a table and of LUKS1, in bytes.
const SectorSize = 512

// Where the header is and what it belongs to.
type headerSource struct {
	at       io.ReaderAt
	detached bool
	dataSize uint64 // of the device that holds the data, in bytes
	// foreign names the file system, partition table or the like at the start of a device, "" if there is none. Without
	// it, a second header is not used when the first has vanished without a trace.
	foreign func(io.ReaderAt) (string, error)
}

// Header is what a LUKS header says, checked: every number is within the device, no areas overlap, every name is one
// this package knows or passes to the kernel as a single word.
type Header struct {
	Version   int // 1 or 2
	UUID      string
	Secondary bool   // the first copy of a LUKS2 header was not usable, or older
	Damage    string // what is wrong with the other copy; "" if it is sound

	Cipher     string // as dm-crypt wants it: aes-xts-plain64
	SectorSize uint64 // bytes
	Offset     uint64 // of the data, in sectors
	Length     uint64 // of the data, in sectors
	IVOffset   uint64 // added to the number of each sector
	Flags      []string

	slots []slot // in the order they are to be tried
}

// slot is a way from a key to the volume key.
type slot struct {
	number  int
	keySize int // of the volume key, in bytes
	kdf     kdf
	area    area
	hash    string // of the anti-forensic splitter
	digest  digest
	err     error // why it cannot be opened here, known before any key is tried
}

// work is what all its slots together take at most, per key; see kdf.work.
func (h *Header) work() uint64 {
	var sum uint64
	for _, s := range h.slots {
		if s.err != nil {
			continue
		}
		for _, more := range []uint64{s.kdf.work(s.area.keySize), stretchWork(s.digest.hash, s.digest.iterations, len(s.digest.want))} {
			sum += min(more, math.MaxUint64-sum)
		}
	}
	return sum
}

// area is where a slot's key material lies, encrypted.
type area struct {
	offset, size uint64 // bytes, in the header's file
	cipher       string
	keySize      int // bytes
}

// digest is how a volume key is known to be right: PBKDF2 of it.
type digest struct {
	hash       string
	iterations int
	salt, want []byte
}

const (
	stripes    = 4000 // of the anti-forensic splitter; LUKS knows no other number
	maxKeySize = 512  // of a volume key, in bytes (LUKS2_KEY_SIZE_MAX of cryptsetup is the same)
)

var (
	magicFirst  = []byte("LUKS\xba\xbe")
	magicSecond = []byte("SKUL\xba\xbe")
	// cryptsetup's own, while it encrypts a LUKS1 volume anew (src/utils_reencrypt_luks1.c, NOMAGIC)
	magicReencrypted = []byte("LUKS\xde\xad")
)

func damaged(format string, args ...any) error {
	return &DamagedError{fmt.Sprintf(format, args...)}
}

func unsupported(format string, args ...any) error {
	return &UnsupportedError{fmt.Sprintf(format, args...)}
}

// readHeader finds, checks and reads a header of either version.
func readHeader(source headerSource) (*Header, error) {
	start := make([]byte, 8)
	err := readFull(source.at, start, 0)
	if err == nil && bytes.Equal(start[:6], magicFirst) && binary.BigEndian.Uint16(start[6:]) == 1 {
		return readLUKS1(source)
	}
	if err == nil && bytes.Equal(start[:6], magicReencrypted) {
		return nil, unsupported("a LUKS1 volume whose encryption anew was not finished")
	}
	return readLUKS2(source)
}

// errCutOff says that a device ends too early.
var errCutOff = errors.New("it is cut off")

// readFull reads exactly b; the error says where the device ended.
func readFull(r io.ReaderAt, b []byte, offset uint64) error {
	if offset > math.MaxInt64-uint64(len(b)) {
		return fmt.Errorf("offset %d is beyond every device", offset)
	}
	n, err := r.ReadAt(b, int64(offset))
	if n == len(b) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w after %d bytes", errCutOff, offset+uint64(n))
	}
	return err
}

// text is a NUL-terminated field; ok is false if anything but printable ASCII is in it.
func text(field []byte) (s string, ok bool) {
	field, _, _ = bytes.Cut(field, []byte{0})
	for _, b := range field {
		if b < 0x20 || b > 0x7e {
			return "", false
		}
	}
	return string(field), true
}

// validUUID accepts the canonical form only: it becomes part of a table, a key's description and a device's name.
func validUUID(uuid string) bool {
	if len(uuid) != 36 {
		return false
	}
	for i, r := range uuid {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (r == '-') || !dash && !strings.ContainsRune("0123456789abcdefABCDEF", r) {
			return false
		}
	}
	return true
}

// checkCipher refuses what would break out of a table's word, and what does not encrypt: with cipher_null anybody's
// header would open.
func checkCipher(cipher string) error {
	if cipher == "" || strings.Trim(cipher, "abcdefghijklmnopqrstuvwxyz0123456789_-:(),") != "" || len(cipher) > 64 {
		return damaged("the cipher %.80q is no name of a cipher", cipher)
	}
	if strings.HasPrefix(cipher, "cipher_null") || strings.Contains(cipher, "capi:") {
		return unsupported("cipher %s", cipher)
	}
	return nil
}

// span is a stretch of the header that belongs to something; two of them must not overlap.
type span struct {
	from, to uint64
	what     string
}

// setData places the data area: offset and length in bytes, length 0 for the rest of the device.
func (h *Header) setData(offset, length, dataSize uint64) error {
	if length == 0 {
		if offset >= dataSize {
			return damaged("the data begins at byte %d, the device has %d", offset, dataSize)
		}
		length = dataSize - offset
	}
	switch {
	case offset > dataSize || length > dataSize-offset:
		return damaged("the data of %d bytes at byte %d does not fit into the device of %d bytes", length, offset, dataSize)
	case offset%h.SectorSize != 0:
		return damaged("the data begins at byte %d, inside a sector of %d bytes", offset, h.SectorSize)
	case length%h.SectorSize != 0 && h.SectorSize == SectorSize:
		length -= length % SectorSize // a file that serves as a device; the kernel rounds as well
		if length == 0 {
			return damaged("there is no room for data")
		}
	case length%h.SectorSize != 0:
		return unsupported("data of %d bytes, which is no multiple of its sectors of %d bytes", length, h.SectorSize)
	}
	h.Offset, h.Length = offset/SectorSize, length/SectorSize
	return nil
}
