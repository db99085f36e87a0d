package luks

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"initd/hw/dm"
	"initd/hw/sysfs"
)

// InUseError says that the device with the data belongs to somebody else already. By is who, as far as it is known: "dm-0 (tank0)".
type InUseError struct{ By string }

func (e *InUseError) Error() string {
	if e.By == "" {
		return "the device is in use (mounted, or taken by another driver)"
	}
	return "the device is in use: " + e.By + " is on it"
}
func (*InUseError) Code() string    { return "LUKS-IN-USE" }
func (*InUseError) Retryable() bool { return true }
func (*InUseError) Hint() string {
	return "a device holds one volume: is this the right one? `lsblk` shows what is on it"
}

// alone refuses a device that another mapping stands on as well: the kernel lets any number of mappings share a device, and two of
// one volume, or one beside another's random key, write over each other. The table of the mapping called name is loaded, so that of
// two that come at the same time each sees the other.
func alone(device dm.Dev, name string) error {
	info, err := dm.Stat(name)
	if err != nil {
		return err
	}
	root, err := sysfs.Open("/")
	if err != nil {
		return err
	}
	defer root.Close()
	return onlyHolder(root, device, info.Dev)
}

// onlyHolder says who else than own is on a device (Documentation/ABI/testing/sysfs-block, holders).
func onlyHolder(root *sysfs.FS, device, own dm.Dev) error {
	holders, err := root.Names("sys/dev/block/" + device.String() + "/holders")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("who is on the device: %w", err)
	}
	var others []string
	for _, holder := range holders {
		if number, err := root.String("sys/class/block/" + holder + "/dev"); err == nil && number == own.String() {
			continue
		}
		if name, err := root.String("sys/class/block/" + holder + "/dm/name"); err == nil && name != "" {
			holder += " (" + name + ")"
		}
		others = append(others, holder)
	}
	if len(others) > 0 {
		return &InUseError{strings.Join(others, ", ")}
	}
	return nil
}
