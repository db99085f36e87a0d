package media

import (
	"encoding/binary"
	"fmt"
)

// The md superblocks (kernel, include/uapi/linux/raid/md_p.h).
const (
	mdMagic = 0xa92b4efc

	md0Reserved = 64 << 10 // version 0.90 lies in the last whole 64 KiB but one
	md0Size     = 4096

	md1Size          = 256
	md1UUIDAt        = 16
	md1NameAt        = 32
	md1NameSize      = 32
	md1SuperOffsetAt = 144
)

func probeMDRaid(r *reader) *Signature {
	if signature := md0(r); signature != nil {
		return signature
	}
	size := r.medium.Size >> 9 << 9
	for _, place := range []struct {
		offset  int64
		version string
	}{
		// 1.0 lies at least 8 KiB and less than 12 KiB from the end, aligned to 4 KiB (mdadm, super1.c).
		{(size>>9 - 8*2) &^ (4*2 - 1) << 9, "1.0"},
		{0, "1.1"},
		{4096, "1.2"},
	} {
		sb := r.at(place.offset, md1Size)
		if sb == nil || binary.LittleEndian.Uint32(sb) != mdMagic || binary.LittleEndian.Uint32(sb[4:]) != 1 ||
			binary.LittleEndian.Uint64(sb[md1SuperOffsetAt:]) != uint64(place.offset>>9) {
			continue
		}
		return &Signature{
			Type: "linux_raid_member", Usage: RAID, Version: place.version,
			UUID: uuid(sb[md1UUIDAt:][:16]), Label: text(sb[md1NameAt:][:md1NameSize]),
		}
	}
	return nil
}

// md0 reads the superblock of version 0.90, whose words are in the byte order of the machine that made it. It does not
// say where it lies: at the end of a disk it may as well be that of the last partition, and then it is that one's.
func md0(r *reader) *Signature {
	offset := r.medium.Size&^(md0Reserved-1) - md0Reserved
	sb := r.at(offset, md0Size)
	if sb == nil {
		return nil
	}
	var order binary.ByteOrder
	switch uint32(mdMagic) {
	case binary.LittleEndian.Uint32(sb):
		order = binary.LittleEndian
	case binary.BigEndian.Uint32(sb):
		order = binary.BigEndian
	default:
		return nil
	}
	word := func(i int) uint32 { return order.Uint32(sb[4*i:]) }
	major, minor, patch := word(1), word(2), word(3)
	if major != 0 || minor < 90 || r.covered(offset, md0Size) {
		return nil
	}
	// set_uuid0 is word 5, set_uuid1 to 3 are words 13 to 15; mdadm shows the words as numbers.
	id := make([]byte, 0, 16)
	for _, i := range []int{5, 13, 14, 15} {
		if order == binary.LittleEndian {
			id = append(id, sb[4*i:4*i+4]...)
		} else {
			id = binary.LittleEndian.AppendUint32(id, word(i))
		}
	}
	return &Signature{
		Type: "linux_raid_member", Usage: RAID, Version: fmt.Sprintf("%d.%d.%d", major, minor, patch), UUID: uuid(id),
	}
}
