// Package block knows the machine's block devices: what they are, what they are called, and which one a name means.
//
// It owns the names that udev gives to disks (by-id, by-path, by-uuid, by-label, by-partuuid, by-partlabel, by-diskseq, dm and
// md names), computed as Debian 12's rules compute them but from sysfs and from what a medium holds alone, so that they
// exist where no udevd runs; the stack of holders; and the rule that a name means exactly one device, the top of its
// stack. It needs sysfs. It never opens a device: what is on a medium comes from package media, called in a child process
// by whoever keeps the World. It never assembles, unlocks or mounts anything.
//
// Not covered: by-id names of USB and FireWire disks and of optical drives, which udev gets by asking the device.
package block

import (
	"fmt"
	"strings"

	"initd/hw/block/media"
)

// Device is one block device as sysfs shows it.
type Device struct {
	// Name is the kernel's: vda1, nvme0n1, cciss/c0d0. Its node is /dev/NAME.
	Name         string
	Major, Minor uint32
	// DiskSeq grows with every disk and every exchange of a medium: a number never means two disks. 0 before Linux 5.15.
	DiskSeq    uint64
	Size       uint64 // bytes
	SectorSize int    // bytes, the logical one
	ReadOnly   bool
	Removable  bool
	// Hidden devices have no node: the paths below an NVMe multipath device.
	Hidden bool

	// Partition is the number on Disk, 0 for a whole disk. Start is in bytes on Disk.
	Partition int
	Disk      string
	Start     uint64

	// Holders stand on this device, Slaves are what it stands on, Partitions are cut from it: kernel names.
	Holders, Slaves, Partitions []string

	DM   *DM
	MD   *MD
	Loop *Loop

	// IDs and Paths are the device's links in by-id and by-path that do not depend on what it holds.
	IDs, Paths []string
	// Virtual devices (dm, md, loop) hang below no bus.
	Virtual bool
	// wholeDiskPartition marks a partition that is the disk itself; udev gives it no name.
	wholeDiskPartition bool
}

// DM is a device mapper device. A name is as dm shows it in sysfs, with \x20 for a blank.
type DM struct {
	Name, UUID string
	Suspended  bool
}

// MD is an md array. State is md/array_state: clear, inactive, readonly, active, clean ….
type MD struct {
	Level, State, Metadata string
}

// Loop is an attached loop device.
type Loop struct {
	BackingFile string
	Offset      uint64
	AutoClear   bool
}

// Node is the device's place in /dev.
func (d Device) Node() string { return "/dev/" + d.Name }

// Number is MAJOR:MINOR.
func (d Device) Number() string { return fmt.Sprintf("%d:%d", d.Major, d.Minor) }

// String is how a person knows the device: /dev/dm-0 (tank0), /dev/vda1.
func (d Device) String() string {
	if d.DM != nil && d.DM.Name != "" {
		return d.Node() + " (" + d.DM.Name + ")"
	}
	return d.Node()
}

// Kind is what sort of device stands here, as far as others have to know.
type Kind string

const (
	Disk      Kind = "disk"
	Part      Kind = "partition"
	Crypt     Kind = "crypt"     // dm-crypt
	LVM       Kind = "lvm"       // a logical volume
	Multipath Kind = "multipath" // dm-multipath
	RAID      Kind = "raid"      // md, dm-raid
	Mapper    Kind = "mapper"    // any other dm device
	Loopback  Kind = "loop"
)

// Kind tells by the prefix of a dm device's UUID, which every tool that makes dm devices sets (libdm's convention).
func (d Device) Kind() Kind {
	switch {
	case d.DM != nil:
		return d.DM.kind()
	case d.MD != nil:
		return RAID
	case d.Partition != 0:
		return Part
	case strings.HasPrefix(d.Name, "loop"):
		return Loopback
	}
	return Disk
}

func (m DM) kind() Kind {
	prefix, _, _ := strings.Cut(m.UUID, "-")
	switch {
	case prefix == "CRYPT":
		return Crypt
	case prefix == "LVM":
		return LVM
	case prefix == "mpath":
		return Multipath
	case prefix == "DMRAID":
		return RAID
	case m.partition() != 0:
		return Part
	}
	return Mapper
}

