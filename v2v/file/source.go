// Package file makes sources and targets of the disk formats out of files, block devices and pipes of this machine.
//
// It owns how a path is opened, what a target's unfinished files are called and when they get their final names, how a range is made to
// read as zeros, and who may have a disk open. It knows no format, and never follows a name out of an image's directory.
package file

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"initd/v2v/image"
)

// OpenOptions are decisions about a source.
type OpenOptions struct {
	// NoSiblings refuses every further file that an image names: for one file that came alone, as an upload.
	NoSiblings bool
	// Shared reads an image that another process has open for writing, as qemu-img's -U does. What is read then may never have been.
	Shared bool
}

// Source is a regular file or a block device, opened to be read.
type Source struct {
	f     *os.File
	size  int64
	name  string
	dir   string
	block bool
	opt   OpenOptions
	// moved says where siblings lie that do not have their names yet.
	moved map[string]string

	mu       sync.Mutex
	siblings []fs.FileInfo // of all that were opened

	run image.LastRun
}

var (
	_ image.Source = (*Source)(nil)
	_ image.Mapper = (*Source)(nil)
)

// Open opens a path, which may be a symbolic link. Whatever is neither a regular file nor a block device is an error.
func Open(path string, opt OpenOptions) (*Source, error) {
	// O_NONBLOCK, so that a FIFO without a writer is refused and not waited for.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	s, err := newSource(f, path, opt)
	if err != nil {
		f.Close()
		return nil, err
	}
	// Siblings lie beside the file itself, not beside a link to it.
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		f.Close()
		return nil, err
	}
	s.dir = filepath.Dir(real)
	return s, nil
}

func newSource(f *os.File, name string, opt OpenOptions) (*Source, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	s := &Source{f: f, name: name, opt: opt, size: info.Size()}
	switch {
	case info.Mode().IsRegular():
	case info.Mode()&fs.ModeDevice != 0 && info.Mode()&fs.ModeCharDevice == 0:
		s.block = true
		if s.size, err = f.Seek(0, io.SeekEnd); err != nil {
			return nil, fmt.Errorf("%s: read the device's size: %w", name, err)
		}
	case info.IsDir():
		return nil, fmt.Errorf("%s: is a directory, not a disk image", name)
	default:
		return nil, fmt.Errorf("%s: is neither a regular file nor a block device; a pipe is read as standard input (-)", name)
	}
	if !opt.Shared && !s.block {
		if err := checkReadable(f, name); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// ReadAt reads the file.
func (s *Source) ReadAt(p []byte, off int64) (int, error) { return s.f.ReadAt(p, off) }

// Size is the file's length when it was opened, or what the device holds, in bytes.
func (s *Source) Size() int64 { return s.size }

// Name is the path as said.
func (s *Source) Name() string { return s.name }

// Close closes the file.
func (s *Source) Close() error { return s.f.Close() }

// File gives the descriptor to those that pass it on: to a child without rights, or to copy_file_range.
func (s *Source) File() *os.File { return s.f }

// Block says whether the source is a block device.
func (s *Source) Block() bool { return s.block }

// Stat tells inode and modification time, by which a later run knows the same input.
func (s *Source) Stat() (fs.FileInfo, error) { return s.f.Stat() }

// NextData is SEEK_DATA and SEEK_HOLE. Where a file system knows no holes all is data.
func (s *Source) NextData(from int64) (start, end int64, err error) { return s.run.Next(from, s.seek) }

func (s *Source) seek(from int64) (start, end int64, err error) {
	if from >= s.size {
		return 0, 0, io.EOF
	}
	if s.block {
		return from, s.size, nil
	}
	start, err = unix.Seek(int(s.f.Fd()), from, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		// SEEK_DATA inside the last hole, unless the file was cut meanwhile.
		if now, err := unix.Seek(int(s.f.Fd()), 0, unix.SEEK_END); err == nil && now < s.size {
			return 0, 0, image.Shrunk(s.name, s.size, now)
		}
		return 0, 0, io.EOF
	case errors.Is(err, unix.EINVAL):
		return from, s.size, nil
	case err != nil:
		return 0, 0, fmt.Errorf("%s: look for data after %d: %w", s.name, from, err)
	}
	if start >= s.size {
		return 0, 0, io.EOF
	}
	end, err = unix.Seek(int(s.f.Fd()), start, unix.SEEK_HOLE)
	if err != nil {
		return 0, 0, fmt.Errorf("%s: look for a hole after %d: %w", s.name, start, err)
	}
	return start, min(end, s.size), nil
}

// Sibling opens a file that the image names beside itself. CVE-2022-47951 and its kin gave any file of the host away here: the kernel
// resolves the name below the image's directory without following a link, and only a regular file is taken.
func (s *Source) Sibling(name string) (image.Source, error) {
	refuse := func(why string) error {
		return &image.Error{Fault: image.Refused, Code: "sibling-outside", Image: s.name,
			What: fmt.Sprintf("names the file %q, which %s", name, why), Do: "copy all files of the image into one directory"}
	}
	switch {
	case s.opt.NoSiblings:
		return nil, &image.Error{Fault: image.Refused, Code: "sibling-alone", Image: s.name,
			What: fmt.Sprintf("names a further file, %q, and only this one was given", name), Do: "give an image that is one file"}
	case name == "" || !filepath.IsLocal(name):
		return nil, refuse("is not beside the image")
	case s.dir == "":
		return nil, refuse("cannot be looked for: the image has no directory")
	}
	said := name
	if to, ok := s.moved[name]; ok {
		name = to
	}
	dir, err := unix.Open(s.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: s.dir, Err: err}
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	switch {
	case errors.Is(err, unix.ELOOP):
		return nil, refuse("is a symbolic link")
	case errors.Is(err, unix.EXDEV):
		return nil, refuse("lies outside the image's directory")
	case err != nil:
		return nil, &fs.PathError{Op: "open", Path: filepath.Join(s.dir, name), Err: err}
	}
	f := os.NewFile(uintptr(fd), filepath.Join(s.dir, name))
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = refuse("is not a regular file")
	}
	var sib *Source
	if err == nil {
		sib, err = newSource(f, filepath.Join(filepath.Dir(s.name), said), OpenOptions{NoSiblings: true, Shared: s.opt.Shared})
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	s.mu.Lock()
	s.siblings = append(s.siblings, info)
	s.mu.Unlock()
	return sib, nil
}

// Opened tells all files that were opened: this one, and the siblings that the image has named so far.
func (s *Source) Opened() []fs.FileInfo {
	var all []fs.FileInfo
	if info, err := s.f.Stat(); err == nil {
		all = append(all, info)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return append(all, s.siblings...)
}

// Stamps tell the further files that were opened so far from changed ones: size, time of change and inode of each.
func (s *Source) Stamps() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, info := range s.siblings {
		var inode uint64
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			inode = st.Ino
		}
		fmt.Fprintln(&b, info.Size(), info.ModTime().UnixNano(), inode)
	}
	return b.String()
}

// Stored is what the file occupies on its file system, in bytes; -1 for a device.
func (s *Source) Stored() int64 {
	var st unix.Stat_t
	if s.block || unix.Fstat(int(s.f.Fd()), &st) != nil {
		return -1
	}
	return st.Blocks * 512
}
