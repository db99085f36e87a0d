package scenario

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"initd/qemu-tests/vm"
)

// row is a package whose tests with the build tag 'guest' (files *_guest_test.go) run as root of a machine, and what that
// machine has to have.
type row struct {
	// Package as the go command takes it: "./hw/dm".
	Package string
	// Modules are loaded before the tests, by name or alias, with all that they need; Carry are only there, for modprobe.
	Modules, Carry []string
	// Disks of the machine, which start as this says.
	Disks func(t *testing.T) []*vm.Disk
	// Tables of the firmware: QEMU's -acpitable.
	Tables func(t *testing.T) []string
	// Cards are the MACs of network cards, each on a wire with nobody else.
	Cards []string
	// Programs of Debian's, by name, with their libraries; their packages stand in bootstrap/packages.txt.
	Programs []string
	// Host lists files and folders of Debian's that are copied to the same paths: rules, plugins.
	Host []string
	// Ours are programs of this module, by their place in the machine: "/bin/v2v" is "./v2v".
	Ours map[string]string
	// Memory of the machine in MiB; 1024 if zero.
	Memory int
	// Alone asks for a machine with nobody else's modules, disks and leftovers; it costs a boot.
	Alone bool
}

var rows = []row{
	{Package: "./hw/secret"},
	{Package: "./hw/uevent"},
	{Package: "./hw/dm", Alone: true, // it runs a udev of its own
		Modules:  []string{"dm_mod"},
		Programs: []string{"udevadm", "systemd-udevd", "dmsetup"},
		Host:     []string{"/usr/lib/udev"}},
	{Package: "./hw/luks",
		Modules:  []string{"dm_crypt", "xts", "cbc", "essiv", "twofish_generic", "loop"},
		Programs: []string{"cryptsetup", "dmsetup"}},
	{Package: "./qemu-tests/guest/disks",
		Modules:  []string{"virtio_blk", "dm_crypt", "xts", "ext4"},
		Disks:    harnessDisks,
		Programs: []string{"cryptsetup", "e2fsck"}},
	{Package: "./hw/mount",
		Modules: []string{"virtio_blk", "xfs"},
		Disks: func(t *testing.T) []*vm.Disk {
			return []*vm.Disk{vm.NewDisk(t, "mount-ext4", 32*vm.MiB), vm.NewDisk(t, "mount-xfs", 400*vm.MiB)}
		},
		Programs: []string{"mke2fs", "fsck.ext4", "debugfs", "mkfs.xfs"}},
	{Package: "./qemu-tests/guest/fabrics", Modules: []string{"nvmet-tcp", "nvme-tcp"}},
	{Package: "./hw/clock"},
	{Package: "./qemu-tests/peer/lio", Alone: true,
		Modules: []string{"target_core_mod", "target_core_file", "target_core_pscsi", "scsi_debug", "iscsi_target_mod", "iscsi_tcp", "sd_mod", "crc32c"}},
	{Package: "./qemu-tests/guest/deploy", Alone: true,
		Modules: []string{"target_core_mod", "target_core_file", "iscsi_target_mod", "iscsi_tcp", "sd_mod", "crc32c", "virtio_blk", "dm_mod", "dm_flakey"},
		Disks:   func(t *testing.T) []*vm.Disk { return []*vm.Disk{vm.NewDisk(t, "faulty", 64*vm.MiB)} },
		Ours:    map[string]string{"/bin/v2v": "./v2v"}},
	{Package: "./hw/link", Modules: []string{"virtio_net", "af_packet", "veth", "bonding", "8021q", "bridge", "dummy"},
		Cards: []string{"52:54:00:00:00:17"}, Programs: []string{"udevadm", "ip", "nsenter"}},
	{Package: "./hw/firmware", Modules: []string{"iscsi_ibft"}, Tables: firmwareTables},
	{Package: "./hw/watchdog", Modules: []string{"softdog"}},
	{Package: "./shutdown", Alone: true, // it takes down all there is
		Modules: []string{"virtio_blk", "dm_mod", "loop"},
		Disks: func(t *testing.T) []*vm.Disk {
			return []*vm.Disk{vm.NewDisk(t, "down-a", 64*vm.MiB), vm.NewDisk(t, "down-b", 64*vm.MiB)}
		},
		Programs: []string{"mke2fs", "mkswap", "losetup"}},
	{Package: "./hw/kmod", Alone: true,
		Carry: []string{"dm-crypt", "crypto-xts(aes)", "fs-ext4", "squashfs", "loop", "virtio_blk", "virtio_net"}},
	{Package: "./hw/block", Alone: true,
		Modules: []string{"virtio_blk", "virtio_scsi", "sd_mod", "nvme", "dm-mod", "dm-crypt", "xts", "raid1", "loop", "xfs"},
		Disks:   blockDisks,
		Programs: []string{"udevadm", "systemd-udevd", "cryptsetup", "dmsetup", "mdadm", "lvm", "sg_inq", "multipath", "kpartx", "sfdisk",
			"mkfs.ext4", "mkfs.xfs", "mkfs.vfat", "mkswap", "blkid", "lsblk", "losetup", "sh"},
		Host: []string{"/usr/lib/udev", "/etc/lvm"}},
}

// firmwareTables are two of hw/firmware's captures.
func firmwareTables(t *testing.T) []string {
	var args []string
	for _, name := range []string{"ibft_two_nics", "nbft_two_paths"} {
		file := filepath.Join(vm.Root(t), "hw/firmware/testdata", name+".bin")
		if _, err := os.Stat(file); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-acpitable", "file="+file)
	}
	return args
}

// blockDisks are blank disks on every bus. (Serial numbers of SCSI disks have four bytes at least: sg_inq, which udev calls,
// takes a shorter page 80h for something else.)
func blockDisks(t *testing.T) []*vm.Disk {
	odd := vm.NewDisk(t, "odd", 64*vm.MiB)
	odd.Props = map[string]any{"serial": "gpt/d é0"}
	return []*vm.Disk{
		odd,
		vm.NewDisk(t, "v1", 64*vm.MiB),
		vm.NewDisk(t, "v2", 64*vm.MiB),
		vm.NewDisk(t, "v3", 64*vm.MiB),
		vm.NewDisk(t, "n0", 16*vm.MiB).On(vm.NVMe),
		vm.NewDisk(t, "scsi-16", 16*vm.MiB).On(vm.SCSI),
		vm.NewDisk(t, "scsi-400", 400*vm.MiB).On(vm.SCSI),
	}
}

// Every package of the table runs its guest tests under a real kernel: those that can share a machine in one boot, the
// others in one of their own. What they print is shown when they fail; a test that is skipped there, or that does not
// come to its end, has failed.
func TestHardware(t *testing.T) {
	var together []row
	for _, r := range rows {
		if r.Alone {
			t.Run(filepath.Base(r.Package), func(t *testing.T) { runRows(t, r) })
			continue
		}
		together = append(together, r)
	}
	t.Run("together", func(t *testing.T) { runRows(t, together...) })
}

// Every package with guest tests has a row, or its tests would run nowhere.
func TestEveryPackageWithGuestTestsHasARow(t *testing.T) {
	for _, pkg := range guestPackages(t) {
		if !slices.ContainsFunc(rows, func(r row) bool { return r.Package == pkg }) {
			t.Errorf("%s has guest tests and no row in hw_test.go", pkg)
		}
	}
}
