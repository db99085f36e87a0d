package media

import (
	"encoding/binary"
	"hash/crc32"
)

// The Btrfs superblock (kernel, include/uapi/linux/btrfs_tree.h, struct btrfs_super_block).
const (
	btrfsAt           = 64 << 10
	btrfsSize         = 4096
	btrfsMagic        = "_BHRfS_M"
	btrfsChecksumSize = 32
	btrfsUUIDAt       = 0x20
	btrfsByteNumberAt = 0x30
	btrfsMagicAt      = 0x40
	btrfsSumTypeAt    = 0xc4
	btrfsLabelAt      = 0x12b
	btrfsLabelSize    = 256

	btrfsSumCRC32C = 0
)

func probeBtrfs(r *reader) *Signature {
	if !r.magic(btrfsAt+btrfsMagicAt, btrfsMagic) {
		return nil
	}
	sb := r.at(btrfsAt, btrfsSize)
	if sb == nil || binary.LittleEndian.Uint64(sb[btrfsByteNumberAt:]) != btrfsAt {
		return nil
	}
	if binary.LittleEndian.Uint16(sb[btrfsSumTypeAt:]) == btrfsSumCRC32C {
		if crc32.Checksum(sb[btrfsChecksumSize:], castagnoli()) != binary.LittleEndian.Uint32(sb) {
			return nil
		}
	}
	return &Signature{
		Type: "btrfs", Usage: Filesystem,
		UUID: uuid(sb[btrfsUUIDAt:][:16]), Label: text(sb[btrfsLabelAt:][:btrfsLabelSize]),
	}
}
