package file

import (
	"golang.org/x/sys/unix"

	"initd/v2v/image"
)

// Clone makes the target's file share the source's blocks (FICLONE, ioctl_ficlonerange(2): XFS, btrfs and others that copy when one of both is written
// to), and gives it a size in bytes in any case. Nothing is read and nothing is written. It is false where these two files cannot, which has changed
// nothing that a copy would not write.
func (t *Target) Clone(src *Source, size int64) (bool, error) {
	if t.main == nil || t.main.block || src.block {
		return false, nil
	}
	// The end of a source inside a block may only come to lie behind all that the target has.
	if err := t.main.Truncate(0); err != nil {
		return false, err
	}
	shared := unix.IoctlFileClone(int(t.main.f.Fd()), int(src.f.Fd())) == nil
	if shared {
		// All of the source as it is now was shared, and what it lost since it was opened must not become zeros.
		info, err := t.main.f.Stat()
		if err != nil {
			return false, err
		}
		if info.Size() < src.size {
			return false, image.Shrunk(src.name, src.size, info.Size())
		}
	}
	return shared, t.main.Truncate(size)
}
