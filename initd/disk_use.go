package main

import (
	"bytes"
	"fmt"
	"strings"

	"initd/hw/mount"
	"initd/hw/sysfs"
)

// maxMounts bounds the list of mounts, bytes.
const maxMounts = 4 << 20

// diskUse says what uses a disk or one of its partitions: another device, a mount, a file system of several disks, or swap; "" if
// nothing does. What cannot be known counts as a use.
func diskUse(f *sysfs.FS, disk string) string {
	text, err := f.Bytes("proc/self/mountinfo", maxMounts)
	if err != nil {
		return fmt.Sprintf("somebody, perhaps (%v)", err)
	}
	mounts, err := mount.Parse(bytes.NewReader(text))
	if err != nil {
		return fmt.Sprintf("somebody, perhaps (%v)", err)
	}
	swaps, _ := f.Bytes("proc/swaps", sysfs.MaxAttribute) // not there: a kernel that does not swap
	pools, _ := f.Names("sys/fs/btrfs")                   // the same
	for _, name := range withPartitions(f, disk) {
		dir := "sys/class/block/" + name
		if holders, err := f.Names(dir + "/holders"); err == nil && len(holders) > 0 {
			return "/dev/" + holders[0]
		}
		number, err := f.String(dir + "/dev")
		for _, m := range mounts {
			if err == nil && fmt.Sprintf("%d:%d", m.Major, m.Minor) == number {
				return "the mount " + m.Point
			}
		}
		for _, p := range pools { // its mounts have a device number that is no disk's
			if f.Exists("sys/fs/btrfs/" + p + "/devices/" + name) {
				return "the btrfs " + p
			}
		}
		for line := range strings.Lines(string(swaps)) {
			if strings.HasPrefix(line, "/dev/"+name+" ") || strings.HasPrefix(line, "/dev/"+name+"\t") {
				return "swap"
			}
		}
	}
	return ""
}

// withPartitions are a disk and its partitions.
func withPartitions(f *sysfs.FS, disk string) []string {
	list := []string{disk}
	names, _ := f.Names("sys/class/block/" + disk) // it is gone: so are they
	for _, n := range names {
		if strings.HasPrefix(n, disk) {
			list = append(list, n)
		}
	}
	return list
}
