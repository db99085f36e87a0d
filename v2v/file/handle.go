package file

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"initd/v2v/image"
)

// handle is a regular file or a block device that an image is written to.
type handle struct {
	f     *os.File
	name  string // for messages
	block bool
	size  int64 // of a device, in bytes
	// unflushed counts what was written since the kernel was last asked to begin storing it, so that the fsync at the end finds little to do.
	unflushed atomic.Int64
	// buffered is held while a regular file is written through the kernel's memory. The kernel lets one at a time do that (the inode's lock), and those
	// that wait for it there keep their processors busy, which others need to decode.
	buffered sync.Mutex
	direct   direct
	length   atomic.Int64 // the size that was set, of a file
}

var _ image.File = (*handle)(nil)

// writebackEvery is how much is written before the kernel is asked to begin storing it, in bytes.
const writebackEvery = 32 << 20

func (h *handle) WriteAt(p []byte, off int64) (int, error) {
	end := h.size
	if !h.block {
		end = h.length.Load()
	} else if off+int64(len(p)) > end {
		return 0, h.tooSmall(off + int64(len(p)))
	}
	done, err := h.direct.writeAt(h.f, p, off, end)
	if err != nil {
		return done, h.explain("write", off, err)
	}
	if done == len(p) {
		return done, nil
	}
	n, err := h.writeBuffered(p[done:], off+int64(done))
	if err != nil {
		return done + n, h.explain("write", off, err)
	}
	if h.unflushed.Add(int64(n)) >= writebackEvery {
		h.unflushed.Store(0)
		// Begins, and waits for nothing. A file system that cannot do it stores all at the fsync.
		_ = unix.SyncFileRange(int(h.f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
	}
	return done + n, nil
}

func (h *handle) writeBuffered(p []byte, off int64) (int, error) {
	if !h.block {
		h.buffered.Lock()
		defer h.buffered.Unlock()
	}
	return h.f.WriteAt(p, off)
}

func (h *handle) close() error { return errors.Join(h.direct.close(), h.f.Close()) }

func (h *handle) ReadAt(p []byte, off int64) (int, error) { return h.f.ReadAt(p, off) }

func (h *handle) Truncate(size int64) error {
	if !h.block {
		if err := h.f.Truncate(size); err != nil {
			return h.reason(fmt.Sprintf("set the size of %s to %d bytes", h.name, size), err)
		}
		h.length.Store(size)
		return nil
	}
	if size > h.size {
		return h.tooSmall(size)
	}
	return nil
}

func (h *handle) tooSmall(need int64) error {
	return &image.Error{Fault: image.TooLarge, Code: "device-too-small", Image: h.name,
		What: fmt.Sprintf("the device holds %d bytes, and at least %d are needed", h.size, need), Do: "give a larger device"}
}

// Zero makes a range read as zeros. On a device BLKDISCARD would promise nothing; BLKZEROOUT does, and the kernel writes where the
// device has no better way. It wants whole logical blocks, and what is left at the ends is written.
func (h *handle) Zero(off, length int64) error {
	if length <= 0 {
		return nil
	}
	if !h.block {
		err := unix.Fallocate(int(h.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, length)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) {
			return h.explain("punch a hole into", off, err)
		}
		return h.writeZeros(off, length)
	}
	if off+length > h.size {
		return h.tooSmall(off + length)
	}
	const align = 4096
	start, end := image.RoundUp(off, align), (off+length)/align*align
	if end <= start {
		return h.writeZeros(off, length)
	}
	if err := h.writeZeros(off, start-off); err != nil {
		return err
	}
	if err := h.zeroOut(start, end-start); err != nil {
		return err
	}
	return h.writeZeros(end, off+length-end)
}

// zeroOut asks in pieces, so that a signal or a cancellation is not held up for minutes inside one ioctl.
func (h *handle) zeroOut(off, length int64) error {
	const piece = 256 << 20
	for length > 0 {
		n := min(length, piece)
		err := blkZeroOut(h.f, off, n)
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) {
			err = h.writeZeros(off, n)
		}
		if err != nil {
			return h.explain("zero", off, err)
		}
		off, length = off+n, length-n
	}
	return nil
}

// zeros are never written to.
var zeros [256 << 10]byte

func (h *handle) writeZeros(off, length int64) error {
	for length > 0 {
		n, err := h.f.WriteAt(zeros[:min(length, int64(len(zeros)))], off)
		if err != nil {
			return h.explain("write zeros to", off, err)
		}
		off, length = off+int64(n), length-int64(n)
	}
	return nil
}

func (h *handle) Sync() error {
	if err := h.f.Sync(); err != nil {
		// Where, the kernel does not tell: it wrote some of that behind our back.
		return h.reason("make durable what was written to "+h.name, err)
	}
	return nil
}

func (h *handle) explain(op string, off int64, err error) error {
	return h.reason(fmt.Sprintf("%s %s at %d", op, h.name, off), err)
}

// reason says what helps where that is known.
func (h *handle) reason(what string, err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	switch {
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("%s: %w; free some room there, and run it again", what, err)
	case errors.Is(err, unix.EFBIG):
		return fmt.Errorf("%s: %w; that file system or a limit (ulimit -f) takes no larger file: choose a subformat of several files, or another place", what, err)
	case errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%s: %w; the quota there is used up", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// pipe takes bytes in order only.
type pipe struct {
	w  io.Writer
	at int64
}

func (p *pipe) WriteAt(b []byte, off int64) (int, error) {
	if off != p.at {
		return 0, fmt.Errorf("write to a pipe at %d, which is at %d: bytes go there in order only", off, p.at)
	}
	n, err := p.w.Write(b)
	p.at += int64(n)
	return n, err
}

func (p *pipe) ReadAt([]byte, int64) (int, error) { return 0, errors.New("a pipe cannot be read back") }
func (p *pipe) Truncate(int64) error              { return nil }
func (p *pipe) Sync() error                       { return nil }

func (p *pipe) Zero(off, length int64) error {
	for length > 0 {
		n, err := p.WriteAt(zeros[:min(length, int64(len(zeros)))], off)
		if err != nil {
			return err
		}
		off, length = off+int64(n), length-int64(n)
	}
	return nil
}

// blkZeroOut is the ioctl BLKZEROOUT (include/uapi/linux/fs.h): a pair of u64, offset and length in bytes.
func blkZeroOut(f *os.File, off, length int64) error {
	span := [2]uint64{uint64(off), uint64(length)}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKZEROOUT, uintptr(unsafe.Pointer(&span))); errno != 0 {
		return errno
	}
	return nil
}
