package luks

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// LUKS2 On-Disk Format 1.1.3, section 2: a binary header of 4096 bytes, then JSON; both again right behind.
const (
	binarySize    = 4096
	checksumAt    = 448
	checksumField = 64
)

// headerSizes are those that the format allows, in bytes; the second copy lies at its own size.
func headerSizes() []uint64 {
	sizes := make([]uint64, 0, 9)
	for size := uint64(16 << 10); size <= 4<<20; size *= 2 {
		sizes = append(sizes, size)
	}
	return sizes
}

// errNoMagic says that not even the first bytes of a header are there.
var errNoMagic = errors.New("it is not there")

// copy2 is one of the two copies of a LUKS2 header.
type copy2 struct {
	sequence uint64
	size     uint64
	header   *Header
}

// readLUKS2 takes the newer of two good copies, or the one that is good (section 2.3). A first copy with a trace of LUKS
// leaves no doubt what the device is; one without a trace may belong to whoever uses the device now.
func readLUKS2(source headerSource) (*Header, error) {
	first, firstErr := readCopy(source, 0, magicFirst)
	if firstErr == nil {
		second, err := readCopy(source, first.size, magicSecond)
		switch {
		case err != nil:
			first.header.Damage = how(err)
		case second.header.UUID != first.header.UUID:
			first.header.Damage = "it is of the volume " + second.header.UUID
		case second.sequence > first.sequence:
			second.header.Secondary, second.header.Damage = true, "it is older"
			return second.header, nil
		case second.sequence < first.sequence:
			first.header.Damage = "it is older"
		}
		return first.header, nil
	}
	if _, ok := errors.AsType[*UnsupportedError](firstErr); ok { // sound, so the other copy says the same
		return nil, firstErr
	}
	second, at, secondErr := findSecond(source)
	gone := errors.Is(firstErr, errNoMagic)
	switch {
	case secondErr == nil && gone:
		if err := vanished(source, at); err != nil {
			return nil, err
		}
		fallthrough
	case secondErr == nil:
		second.header.Secondary, second.header.Damage = true, how(firstErr)
		return second.header, nil
	case gone && errors.Is(secondErr, errNoMagic):
		return nil, notLUKS(source)
	}
	if _, ok := errors.AsType[*UnsupportedError](secondErr); ok || gone {
		return nil, secondErr
	}
	if _, ok := errors.AsType[*DamagedError](firstErr); !ok || how(firstErr) == how(secondErr) {
		return nil, firstErr
	}
	return nil, damaged("first copy: %s; second copy: %s", how(firstErr), how(secondErr))
}

// notLUKS says what is there instead, where that can be told.
func notLUKS(source headerSource) error {
	e := &NotLUKSError{}
	if found, err := source.probe(); err == nil {
		e.Found = found
	}
	return e
}

// vanished decides about a second copy whose first left no trace.
func vanished(source headerSource, at uint64) error {
	if source.foreign == nil {
		return damaged("the first copy is gone, and what took its place was not looked at; the second at byte %d is intact", at)
	}
	found, err := source.probe()
	if err != nil {
		return damaged("the first copy is gone, and what took its place cannot be told (%v)", err)
	}
	if found != "" {
		return &NotLUKSError{fmt.Sprintf("%s (with the rest of an older LUKS header at byte %d)", found, at)}
	}
	return nil
}

// probe asks what is on the device, apart from LUKS: second copies are hidden, because a probe that knows LUKS would
// name them and look no further.
func (s headerSource) probe() (string, error) {
	if s.foreign == nil {
		return "", nil
	}
	size := s.dataSize
	if file, ok := s.at.(io.Seeker); ok {
		var err error
		if size, err = sizeOf(file); err != nil {
			return "", err
		}
	}
	return s.foreign(io.NewSectionReader(withoutSecond{s.at}, 0, int64(size)))
}

// withoutSecond reads zeros where the magic of a second copy can be.
type withoutSecond struct{ io.ReaderAt }

func (w withoutSecond) ReadAt(b []byte, at int64) (int, error) {
	n, err := w.ReaderAt.ReadAt(b, at)
	for _, size := range headerSizes() {
		for i := range magicSecond {
			if place := int64(size) + int64(i) - at; place >= 0 && place < int64(n) {
				b[place] = 0
			}
		}
	}
	return n, err
}

func how(err error) string {
	if d, ok := errors.AsType[*DamagedError](err); ok {
		return d.How
	}
	return err.Error()
}

// findSecond looks for a good second copy wherever one can be. The error of a bad one is better than that there is none.
func findSecond(source headerSource) (copy2, uint64, error) {
	var worst error = errNoMagic
	for _, at := range headerSizes() {
		found, err := readCopy(source, at, magicSecond)
		if err == nil {
			return found, at, nil
		}
		if !errors.Is(err, errNoMagic) && errors.Is(worst, errNoMagic) {
			worst = err
		}
	}
	return copy2{}, 0, worst
}

func readCopy(source headerSource, at uint64, magic []byte) (copy2, error) {
	raw := make([]byte, binarySize)
	err := readFull(source.at, raw[:8], at)
	if errors.Is(err, errCutOff) || err != nil && at > 0 { // a small device has no room for it there
		return copy2{}, errNoMagic
	}
	if err != nil {
		return copy2{}, fmt.Errorf("read the LUKS header: %w", err)
	}
	if !bytes.Equal(raw[:6], magic) {
		return copy2{}, errNoMagic
	}
	if err := readFull(source.at, raw, at); err != nil {
		return copy2{}, damaged("%v", err)
	}
	number := func(offset int) uint64 { return binary.BigEndian.Uint64(raw[offset:]) }
	size := number(8)
	switch version := binary.BigEndian.Uint16(raw[6:]); {
	case version != 2:
		return copy2{}, damaged("version %d is neither 1 nor 2", version)
	case !validSize(size) || at != 0 && at != size:
		return copy2{}, damaged("a header of %d bytes at byte %d", size, at)
	case number(256) != at:
		return copy2{}, damaged("it was written for byte %d and lies at byte %d", number(256), at)
	}
	if algorithm, ok := text(raw[72:104]); !ok || algorithm != "sha256" { // the only one the format has
		return copy2{}, damaged("checksum algorithm %q", algorithm)
	}
	whole := make([]byte, size)
	if err := readFull(source.at, whole, at); err != nil {
		return copy2{}, damaged("%v", err)
	}
	clear(whole[checksumAt : checksumAt+checksumField])
	sum := sha256.Sum256(whole)
	if subtle.ConstantTimeCompare(sum[:], raw[checksumAt:checksumAt+len(sum)]) != 1 {
		return copy2{}, damaged("its checksum is wrong")
	}
	uuid, ok := text(raw[168:208])
	if !ok || !validUUID(uuid) {
		return copy2{}, damaged("%.50q is no UUID", uuid)
	}
	h := &Header{Version: 2, UUID: uuid}
	if err := h.fromJSON(whole[binarySize:], size, source); err != nil {
		return copy2{}, err
	}
	return copy2{sequence: number(16), size: size, header: h}, nil
}

func validSize(size uint64) bool {
	for _, valid := range headerSizes() {
		if size == valid {
			return true
		}
	}
	return false
}

// sizeOf is where a file or block device ends, in bytes. It moves the descriptor's offset, which nothing here uses.
func sizeOf(file io.Seeker) (uint64, error) {
	end, err := file.Seek(0, io.SeekEnd)
	return uint64(end), err
}
