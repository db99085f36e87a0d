package block

import (
	"io/fs"
	"path"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"initd/hw/sysfs"
)

// chain builds a tree of devices below sys/devices: each element is NAME or NAME=SUBSYSTEM or NAME=SUBSYSTEM/DEVTYPE, and what
// stands in others is added as it is.
func chain(elements string, others fstest.MapFS) (tree fstest.MapFS, at string) {
	tree = fstest.MapFS{}
	at = "sys/devices"
	for _, element := range strings.Fields(elements) {
		name, kind, isDevice := strings.Cut(element, "=")
		at = path.Join(at, name)
		if !isDevice {
			continue
		}
		subsystem, devtype, _ := strings.Cut(kind, "/")
		properties := ""
		if devtype != "" {
			properties = "DEVTYPE=" + devtype + "\n"
		}
		if subsystem == "block" {
			properties += "MAJOR=8\nMINOR=0\n"
			tree["sys/class/block/"+name] = link2(at)
		}
		tree[at+"/uevent"] = &fstest.MapFile{Data: []byte(properties)}
		if subsystem != "" {
			tree[at+"/subsystem"] = link2("sys/bus/" + subsystem)
		}
	}
	for name, file := range others {
		tree[name] = file
	}
	return tree, at
}

// link2 is a link as deep as nothing here exceeds: the climb stops at the root.
func link2(target string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink}
}

// settle makes the links of a chain relative to where they stand.
func settle(tree fstest.MapFS) *sysfs.FS {
	for name, file := range tree {
		if target := string(file.Data); file.Mode&fs.ModeSymlink != 0 && strings.HasPrefix(target, "sys/") {
			up := strings.Repeat("../", strings.Count(name, "/"))
			file.Data = []byte(up + target)
		}
	}
	return sysfs.New(tree)
}

func class(subsystem, name, place string, attributes map[string]string) fstest.MapFS {
	tree := fstest.MapFS{
		"sys/class/" + subsystem + "/" + name: link2(place),
		place + "/uevent":                     &fstest.MapFile{},
	}
	for attribute, value := range attributes {
		tree[place+"/"+attribute] = &fstest.MapFile{Data: []byte(value + "\n")}
	}
	return tree
}

func merge(trees ...fstest.MapFS) fstest.MapFS {
	out := fstest.MapFS{}
	for _, tree := range trees {
		for name, file := range tree {
			out[name] = file
		}
	}
	return out
}

