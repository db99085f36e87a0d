package mount

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"time"
)

// The superblock of ext4 (kernel, fs/ext4/ext4.h, struct ext4_super_block):
// where it is and what a check depends on.
const (
	extAt    = 1024
	extSize  = 1024
	extMagic = 0xEF53

	extMountCountAt    = 0x34 // 16 bits, as are the next four
	extMaxMountCountAt = 0x36 // signed; at most 0 means none
	extMagicAt         = 0x38
	extStateAt         = 0x3a
	extLastCheckAt     = 0x40 // seconds since 1970, 32 bits
	extCheckIntervalAt = 0x44 // seconds; 0 means none
	extIncompatAt      = 0x60
	extROCompatAt      = 0x64

	extStateValid  = 0x1
	extStateErrors = 0x2
	extStateOrphan = 0x4

	extIncompatRecover       = 0x4     // the journal has to be replayed
	extROCompatOrphanPresent = 0x10000 // the orphan file is in use
)

// Unchecked says why the ext2, ext3 or ext4 file system in r wants a check
// before it is mounted, in words for a report; "" says that e2fsck in its
// preening mode would leave it alone at once (e2fsck(8), -p), so that starting
// it brings nothing. What cannot be read wants a check.
func Unchecked(r io.ReaderAt, now time.Time) string {
	sb := make([]byte, extSize)
	if _, err := r.ReadAt(sb, extAt); err != nil {
		return "its superblock cannot be read"
	}
	u16 := func(at int) uint16 { return binary.LittleEndian.Uint16(sb[at:]) }
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(sb[at:]) }
	state, most := u16(extStateAt), int16(u16(extMaxMountCountAt))
	interval, last := u32(extCheckIntervalAt), u32(extLastCheckAt)
	switch {
	case u16(extMagicAt) != extMagic:
		return "it has no superblock of ext4"
	case state&extStateErrors != 0:
		return "the kernel found errors in it"
	case state&extStateValid == 0 || state&extStateOrphan != 0:
		return "it was not unmounted cleanly"
	case u32(extIncompatAt)&extIncompatRecover != 0:
		return "its journal has to be replayed"
	case u32(extROCompatAt)&extROCompatOrphanPresent != 0:
		return "it holds files that were deleted while open"
	case most > 0 && int(u16(extMountCountAt)) >= int(most):
		return fmt.Sprintf("it was mounted %d times since the last check", u16(extMountCountAt))
	case interval != 0 && (now.Unix() < int64(last) || now.Unix()-int64(last) >= int64(interval)):
		return "its last check was too long ago"
	}
	return ""
}

// UncheckedDevice is Unchecked for a device, now.
func UncheckedDevice(device string) string {
	f, err := os.Open(device)
	if err != nil {
		return "it cannot be opened"
	}
	defer f.Close()
	return Unchecked(f, time.Now())
}
