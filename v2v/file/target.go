package file

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"initd/v2v/image"
)

// Target is a path that an image is written to. It is made by Create, and ends by Commit or by Abort.
type Target struct {
	path string // with links resolved
	said string
	main *handle
	out  *pipe
	// parts are the unfinished files with their final paths, in the order in which they were made; the main one is the first.
	parts   []part
	old     os.FileInfo // what is replaced; nil if nothing is
	sources []fs.FileInfo
	resumed bool
	done    bool
}

type part struct {
	temp, final string
	h           *handle
}

var _ image.Target = (*Target)(nil)

// CreateOptions are decisions about a target.
type CreateOptions struct {
	// Resume keeps the unfinished files of a run that was ended. Without it they are removed.
	Resume bool
	// Stdout is what the path "-" means.
	Stdout io.Writer
	// Sources are files that must not be written over (Source.Opened).
	Sources []fs.FileInfo
}

// An unfinished file lies beside its final place, hidden, under a name that says whose it is. The main one is locked by the process that
// writes it: if nobody holds the lock, whoever did was killed. A further file of the same image is named after the main one's part.
const (
	partSuffix  = ".v2v-part"
	stateSuffix = ".v2v-state"
)

// ErrBusy is a target that another process is writing.
var ErrBusy = errors.New("another process is converting to it")

// ErrSame is a target that the source is made of.
var ErrSame = errors.New("is what is being read; write to another name, and rename it afterwards")

// Create prepares a target. A regular file, or a name that nothing has, is written under another name until Commit; an existing image
// stays whole until then. A block device is opened for this process alone. "-" is standard output.
func Create(path string, opt CreateOptions) (*Target, error) {
	if path == "-" {
		return &Target{path: "-", said: "-", out: &pipe{w: opt.Stdout}}, nil
	}
	// The file that a link leads to is replaced, and the link stays.
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		real, err = newName(path)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if strings.HasSuffix(path, "/") {
		return nil, fmt.Errorf("%s: is a directory; name the file too", path)
	}
	t := &Target{path: real, said: path, sources: opt.Sources}
	info, err := os.Stat(real)
	switch {
	case err == nil && t.isSource(info):
		return nil, fmt.Errorf("%s: %w", path, ErrSame)
	case errors.Is(err, fs.ErrNotExist):
		return t, t.openPart(opt)
	case err != nil:
		return nil, err
	case info.Mode().IsRegular():
		t.old = info
		if err := t.checkOld(); err != nil {
			return nil, err
		}
		return t, t.openPart(opt)
	case info.IsDir():
		return nil, fmt.Errorf("%s: is a directory; name the file too", path)
	case info.Mode()&fs.ModeDevice != 0 && info.Mode()&fs.ModeCharDevice == 0:
		return t, t.openDevice()
	case info.Mode()&fs.ModeCharDevice != 0 && !takesBytes(info):
		return nil, fmt.Errorf("%s: is a character device, and no place for a disk; name a file, a pipe or a block device", path)
	default:
		f, err := os.OpenFile(real, os.O_WRONLY, 0)
		if err != nil {
			return nil, err
		}
		t.out = &pipe{w: f}
		return t, nil
	}
}

func (t *Target) isSource(info fs.FileInfo) bool {
	for _, s := range t.sources {
		if os.SameFile(info, s) || sameDevice(info, s) {
			return true
		}
	}
	return false
}

func sameDevice(a, b fs.FileInfo) bool {
	sa, oka := a.Sys().(*syscall.Stat_t)
	sb, okb := b.Sys().(*syscall.Stat_t)
	return oka && okb && a.Mode()&fs.ModeDevice != 0 && b.Mode()&fs.ModeDevice != 0 && sa.Rdev == sb.Rdev
}

func (t *Target) checkOld() error {
	f, err := os.Open(t.path)
	if err != nil {
		// Who may not read it may replace it all the same, if the directory lets him.
		return nil
	}
	defer f.Close()
	return checkReplaceable(f, t.said)
}

// PartPath is where the main file lies until Commit.
func PartPath(path string) string { return hidden(path, partSuffix) }

// StatePath is where a conversion notes how far it is.
func StatePath(path string) string { return hidden(path, stateSuffix) }

func hidden(path, suffix string) string {
	return filepath.Join(filepath.Dir(path), "."+shortened(filepath.Base(path), 150)+suffix)
}

// shortened is a name of at most so many bytes: NAME_MAX is 255, and both the image's name and a further file's are in the name of an unfinished one.
func shortened(name string, most int) string {
	if len(name) <= most {
		return name
	}
	half := (most - len("~01234567~")) / 2
	return name[:half] + "~" + fmt.Sprintf("%08x", fnv32(name)) + "~" + name[len(name)-half:]
}

