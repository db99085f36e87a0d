package file

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// direct is a second way to a file that is being written: past the kernel's memory (open(2), O_DIRECT). Large pieces are not copied there, do not push out
// what others keep in it, and do not wait in the end for all of it to be stored. Only where the kernel says that the file can do it, and how
// (statx(2), STATX_DIOALIGN, since Linux 6.1); memory file systems do not. The zero value is ready; it may be used by several goroutines.
type direct struct {
	once    sync.Once
	f       *os.File // nil: there is no such way
	offset  int64    // what places and lengths have to be multiples of, in bytes; a page at least
	memory  int64    // the same of addresses
	refused atomic.Bool
}

const (
	// directLeast is the least that goes that way, in bytes: small pieces are gathered by the kernel.
	directLeast = 256 << 10
	// directPage keeps pieces that go that way and others off each other's pages: the kernel stores and forgets whole ones.
	directPage = 4096
)

func (d *direct) open(f *os.File) {
	var st unix.Statx_t
	err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &st)
	if err != nil || st.Mask&unix.STATX_DIOALIGN == 0 || st.Dio_offset_align == 0 || st.Dio_mem_align == 0 {
		return
	}
	// Another open file of the same inode; the locks of the first one are its own.
	second, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_WRONLY|unix.O_DIRECT, 0)
	if err != nil {
		return
	}
	d.f, d.offset, d.memory = second, max(directPage, int64(st.Dio_offset_align)), int64(st.Dio_mem_align)
}

// writeAt writes as much of p as goes that way, which may be nothing. The rest, and what was refused, is the caller's. end is the file's size: a
// file does not grow this way.
func (d *direct) writeAt(f *os.File, p []byte, off, end int64) (int, error) {
	if len(p) < directLeast || off+int64(len(p)) > end || d.refused.Load() {
		return 0, nil
	}
	d.once.Do(func() { d.open(f) })
	if d.f == nil || off%d.offset != 0 || int64(uintptr(unsafe.Pointer(&p[0])))%d.memory != 0 {
		return 0, nil
	}
	whole := p[:int64(len(p))/d.offset*d.offset]
	n, err := d.f.WriteAt(whole, off)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		d.refused.Store(true) // it cannot, whatever was said: the other way will say what is wrong
		err = nil
	}
	return n, err
}

func (d *direct) close() error {
	d.once.Do(func() {})
	if d.f == nil {
		return nil
	}
	return d.f.Close()
}
