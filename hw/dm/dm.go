// Package dm makes, changes, lists and removes device-mapper devices.
//
// It owns the ioctls of /dev/mapper/control, the text of tables (with every key taken out before anybody sees it), the
// handshake with udev by cookies, and the /dev/mapper nodes where no udev runs. It needs the kernel module dm_mod
// (Documentation/admin-guide/device-mapper, include/uapi/linux/dm-ioctl.h). It knows nothing of what the devices are
// for, and imports nothing of this program.
//
// Suspend, Remove and whatever opens a device can sleep in the kernel for as long as I/O hangs: call them from a
// process that may be abandoned. Names are those that udev leaves as they are: letters, digits and #+-.:=@_
package dm

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/anatol/devmapper.go"
	"golang.org/x/sys/unix"
)

// SectorSize is the unit of every start, length and offset in a table, in bytes.
const SectorSize = 512

var (
	ErrBusy     = errors.New("device is busy")
	ErrExists   = errors.New("a device of this name or UUID exists")
	ErrNotFound = errors.New("no such device-mapper device")
	// ErrNoDriver says that the kernel has no device mapper yet.
	ErrNoDriver = errors.New("no device mapper in the kernel (load dm_mod)")
)

// Error is a failed operation on one device. Err is one of the errors above, an errno, or a cause in words.
type Error struct {
	Op, Name string
	Err      error
}

func (e *Error) Error() string { return fmt.Sprintf("dm: %s %s: %v", e.Op, e.Name, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// Dev is a block device number as the kernel encodes it for user space.
type Dev uint64

func (d Dev) Major() uint32 { return unix.Major(uint64(d)) }
func (d Dev) Minor() uint32 { return unix.Minor(uint64(d)) }

// String is MAJOR:MINOR, the form in which a table names a device too.
func (d Dev) String() string { return fmt.Sprintf("%d:%d", d.Major(), d.Minor()) }

// Info is the state of one device.
type Info struct {
	Name, UUID     string
	Dev            Dev
	Open           int  // how many have it open: mounts, other devices, processes
	Active         bool // it has a table in use
	Inactive       bool // a table was loaded and not resumed yet
	Suspended      bool
	ReadOnly       bool
	DeferredRemove bool // it goes when the last user closes it
}

// Item is one device of a List.
type Item struct {
	Name string
	Dev  Dev
}

const nameBytes = "#+-.:=@_" // besides letters and digits: libdm's whitelist for names in a /dev run by udev

// ValidName says what is wrong with a name, nil if nothing is.
func ValidName(name string) error {
	bad := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(nameBytes, r)
	}
	switch {
	case name == "":
		return errors.New("the name is empty")
	case len(name) >= unix.DM_NAME_LEN:
		return fmt.Errorf("the name has %d bytes, at most %d are possible", len(name), unix.DM_NAME_LEN-1)
	case name == "." || name == ".." || name == "control":
		return errors.New("the name is taken by the system")
	case strings.ContainsFunc(name, bad):
		return fmt.Errorf("the name has characters other than letters, digits and %s", nameBytes)
	}
	return nil
}

// Create makes a device without a table. ErrExists if its name or its UUID is taken; uuid may be empty.
func Create(name, uuid string) error {
	if err := ValidName(name); err != nil {
		return &Error{"create", name, err}
	}
	if len(uuid) >= unix.DM_UUID_LEN {
		return &Error{"create", name, fmt.Errorf("the UUID has %d bytes, at most %d are possible", len(uuid), unix.DM_UUID_LEN-1)}
	}
	err := devmapper.Create(name, uuid)
	if errors.Is(err, unix.EBUSY) { // what dm_hash_insert says (drivers/md/dm-ioctl.c)
		err = ErrExists
	}
	return failed("create", name, err)
}

// Load gives a device the table that its next Resume puts to use.
func Load(name string, readOnly bool, tables ...devmapper.Table) error {
	var flags uint32
	if readOnly {
		flags = devmapper.ReadOnlyFlag
	}
	return failed("load the table of", name, devmapper.Load(name, flags, tables...))
}

// Suspend holds back I/O to a device, after the I/O under way has ended. noFlush leaves that I/O where it is, and file
// systems unfrozen: for a device below which nothing answers any more.
func Suspend(name string, noFlush bool) error {
	flags := uint32(unix.DM_SUSPEND_FLAG)
	if noFlush {
		flags |= unix.DM_NOFLUSH_FLAG | unix.DM_SKIP_LOCKFS_FLAG
	}
	_, err := control(unix.DM_DEV_SUSPEND, request{name: name, flags: flags})
	return failed("suspend", name, err)
}

// Stat returns the state of the device called name; ErrNotFound if there is none.
func Stat(name string) (Info, error) {
	info, err := devmapper.InfoByName(name)
	if err != nil {
		return Info{}, failed("stat", name, err)
	}
	return infoOf(info), nil
}

// StatDev is Stat by device number.
func StatDev(dev Dev) (Info, error) {
	info, err := devmapper.InfoByDevno(uint64(dev))
	if err != nil {
		return Info{}, failed("stat", dev.String(), err)
	}
	return infoOf(info), nil
}

func infoOf(info *devmapper.DeviceInfo) Info {
	flag := func(bit uint32) bool { return info.Flags&bit != 0 }
	return Info{
		Name: info.Name, UUID: info.UUID, Dev: Dev(info.DevNo), Open: int(info.OpenCount),
		Active:         flag(unix.DM_ACTIVE_PRESENT_FLAG),
		Inactive:       flag(unix.DM_INACTIVE_PRESENT_FLAG),
		Suspended:      flag(unix.DM_SUSPEND_FLAG),
		ReadOnly:       flag(unix.DM_READONLY_FLAG),
		DeferredRemove: flag(unix.DM_DEFERRED_REMOVE),
	}
}

// List returns every device, by name.
func List() ([]Item, error) {
	found, err := devmapper.List()
	if err != nil {
		return nil, failed("list", "devices", err)
	}
	items := make([]Item, 0, len(found))
	for _, item := range found {
		if item.Name != "" { // how the kernel says that there is none
			items = append(items, Item{Name: item.Name, Dev: Dev(item.DevNo)})
		}
	}
	slices.SortFunc(items, func(a, b Item) int { return strings.Compare(a.Name, b.Name) })
	return items, nil
}

// Deps returns the devices that the active table of name stands on.
func Deps(name string) ([]Dev, error) {
	answer, err := control(unix.DM_TABLE_DEPS, request{name: name, room: 4096})
	if err != nil {
		return nil, failed("list what is below", name, err)
	}
	return parseDeps(answer.data)
}

// failed gives err its operation and its type.
func failed(op, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EBUSY):
		err = ErrBusy
	case errors.Is(err, unix.ENXIO): // of the device by name, and of the driver behind the control node
		err = ErrNotFound
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV):
		err = ErrNoDriver
	}
	return &Error{op, name, err}
}