func fnv32(s string) uint32 {
	h := uint32(2166136261)
	for i := range len(s) {
		h = (h ^ uint32(s[i])) * 16777619
	}
	return h
}

func (t *Target) openPart(opt CreateOptions) error {
	temp := PartPath(t.path)
	f, err := lockedPart(temp, t.said)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	t.resumed = opt.Resume && info.Size() > 0
	t.main = &handle{f: f, name: t.said}
	t.parts = []part{{temp: temp, final: t.path, h: t.main}}
	if !t.resumed {
		if err := t.clean(f); err != nil {
			f.Close()
			return err
		}
	}
	return nil
}

// lockedPart opens the unfinished file for this process alone. The loop is for the moment between another's rename or removal and our lock.
func lockedPart(temp, said string) (*os.File, error) {
	for {
		f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o666)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, fmt.Errorf("%s: %w (it holds %s)", said, ErrBusy, temp)
			}
			return nil, fmt.Errorf("lock %s: %w", temp, err)
		}
		mine, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, err
		}
		if there, err := os.Lstat(temp); err == nil && os.SameFile(mine, there) {
			if !mine.Mode().IsRegular() {
				f.Close()
				return nil, fmt.Errorf("%s: is in the way and no regular file; remove it", temp)
			}
			return f, nil
		}
		f.Close()
	}
}

// clean takes away what a killed run left: its further files, its notes, the content of its main one.
func (t *Target) clean(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	return remove(t.leftovers())
}

func (t *Target) leftovers() []string {
	return append(t.notes(), t.beside(filepath.Base(PartPath(t.path))+".")...)
}

// notes are the notes, and what of them a run was killed in the middle of writing: renameio names that with a dot before the
// name to be and a number behind it.
func (t *Target) notes() []string {
	path := StatePath(t.path)
	return append(t.beside("."+filepath.Base(path)), path)
}

// beside are the files of the target's folder whose names begin so.
func (t *Target) beside(prefix string) []string {
	dir := filepath.Dir(t.path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var list []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			list = append(list, filepath.Join(dir, e.Name()))
		}
	}
	return list
}

// remove takes files away that may be gone already.
func remove(paths []string) error {
	for _, p := range paths {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Base is the final name of the image's file.
func (t *Target) Base() string { return filepath.Base(t.path) }

// Path is the target as it was said.
func (t *Target) Path() string { return t.said }

// Main is the image's file.
func (t *Target) Main() (image.File, error) {
	if t.out != nil {
		return t.out, nil
	}
	return t.main, nil
}

// Sibling makes a further file beside the image.
func (t *Target) Sibling(name string) (image.File, error) {
	switch {
	case t.out != nil:
		return nil, fmt.Errorf("%s: this subformat has several files, which need a directory", t.said)
	case t.main.block:
		return nil, fmt.Errorf("%s: this subformat has several files, and a block device is one", t.said)
	case name == "" || name != filepath.Base(name) || name == ".." || name == ".":
		return nil, fmt.Errorf("%s: %q is no name of a file beside it", t.said, name)
	}
	final := filepath.Join(filepath.Dir(t.path), name)
	if final == t.path {
		return nil, fmt.Errorf("%s: the image would have two files of the same name", t.said)
	}
	switch info, err := os.Lstat(final); {
	case err == nil && t.isSource(info):
		return nil, fmt.Errorf("%s: %w", final, ErrSame)
	case err == nil && !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: is in the way and no regular file", final)
	}
	temp := PartPath(t.path) + "." + shortened(name, 90)
	flags := os.O_RDWR | os.O_CREATE | unix.O_NOFOLLOW
	if !t.resumed {
		flags |= os.O_TRUNC
	}
	f, err := os.OpenFile(temp, flags, 0o666)
	if err != nil {
		return nil, err
	}
	h := &handle{f: f, name: final}
	t.parts = append(t.parts, part{temp: temp, final: final, h: h})
	return h, nil
}

// Seekable says whether files can be written anywhere.
func (t *Target) Seekable() bool { return t.out == nil }

// ReadsZero says whether what is never written reads as zeros.
func (t *Target) ReadsZero() bool { return t.main != nil && !t.main.block }

// Device is the block device that is written to; nil for files.
func (t *Target) Device() *os.File {
	if t.main != nil && t.main.block {
		return t.main.f
	}
	return nil
}

// Resumed says whether the unfinished files of an earlier run were there and were kept.
func (t *Target) Resumed() bool { return t.resumed }

// Restart gives up what an earlier run left, after all.
func (t *Target) Restart() error {
	t.resumed = false
	if t.main == nil || t.main.block {
		return nil
	}
	for _, p := range t.parts[1:] {
		p.h.close()
	}
	t.parts = t.parts[:1]
	return t.clean(t.main.f)
}

// StateFile is where a conversion to this target notes how far it is; empty where there is no such place.
func (t *Target) StateFile() string {
	if t.main == nil || t.main.block {
		return ""
	}
	return StatePath(t.path)
}

// Commit makes the files durable and gives them their final names, the one that was asked for last: whoever finds it finds all.
func (t *Target) Commit() error {
	if t.done {
		return nil
	}
	if t.out != nil || t.main.block {
		t.done = true
		return t.closeAll()
	}
	for _, p := range t.parts {
		if t.old != nil {
			t.keepOwner(p.h.f)
		}
		if err := p.h.Sync(); err != nil {
			return err
		}
	}
	for i := len(t.parts) - 1; i >= 0; i-- {
		p := t.parts[i]
		if err := os.Rename(p.temp, p.final); err != nil {
			return err
		}
	}
	t.done = true
	if err := remove(t.notes()); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(t.path))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("make the name %s durable: %w", t.path, err)
	}
	return t.closeAll()
}

