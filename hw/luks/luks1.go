package luks

import (
	"encoding/binary"
	"slices"
)

// LUKS1 On-Disk Format 1.2.3, figures 1 and 2. All numbers are big-endian.
const (
	luks1Size    = 592
	luks1Slots   = 208 // offset of the first of 8 key slots
	luks1SlotLen = 48
	slotEnabled  = 0x00AC71F3
	slotDisabled = 0x0000DEAD
	luks1Digest  = 20
)

func readLUKS1(source headerSource) (*Header, error) {
	raw := make([]byte, luks1Size)
	if err := readFull(source.at, raw, 0); err != nil {
		return nil, damaged("%v", err)
	}
	number := func(at int) uint64 { return uint64(binary.BigEndian.Uint32(raw[at:])) }
	name, ok1 := text(raw[8:40])
	mode, ok2 := text(raw[40:72])
	hash, ok3 := text(raw[72:104])
	uuid, ok4 := text(raw[168:208])
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return nil, damaged("a name in it is no text")
	}
	h := &Header{Version: 1, UUID: uuid, Cipher: name + "-" + mode, SectorSize: SectorSize}
	keySize := number(108)
	iterations := number(164)
	switch {
	case !validUUID(uuid):
		return nil, damaged("%.50q is no UUID", uuid)
	case keySize < 1 || keySize > maxKeySize:
		return nil, damaged("a volume key of %d bytes", keySize)
	case iterations < 1 || iterations > maxIterations:
		return nil, damaged("a digest of %d iterations", iterations)
	}
	if err := checkCipher(h.Cipher); err != nil {
		return nil, err
	}
	if _, err := hashByName(hash); err != nil {
		return nil, err
	}
	payload := number(104) * SectorSize
	if payload == 0 && !source.detached {
		return nil, damaged("it is a detached header, and no other device was given for the data")
	}
	check := digest{hash: hash, iterations: int(iterations), salt: raw[132:164], want: raw[112:132]}
	used := []span{{0, luks1Size, "the header"}}
	for i := range 8 {
		at := luks1Slots + i*luks1SlotLen
		switch number(at) {
		case slotDisabled:
			continue
		case slotEnabled:
		default:
			return nil, damaged("slot %d is neither enabled nor disabled", i)
		}
		s := slot{
			number: i, keySize: int(keySize), hash: hash, digest: check,
			kdf:  kdf{kind: "pbkdf2", hash: hash, salt: raw[at+8 : at+40]},
			area: area{offset: number(at+40) * SectorSize, size: keySize * stripes, cipher: h.Cipher, keySize: int(keySize)},
		}
		rounds := number(at + 4)
		switch {
		case rounds < 1 || rounds > maxIterations:
			return nil, damaged("slot %d has %d iterations", i, rounds)
		case number(at+44) != stripes:
			return nil, damaged("slot %d has %d stripes", i, number(at+44))
		case !source.detached && s.area.offset+s.area.size > payload:
			return nil, damaged("slot %d reaches into the data", i)
		}
		s.kdf.iterations = int(rounds)
		used = append(used, span{s.area.offset, s.area.offset + s.area.size, "slot " + string(rune('0'+i))})
		h.slots = append(h.slots, s)
	}
	if err := checkOverlap(used); err != nil {
		return nil, err
	}
	return h, h.setData(payload, 0, source.dataSize)
}

func checkOverlap(used []span) error {
	slices.SortFunc(used, func(a, b span) int {
		switch {
		case a.from < b.from:
			return -1
		case a.from > b.from:
			return 1
		}
		return 0
	})
	for i := 1; i < len(used); i++ {
		if used[i].from < used[i-1].to {
			return damaged("%s and %s overlap", used[i-1].what, used[i].what)
		}
	}
	return nil
}
