package mount

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Spec is one mount as somebody wants it.
type Spec struct {
	Device  string   // node of the device; for bind the folder; empty for tmpfs
	Where   string   // absolute
	Type    string   // ext4, xfs, tmpfs, bind
	Options []string // as in fstab
}

// State is how what is mounted compares with a Spec.
type State string

// States. Partial: a bind mount is there, its options are not yet.
const (
	Absent    State = "absent"
	Same      State = "same"
	Partial   State = "partial"
	Different State = "different" // ours by place and device, but not by type or options
	Foreign   State = "foreign"   // something else is mounted there
)

// Compare tells what list says of s. dev is the device number of s.Device
// (unused for tmpfs and bind), root the folder within its file system that a
// bind mount shows.
func Compare(list []Info, s Spec, dev Number, root string) (State, string) {
	at := At(list, s.Where)
	if at == nil {
		return Absent, ""
	}
	switch s.Type {
	case "tmpfs":
		if at.Type != "tmpfs" {
			return Foreign, fmt.Sprintf("%s holds %s (%s)", s.Where, at.Source, at.Type)
		}
	default:
		if (Number{at.Major, at.Minor}) != dev {
			return Foreign, fmt.Sprintf("%s holds %s (%s, device %d:%d), not %s (%d:%d)", s.Where, at.Source, at.Type, at.Major, at.Minor, s.Device, dev.Major, dev.Minor)
		}
		if s.Type == "bind" && at.Root != root {
			return Foreign, fmt.Sprintf("%s shows the folder %s, not %s", s.Where, at.Root, root)
		}
		if s.Type != "bind" && at.Root != root && root != "" {
			return Foreign, fmt.Sprintf("%s shows only the folder %s of %s", s.Where, at.Root, at.Source)
		}
		if s.Type != "bind" && at.Type != s.Type {
			return Different, fmt.Sprintf("mounted as %s, not %s", at.Type, s.Type)
		}
	}
	return compareFlags(at, s)
}

// compareFlags looks at the options that change what a user may do; others
// are the file system's affair and may show in other words.
func compareFlags(at *Info, s Spec) (State, string) {
	flag, _ := ParseOptions(s.Options)
	for _, o := range []struct {
		bit  uintptr
		name string
	}{{unix.MS_RDONLY, "ro"}, {unix.MS_NOSUID, "nosuid"}, {unix.MS_NODEV, "nodev"}, {unix.MS_NOEXEC, "noexec"}, {unix.MS_NOATIME, "noatime"}} {
		want, have := flag&o.bit != 0, slices.Contains(at.Options, o.name) || o.name == "ro" && slices.Contains(at.Super, "ro")
		switch {
		case want == have:
		case want && s.Type == "bind":
			return Partial, "the bind mount lacks " + o.name
		case want:
			return Different, "mounted without " + o.name
		case o.name == "ro":
			return Different, "mounted read-only"
		}
	}
	return Same, ""
}

// Number is a device number.
type Number struct{ Major, Minor int }

// DeviceNumber reads the number of a block device's node.
func DeviceNumber(node string) (Number, error) {
	var st unix.Stat_t
	if err := unix.Stat(node, &st); err != nil {
		return Number{}, fmt.Errorf("stat %s: %w", node, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return Number{}, fmt.Errorf("%s is no block device", node)
	}
	return Number{int(unix.Major(st.Rdev)), int(unix.Minor(st.Rdev))}, nil
}

// Mount mounts s, making its folder (0755) where there is none.
func Mount(s Spec) error {
	if !filepath.IsAbs(s.Where) || filepath.Clean(s.Where) != s.Where {
		return fmt.Errorf("mount %s: not an absolute path in its shortest form", s.Where)
	}
	if err := os.MkdirAll(s.Where, 0o755); err != nil {
		return fmt.Errorf("mount %s: make the folder: %w", s.Where, err)
	}
	// The kernel would show the mount at the link's end, where nobody looks for it.
	if real, err := filepath.EvalSymlinks(s.Where); err != nil {
		return fmt.Errorf("mount %s: %w", s.Where, err)
	} else if real != s.Where {
		return fmt.Errorf("mount %s: this is a link to %s; write that as the mount point", s.Where, real)
	}
	flag, data := ParseOptions(s.Options)
	if s.Type == "bind" {
		return bind(s, flag)
	}
	source := s.Device
	if s.Type == "tmpfs" {
		source = "tmpfs"
	}
	if err := unix.Mount(source, s.Where, s.Type, flag, data); err != nil {
		return &Error{Op: "mount", Where: s.Where, Device: s.Device, Type: s.Type, Err: err}
	}
	return nil
}

// maxCovered bounds the names that Covered reads.
const maxCovered = 3

// Covered returns the first names in the folder where, at most three: a mount
// there would hide them. None where there is no such folder yet. It can sleep.
func Covered(where string) ([]string, error) {
	f, err := os.Open(where)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look into %s: %w", where, err)
	}
	defer f.Close()
	names, err := f.Readdirnames(maxCovered)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("look into %s: %w", where, err)
	}
	return names, nil
}