// partition is the number of a partition that kpartx made: its UUID is part1-mpath-….
func (m DM) partition() int {
	prefix, _, ok := strings.Cut(m.UUID, "-")
	digits, found := strings.CutPrefix(prefix, "part")
	if !ok || !found || digits == "" || len(digits) > 4 || strings.Trim(digits, "0123456789") != "" {
		return 0
	}
	n := 0
	for _, c := range digits {
		n = 10*n + int(c-'0')
	}
	return n
}

// lvmIDSize is the length of a volume group's and a logical volume's UUID together, without dashes.
const lvmIDSize = 64

// internal says that a dm device is a part of another one, made by LVM for itself (a pool's data, a mirror's leg): its UUID
// goes on after the volume's. Such a device has no names and must not be used.
func (m DM) internal() bool {
	id, ok := strings.CutPrefix(m.UUID, "LVM-")
	return ok && len(id) > lvmIDSize
}

// named says whether udev's storage rules look at the device at all (60-persistent-storage.rules, its KERNEL line; the dm and md
// rules look at theirs).
func (d Device) named() bool {
	if d.Hidden || d.wholeDiskPartition {
		return false
	}
	if d.DM != nil {
		return !d.DM.internal()
	}
	for _, prefix := range []string{
		"loop", "mmcblk", "msblk", "mspblk", "nvme", "sd", "sr", "vd", "xvd", "bcache", "cciss", "dasd", "ubd", "ubi",
		"scm", "pmem", "nbd", "zd", "md",
	} {
		if strings.HasPrefix(d.Name, prefix) {
			return true
		}
	}
	return false
}

// probeable says whether the device may be read: opening a suspended dm device blocks for as long as it stays so.
func (d Device) probeable() bool {
	switch {
	case d.Size == 0, !d.named():
		return false
	case d.DM != nil:
		return !d.DM.Suspended
	case d.MD != nil:
		return d.MD.State != "clear" && d.MD.State != "inactive"
	case d.Kind() == Loopback && d.Partition == 0:
		return d.Loop != nil
	}
	return true
}

// links are the names that depend on what the medium holds. entry is the partition's entry in its disk's table, if it is one.
func (d Device) links(content *media.Content, table *media.Table, entry *media.Partition) []string {
	var names []string
	add := func(kind, value string) {
		if value != "" {
			names = append(names, kind+"/"+encode(value))
		}
	}
	usage := media.Usage("")
	if content != nil && content.Signature != nil {
		s := content.Signature
		usage = s.Usage
		if usage == media.Filesystem || usage == media.Other || usage == media.Crypto {
			add("uuid", s.UUID)
		}
		// The dm and md rules leave the label of an encrypted volume out; the rules for disks do not.
		if usage == media.Filesystem || usage == media.Other || usage == media.Crypto && d.DM == nil && !d.isMD() {
			add("label", s.Label)
		}
		if s.Type == "LVM2_member" {
			add("id", "lvm-pv-uuid-"+s.UUID) // 69-lvm.rules
		}
	}
	if entry == nil {
		return names
	}
	if !d.isMD() || usage == media.Filesystem || usage == media.Other {
		add("partuuid", entry.UUID)
	}
	if table.Type == "gpt" && !d.isMD() {
		add("partlabel", entry.Label)
	}
	return names
}

func (d Device) isMD() bool { return strings.HasPrefix(d.Name, "md") }

// same says whether two readings are of the same disk with the same extent, so that what was read from its medium still
// describes it.
func (d Device) same(o Device) bool {
	return d.Major == o.Major && d.Minor == o.Minor && d.DiskSeq == o.DiskSeq && d.Size == o.Size && d.Start == o.Start &&
		(d.DM == nil) == (o.DM == nil) && (d.DM == nil || d.DM.UUID == o.DM.UUID && d.DM.Name == o.DM.Name) &&
		(d.Loop == nil) == (o.Loop == nil) && (d.Loop == nil || *d.Loop == *o.Loop)
}