// keepOwner gives the new file what the replaced one had; who is not root keeps what he can.
func (t *Target) keepOwner(f *os.File) {
	if st, ok := t.old.Sys().(*syscall.Stat_t); ok {
		_ = f.Chown(int(st.Uid), int(st.Gid))
	}
	_ = f.Chmod(t.old.Mode().Perm())
}

// Abort removes what is unfinished. On a device what was written stays: nothing can take it back.
func (t *Target) Abort() {
	if t.done {
		return
	}
	t.done = true
	if t.main != nil && !t.main.block {
		for i := len(t.parts) - 1; i >= 0; i-- {
			_ = os.Remove(t.parts[i].temp)
		}
		_ = remove(t.notes())
	}
	_ = t.closeAll()
}

// Keep closes the unfinished files and leaves them to a later run that resumes.
func (t *Target) Keep() {
	t.done = true
	_ = t.closeAll()
}

func (t *Target) closeAll() error {
	if t.out != nil {
		if c, ok := t.out.w.(io.Closer); ok && t.path != "-" {
			return c.Close()
		}
		return nil
	}
	var errs []error
	for _, p := range t.parts {
		errs = append(errs, p.h.close())
	}
	if t.parts == nil {
		errs = append(errs, t.main.close())
	}
	return errors.Join(errs...)
}

// Reread opens what was written, before it has its name. What the kernel holds of it in memory is dropped where that is possible, so that
// it comes from the disk.
func (t *Target) Reread() (*Source, error) {
	if t.out != nil {
		return nil, fmt.Errorf("%s: what went through a pipe cannot be read back", t.said)
	}
	path := t.path
	moved := map[string]string{}
	for i, p := range t.parts {
		if i == 0 {
			path = p.temp
		} else {
			moved[filepath.Base(p.final)] = filepath.Base(p.temp)
		}
		_ = unix.Fadvise(int(p.h.f.Fd()), 0, 0, unix.FADV_DONTNEED)
	}
	if t.main.block {
		_ = unix.Fadvise(int(t.main.f.Fd()), 0, 0, unix.FADV_DONTNEED)
	}
	s, err := Open(path, OpenOptions{})
	if err != nil {
		return nil, err
	}
	s.name, s.moved = t.said, moved
	return s, nil
}

// CheckSpace says whether the target's file system has so many bytes left for this user. What a device holds is checked when its
// size is set.
func (t *Target) CheckSpace(need int64) error {
	if t.main == nil || t.main.block {
		return nil
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(t.main.f.Fd()), &fs); err != nil {
		return fmt.Errorf("%s: ask how much room is left: %w", t.said, err)
	}
	free := int64(fs.Bavail) * fs.Bsize
	for _, path := range append(t.beside(filepath.Base(PartPath(t.path))+"."), PartPath(t.path)) {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err == nil {
			free += st.Blocks * 512 // unfinished files count for what they have
		}
	}
	if need > free {
		return &image.Error{Fault: image.TooLarge, Code: "no-space", Image: t.said,
			What: fmt.Sprintf("up to %d bytes are needed, and the file system of %s has %d left", need, filepath.Dir(t.path), free),
			Do:   "free some room, choose another place, or begin all the same with --no-space-check"}
	}
	return nil
}
