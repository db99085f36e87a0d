package link

import (
	"io/fs"
	"path"
	"strings"
	"testing"
	"testing/fstest"

	"initd/hw/sysfs"
)

// device adds a device below sys/devices, with the links that lead to it; driver may be empty.
func device(tree fstest.MapFS, at, subsystem, driver, uevent string) {
	up := strings.Repeat("../", strings.Count(at, "/"))
	tree[at+"/uevent"] = &fstest.MapFile{Data: []byte(uevent)}
	bus := "bus/" + subsystem
	if subsystem == "net" {
		bus = "class/net"
		tree["sys/class/net/"+path.Base(at)] = &fstest.MapFile{Mode: fs.ModeSymlink, Data: []byte("../../../" + at)}
	}
	tree[at+"/subsystem"] = &fstest.MapFile{Mode: fs.ModeSymlink, Data: []byte(up + "sys/" + bus)}
	if driver != "" {
		tree[at+"/driver"] = &fstest.MapFile{Mode: fs.ModeSymlink, Data: []byte(up + "sys/bus/" + subsystem + "/drivers/" + driver)}
	}
}

// The paths are those that udev 252 gives (udevadm test-builtin path_id).
func TestInterfacesAreFoundByTheirPlace(t *testing.T) {
	const root = "sys/devices/pci0000:00"
	tree := fstest.MapFS{}
	device(tree, root+"/0000:00:04.0", "pci", "virtio-pci", "DRIVER=virtio-pci\n")
	device(tree, root+"/0000:00:04.0/virtio1", "virtio", "virtio_net", "DRIVER=virtio_net\n")
	device(tree, root+"/0000:00:04.0/virtio1/net/eth0", "net", "", "INTERFACE=eth0\n")
	device(tree, root+"/0000:00:1c.0", "pci", "pcieport", "")
	device(tree, root+"/0000:00:1c.0/0000:03:00.1", "pci", "mlx5_core", "")
	device(tree, root+"/0000:00:1c.0/0000:03:00.1/net/eth1", "net", "", "")
	device(tree, root+"/0000:00:14.0", "pci", "xhci_hcd", "")
	device(tree, root+"/0000:00:14.0/usb1", "usb", "usb", "DEVTYPE=usb_device\n")
	device(tree, root+"/0000:00:14.0/usb1/1-2", "usb", "usb", "DEVTYPE=usb_device\n")
	device(tree, root+"/0000:00:14.0/usb1/1-2/1-2:1.0", "usb", "cdc_ether", "DEVTYPE=usb_interface\n")
	device(tree, root+"/0000:00:14.0/usb1/1-2/1-2:1.0/net/usb0", "net", "", "")
	device(tree, "sys/devices/platform/fe300000.ethernet", "platform", "macb", "")
	device(tree, "sys/devices/platform/fe300000.ethernet/net/end0", "net", "", "")
	device(tree, "sys/devices/virtual/net/storage", "net", "", "")
	view := sysfs.New(tree)
	for _, tt := range []struct{ name, link, path, driver string }{
		{"virtio adds nothing to its PCI device", "eth0", "pci-0000:00:04.0", "virtio_net"},
		{"behind a bridge, the device's own place", "eth1", "pci-0000:03:00.1", "mlx5_core"},
		{"USB by port", "usb0", "pci-0000:00:14.0-usb-0:2:1.0", "cdc_ether"},
		{"a platform device", "end0", "platform-fe300000.ethernet", "macb"},
		{"a virtual one has no place", "storage", "", ""},
		{"one that is not there", "eth9", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if path, driver := describe(view, tt.link); path != tt.path || driver != tt.driver {
				t.Errorf("got %q, %q; want %q, %q", path, driver, tt.path, tt.driver)
			}
		})
	}
}
