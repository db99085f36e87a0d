package cpio

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"

	"github.com/google/renameio/v2"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// The newc format: 'newc' in cpio(5), and init/initramfs.c of the kernel.
const (
	magic   = "070701"
	trailer = "TRAILER!!!"
	align   = 4
	maxSize = 1<<32 - 1
	// An archive is padded to this, as GNU cpio does: another archive may follow, and the kernel wants it aligned.
	blockSize = 512
)

// Compression of a whole archive. The kernel finds out by itself which one it is, if its configuration has it (CONFIG_RD_*).
type Compression int

const (
	None Compression = iota
	Gzip
	Zstd
)

// Write writes the archive, uncompressed, padded to 512 bytes. The same entries always give the same bytes.
func (a *Archive) Write(w io.Writer) error {
	out := &offsetWriter{w: bufio.NewWriterSize(w, 1<<16)}
	// The kernel joins regular files with more than one link by device and inode: each entry gets a number of its own,
	// by position, so that the bytes depend on nothing else.
	for i, e := range a.Entries() {
		if err := out.entry(uint32(i+1), e); err != nil {
			return err
		}
	}
	if err := out.header(header{nlink: 1, name: trailer}); err != nil {
		return err
	}
	if err := out.pad(blockSize); err != nil {
		return err
	}
	return out.w.Flush()
}

// WriteCompressed writes the archive through a compressor, on one core so that the bytes stay the same.
func (a *Archive) WriteCompressed(w io.Writer, c Compression) error {
	switch c {
	case None:
		return a.Write(w)
	case Gzip:
		// Neither name nor time go into the gzip header.
		z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
		if err != nil {
			return err
		}
		return closeAfter(z, a.Write(z))
	case Zstd:
		z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1))
		if err != nil {
			return err
		}
		return closeAfter(z, a.Write(z))
	}
	return fmt.Errorf("write the archive: there is no compression %d", c)
}

// WriteFile writes the archive to a file, mode 0644: either the whole new one is there or what was before.
func (a *Archive) WriteFile(path string, c Compression) error {
	f, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o644))
	if err != nil {
		return fmt.Errorf("write the archive: %w", err)
	}
	defer f.Cleanup() //nolint:errcheck // after CloseAtomicallyReplace there is nothing left to clean
	if err := a.WriteCompressed(f, c); err != nil {
		return fmt.Errorf("write the archive %s: %w", path, err)
	}
	return f.CloseAtomicallyReplace()
}

func closeAfter(c io.Closer, err error) error {
	if cerr := c.Close(); err == nil {
		err = cerr
	}
	return err
}

// header is what an entry's header says; what it leaves out (times, the archive's device, checksum) is zero.
type header struct {
	ino, mode, uid, gid, nlink, size, major, minor uint32
	name                                           string
}

// offsetWriter knows how far it is, for the padding.
type offsetWriter struct {
	w   *bufio.Writer
	pos int64
}

func (o *offsetWriter) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	o.pos += int64(n)
	return n, err
}

func (o *offsetWriter) pad(to int64) error {
	var zeros [blockSize]byte
	_, err := o.Write(zeros[:(to-o.pos%to)%to])
	return err
}

func (o *offsetWriter) header(h header) error {
	const mtime, devMajor, devMinor, check = 0, 0, 0, 0
	_, err := fmt.Fprintf(o, magic+"%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		h.ino, h.mode, h.uid, h.gid, h.nlink, mtime, h.size, devMajor, devMinor, h.major, h.minor, len(h.name)+1, check, h.name)
	if err != nil {
		return err
	}
	return o.pad(align)
}

func (o *offsetWriter) entry(ino uint32, e Entry) error {
	h := header{ino: ino, mode: unixMode(e.Mode), uid: e.UID, gid: e.GID, nlink: 1, name: e.Path, major: e.Major, minor: e.Minor}
	switch e.Mode.Type() {
	case fs.ModeDir:
		h.nlink = 2
	case fs.ModeSymlink:
		h.size = uint32(len(e.Target))
	case 0:
		h.size = uint32(e.Size)
	}
	if err := o.header(h); err != nil {
		return err
	}
	switch {
	case e.Mode.Type() == fs.ModeSymlink:
		if _, err := io.WriteString(o, e.Target); err != nil {
			return err
		}
	case e.Mode.IsRegular() && e.Size > 0:
		if err := o.content(e); err != nil {
			return err
		}
	}
	return o.pad(align)
}

func (o *offsetWriter) content(e Entry) error {
	r, err := e.Open()
	if err != nil {
		return fmt.Errorf("read /%s: %w", e.Path, err)
	}
	defer r.Close()
	n, err := io.Copy(o, io.LimitReader(r, e.Size))
	if err != nil {
		return fmt.Errorf("read /%s: %w", e.Path, err)
	}
	var more [1]byte
	if extra, _ := io.ReadFull(r, more[:]); n != e.Size || extra != 0 {
		return fmt.Errorf("read /%s: it has not the %d bytes that it had when it was added: somebody is writing to it", e.Path, e.Size)
	}
	return nil
}

// unixMode gives st_mode as in inode(7).
func unixMode(m fs.FileMode) uint32 {
	bits := uint32(m.Perm())
	for _, b := range []struct {
		mode fs.FileMode
		unix uint32
	}{{fs.ModeSetuid, unix.S_ISUID}, {fs.ModeSetgid, unix.S_ISGID}, {fs.ModeSticky, unix.S_ISVTX}} {
		if m&b.mode != 0 {
			bits |= b.unix
		}
	}
	switch m.Type() {
	case fs.ModeDir:
		return bits | unix.S_IFDIR
	case fs.ModeSymlink:
		return bits | unix.S_IFLNK
	case fs.ModeDevice:
		return bits | unix.S_IFBLK
	case fs.ModeDevice | fs.ModeCharDevice:
		return bits | unix.S_IFCHR
	}
	return bits | unix.S_IFREG
}
