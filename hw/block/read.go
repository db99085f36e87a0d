package block

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"initd/hw/sysfs"
)

// sectorSize is the unit of size and start in sysfs, whatever the device's own sectors are.
const sectorSize = 512

// Scan reads every block device, sorted by name. One that vanishes meanwhile is left out.
func Scan(f *sysfs.FS) ([]Device, error) {
	names, err := f.Names("sys/class/block")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a kernel without any block device yet has no such class
	}
	if err != nil {
		return nil, fmt.Errorf("list block devices: %w", err)
	}
	var devices []Device
	for _, name := range names {
		device, err := Read(f, strings.ReplaceAll(name, "!", "/"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		devices = append(devices, device)
	}
	return devices, nil
}

// Read reads one device by the kernel's name. An error wraps fs.ErrNotExist where there is none.
func Read(f *sysfs.FS, name string) (Device, error) {
	at, err := f.Class("block", name)
	if err != nil {
		return Device{}, fmt.Errorf("read block device %s: %w", name, err)
	}
	properties := at.Uevent()
	major, err1 := strconv.ParseUint(properties["MAJOR"], 10, 32)
	minor, err2 := strconv.ParseUint(properties["MINOR"], 10, 32)
	if err1 != nil || err2 != nil {
		return Device{}, fmt.Errorf("read block device %s: its uevent file gives no MAJOR and MINOR: %w", name, fs.ErrNotExist)
	}
	d := Device{
		Name: name, Major: uint32(major), Minor: uint32(minor),
		DiskSeq:            number(properties["DISKSEQ"]),
		Size:               number(at.String("size")) * sectorSize,
		SectorSize:         int(number(at.String("queue/logical_block_size"))),
		ReadOnly:           at.String("ro") == "1",
		Removable:          at.String("removable") == "1",
		Hidden:             at.String("hidden") == "1",
		Holders:            children(f, at, "holders"),
		Slaves:             children(f, at, "slaves"),
		Virtual:            strings.HasPrefix(at.Path, "sys/devices/virtual/"),
		wholeDiskPartition: at.Has("whole_disk"),
	}
	whole := at
	if properties["DEVTYPE"] == "partition" {
		parent, ok := at.Parent()
		if !ok {
			return Device{}, fmt.Errorf("read block device %s: a partition without a disk: %w", name, fs.ErrNotExist)
		}
		whole = parent
		d.Partition = int(number(at.String("partition")))
		d.Disk = parent.Name()
		d.Start = number(at.String("start")) * sectorSize
		d.SectorSize = int(number(parent.String("queue/logical_block_size")))
	} else {
		d.Partitions = partitions(f, at)
		d.DM, d.MD, d.Loop = mapper(at), array(at), loop(at)
	}
	d.IDs, d.Paths = identify(whole, d)
	return d, nil
}

// number is a decimal number, 0 for what is none: sysfs has no other text where the kernel has a number.
func number(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func children(f *sysfs.FS, at sysfs.Device, directory string) []string {
	names, err := f.Names(at.Attribute(directory))
	if err != nil || len(names) == 0 {
		return nil
	}
	for i := range names {
		names[i] = strings.ReplaceAll(names[i], "!", "/")
	}
	return names
}

func partitions(f *sysfs.FS, at sysfs.Device) []string {
	names, err := f.Names(at.Path)
	if err != nil {
		return nil
	}
	var out []string
	for _, name := range names {
		if f.Exists(at.Attribute(name + "/partition")) {
			out = append(out, strings.ReplaceAll(name, "!", "/"))
		}
	}
	slices.SortFunc(out, func(a, b string) int { return int(trailing(a)) - int(trailing(b)) })
	return out
}

// trailing is the number at the end of a kernel name, udev's %n.
func trailing(name string) uint64 {
	return number(name[len(strings.TrimRight(name, "0123456789")):])
}

func mapper(at sysfs.Device) *DM {
	if !at.Has("dm") {
		return nil
	}
	return &DM{Name: at.String("dm/name"), UUID: at.String("dm/uuid"), Suspended: at.String("dm/suspended") == "1"}
}

func array(at sysfs.Device) *MD {
	if !at.Has("md") {
		return nil
	}
	return &MD{Level: at.String("md/level"), State: at.String("md/array_state"), Metadata: at.String("md/metadata_version")}
}

func loop(at sysfs.Device) *Loop {
	if !at.Has("loop/backing_file") {
		return nil
	}
	return &Loop{
		BackingFile: at.String("loop/backing_file"), Offset: number(at.String("loop/offset")),
		AutoClear: at.String("loop/autoclear") == "1",
	}
}