// The expected names are those that path_id of systemd 252 composes for such trees (src/udev/udev-builtin-path_id.c).
func TestPathsNameThePlace(t *testing.T) {
	const pci = "pci0000:00 0000:00:03.0=pci "
	for _, row := range []struct {
		name, chain string
		others      fstest.MapFS
		want        []string
	}{
		{
			"a disk of an iSCSI session", "platform host2=scsi/scsi_host session1 target2:0:0=scsi/scsi_target 2:0:0:1=scsi/scsi_device block sdb=block/disk",
			merge(
				class("iscsi_session", "session1", "sys/devices/platform/host2/session1/iscsi_session/session1", map[string]string{"targetname": "iqn.2026-01.net.example:disks"}),
				class("iscsi_connection", "connection1:0", "sys/devices/platform/host2/session1/connection1:0/iscsi_connection/connection1:0",
					map[string]string{"persistent_address": "192.0.2.50", "persistent_port": "3260"}),
				fstest.MapFS{"sys/devices/platform/host2/session1/uevent": &fstest.MapFile{}},
			),
			[]string{"ip-192.0.2.50:3260-iscsi-iqn.2026-01.net.example:disks-lun-1"},
		},
		{
			"a disk on a fibre channel", pci + "host4=scsi/scsi_host rport-4:0-1= target4:0:1=scsi/scsi_target 4:0:1:300=scsi/scsi_device block sdc=block/disk",
			class("fc_transport", "target4:0:1", "sys/devices/pci0000:00/fc", map[string]string{"port_name": "0x50060e801049cfd1"}),
			[]string{"pci-0000:00:03.0-fc-0x50060e801049cfd1-lun-0x012c000000000000"},
		},
		{
			"a SAS disk behind an expander", pci + "host6=scsi/scsi_host port-6:0= expander-6:0= port-6:0:4= end_device-6:0:4= target6:0:4=scsi/scsi_target 6:0:4:0=scsi/scsi_device block sdd=block/disk",
			merge(
				class("sas_device", "end_device-6:0:4", "sys/devices/sas/end", map[string]string{"sas_address": "0x5000c50012345679", "phy_identifier": "9"}),
				class("sas_device", "expander-6:0", "sys/devices/sas/exp", map[string]string{"sas_address": "0x500304800000f0bf"}),
				class("sas_port", "port-6:0:4", "sys/devices/sas/port", map[string]string{"num_phys": "1"}),
			),
			[]string{"pci-0000:00:03.0-sas-exp0x500304800000f0bf-phy9-lun-0"},
		},
		{
			"a SAS disk behind a wide port", pci + "host6=scsi/scsi_host port-6:0= end_device-6:0= target6:0:0=scsi/scsi_target 6:0:0:0=scsi/scsi_device block sdd=block/disk",
			merge(
				class("sas_device", "end_device-6:0", "sys/devices/sas/end", map[string]string{"sas_address": "0x5000c50012345679", "phy_identifier": "9"}),
				class("sas_port", "port-6:0", "sys/devices/sas/port", map[string]string{"num_phys": "4"}),
			),
			[]string{"pci-0000:00:03.0-sas-0x5000c50012345679-lun-0"},
		},
		{
			"a disk behind a port multiplier", pci + "ata5= host5=scsi/scsi_host target5:2:0=scsi/scsi_target 5:2:0:0=scsi/scsi_device block sde=block/disk",
			class("ata_port", "ata5", "sys/devices/pci0000:00/0000:00:03.0/ata5/ata_port/ata5", map[string]string{"port_no": "1"}),
			[]string{"pci-0000:00:03.0-ata-1", "pci-0000:00:03.0-ata-1.2.0"},
		},
		{
			"the second host of one adapter", pci + "host8=scsi/scsi_host target8:0:0=scsi/scsi_target 8:0:0:0=scsi/scsi_device block sdf=block/disk",
			fstest.MapFS{"sys/devices/pci0000:00/0000:00:03.0/host7/uevent": &fstest.MapFile{}},
			[]string{"pci-0000:00:03.0-scsi-1:0:0:0"},
		},
		{
			"a USB disk", pci + "usb1=usb/usb_device 1-4=usb/usb_device 1-4:1.0=usb/usb_interface host9=scsi/scsi_host target9:0:0=scsi/scsi_target 9:0:0:0=scsi/scsi_device block sdg=block/disk",
			nil, []string{"pci-0000:00:03.0-usb-0:4:1.0-scsi-0:0:0:0"},
		},
		{
			"an NVMe namespace behind a bridge", "pci0000:00 0000:00:01.0=pci 0000:02:00.0=pci nvme nvme0=nvme nvme0n1=block/disk",
			fstest.MapFS{"sys/devices/pci0000:00/0000:00:01.0/0000:02:00.0/nvme/nvme0/nvme0n1/nsid": &fstest.MapFile{Data: []byte("1\n")}},
			[]string{"pci-0000:02:00.0-nvme-1"},
		},
		{
			"an NVMe namespace with multipath", "virtual nvme-subsystem nvme-subsys1=nvme-subsystem nvme1n1=block/disk",
			merge(
				fstest.MapFS{"sys/devices/virtual/nvme-subsystem/nvme-subsys1/nvme1n1/nsid": &fstest.MapFile{Data: []byte("1\n")}},
				class("nvme", "nvme1", "sys/devices/pci0000:00/0000:00:05.0/nvme/nvme1", nil),
				fstest.MapFS{
					"sys/devices/pci0000:00/0000:00:05.0/nvme/nvme1/subsystem": link2("sys/class/nvme"),
					"sys/devices/pci0000:00/0000:00:05.0/subsystem":            link2("sys/bus/pci"),
					"sys/devices/pci0000:00/0000:00:05.0/uevent":               &fstest.MapFile{},
				},
			),
			[]string{"pci-0000:00:05.0-nvme-1"},
		},
		{"a virtio disk without PCI", "platform a000000.virtio_mmio=platform virtio0=virtio block vda=block/disk", nil, []string{"platform-a000000.virtio_mmio"}},
		{"a device on an unknown bus", "weird x=weird y=weird block sdz=block/disk", nil, nil},
		{"a SATA disk whose port is not described", pci + "ata5= host5=scsi/scsi_host target5:0:0=scsi/scsi_target 5:0:0:0=scsi/scsi_device block sde=block/disk", nil, nil},
		{"a virtual device", "virtual block loop0=block/disk", nil, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			tree, at := chain(row.chain, row.others)
			d, err := Read(settle(tree), path.Base(at))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(row.want, d.Paths); diff != "" {
				t.Error(diff)
			}
		})
	}
}