// bind needs a second call: the kernel ignores all flags but MS_REC in the
// first (fs/namespace.c, do_loopback).
func bind(s Spec, flag uintptr) error {
	if err := unix.Mount(s.Device, s.Where, "", unix.MS_BIND|flag&unix.MS_REC, ""); err != nil {
		return &Error{Op: "mount", Where: s.Where, Device: s.Device, Type: "bind", Err: err}
	}
	if flag&^(unix.MS_BIND|unix.MS_REC) == 0 {
		return nil
	}
	return Remount(s)
}

// Remount sets the flags of a bind mount that is there.
func Remount(s Spec) error {
	flag, _ := ParseOptions(s.Options)
	if err := unix.Mount("", s.Where, "", unix.MS_REMOUNT|unix.MS_BIND|flag&^uintptr(unix.MS_REC), ""); err != nil {
		return &Error{Op: "remount", Where: s.Where, Device: s.Device, Type: "bind", Err: err}
	}
	return nil
}

// ReadOnly turns the file system at where read-only, for a way down that
// cannot unmount it.
func ReadOnly(where string) error {
	if err := unix.Mount("", where, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return &Error{Op: "remount read-only", Where: where, Err: err}
	}
	return nil
}

// Unmount unmounts the topmost mount at where. lazy detaches it now and lets
// the kernel finish when the last user is gone.
func Unmount(where string, lazy bool) error {
	flag := unix.UMOUNT_NOFOLLOW
	if lazy {
		flag |= unix.MNT_DETACH
	}
	if err := unix.Unmount(where, flag); err != nil {
		return &Error{Op: "unmount", Where: where, Err: err}
	}
	return nil
}

// Error is a failed mount operation with the kernel's reason.
type Error struct {
	Op, Where, Device, Type string
	Err                     error
}

func (e *Error) Error() string {
	s := e.Op + " " + e.Where
	if e.Device != "" {
		s += " (" + e.Device + ", " + e.Type + ")"
	}
	return s + ": " + e.reason()
}

// reason says what the kernel's error most often means.
func (e *Error) reason() string {
	switch {
	case e.Op == "mount" && errors.Is(e.Err, unix.EINVAL):
		return "the kernel does not find this file system on it, or an option is wrong: the kernel log says more"
	case e.Op == "mount" && errors.Is(e.Err, unix.ENODEV):
		return "the kernel does not know the file system " + e.Type + ": its module is missing"
	case e.Op == "mount" && errors.Is(e.Err, unix.EUCLEAN):
		return "the file system is damaged: run its fsck"
	case e.Op == "mount" && errors.Is(e.Err, unix.EBUSY):
		return "the device is in use: mounted elsewhere, or held by another layer"
	case errors.Is(e.Err, unix.EBUSY):
		return "busy: a process uses it"
	}
	return e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// Object is what the report names.
func (e *Error) Object() string { return e.Where }

// Code is the stable code of this error.
func (e *Error) Code() string {
	if errors.Is(e.Err, unix.EBUSY) {
		return "MOUNT-BUSY"
	}
	if e.Op == "mount" {
		return "MOUNT-FAILED"
	}
	return "UMOUNT-FAILED"
}
