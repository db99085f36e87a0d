package media

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
)

// The XFS superblock (kernel, fs/xfs/libxfs/xfs_format.h, struct xfs_dsb), big-endian.
const (
	xfsMagic      = "XFSB"
	xfsSize       = 512
	xfsBlockSzAt  = 4
	xfsUUIDAt     = 32
	xfsAGBlocksAt = 84
	xfsAGCountAt  = 88
	xfsVersionAt  = 100
	xfsSectorAt   = 102
	xfsLabelAt    = 108
	xfsLabelSize  = 12
	xfsBlockLogAt = 120
	xfsSectLogAt  = 121
	xfsChecksumAt = 224 // little-endian

	xfsVersionMask = 0x0f
	xfsVersion5    = 5
	xfsMinSector   = 512
	xfsMaxSector   = 32768
	xfsMinBlock    = 512
	xfsMaxBlock    = 65536
)

func probeXFS(r *reader) *Signature {
	sb := r.at(0, xfsSize)
	if sb == nil || string(sb[:4]) != xfsMagic {
		return nil
	}
	block := binary.BigEndian.Uint32(sb[xfsBlockSzAt:])
	sector := binary.BigEndian.Uint16(sb[xfsSectorAt:])
	sane := block >= xfsMinBlock && block <= xfsMaxBlock && bits.TrailingZeros32(block) == int(sb[xfsBlockLogAt]) &&
		sector >= xfsMinSector && sector <= xfsMaxSector && bits.TrailingZeros16(sector) == int(sb[xfsSectLogAt]) &&
		bits.OnesCount32(block) == 1 && bits.OnesCount16(sector) == 1 &&
		binary.BigEndian.Uint32(sb[xfsAGCountAt:]) != 0 && binary.BigEndian.Uint32(sb[xfsAGBlocksAt:]) != 0
	if !sane {
		return nil
	}
	if binary.BigEndian.Uint16(sb[xfsVersionAt:])&xfsVersionMask == xfsVersion5 {
		whole := r.at(0, int(sector))
		if whole == nil {
			return nil
		}
		want := binary.LittleEndian.Uint32(whole[xfsChecksumAt:])
		copy(whole[xfsChecksumAt:], []byte{0, 0, 0, 0})
		if crc32.Checksum(whole, castagnoli()) != want {
			return nil
		}
	}
	return &Signature{
		Type: "xfs", Usage: Filesystem,
		UUID: uuid(sb[xfsUUIDAt:][:16]), Label: text(sb[xfsLabelAt:][:xfsLabelSize]),
	}
}
