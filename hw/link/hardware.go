package link

import (
	"fmt"
	"strings"

	"initd/hw/sysfs"
)

// hardware adds to an interface what only sysfs knows. It remembers, so that a change of carrier costs no reading.
type hardware struct {
	fs    *sysfs.FS
	known map[int]Interface
}

func openHardware() (*hardware, error) {
	fs, err := sysfs.Open("/")
	if err != nil {
		return nil, fmt.Errorf("find interfaces: %w", err)
	}
	return &hardware{fs: fs, known: map[int]Interface{}}, nil
}

func (h *hardware) close() { h.fs.Close() }

// complete fills in path and driver.
func (h *hardware) complete(e Event) Event {
	switch e.Kind {
	case InterfaceGone:
		delete(h.known, e.Interface.Index)
	case InterfaceIs:
		i := &e.Interface
		known, ok := h.known[i.Index]
		if !ok || known.Name != i.Name {
			known.Path, known.Driver = describe(h.fs, i.Name)
		}
		i.Path, i.Driver = known.Path, known.Driver
		h.known[i.Index] = *i
	}
	return e
}

// describe finds the hardware of an interface; nothing for a virtual one.
func describe(fs *sysfs.FS, name string) (path, driver string) {
	net, err := fs.Class("net", name)
	if err != nil {
		return "", "" // gone again, or of another network namespace than the one that sysfs shows
	}
	dev, ok := net.Parent()
	if !ok {
		return "", ""
	}
	for d, ok := dev, true; ok && driver == ""; d, ok = d.Parent() {
		driver = d.Driver() // the nearest: a virtio device has one, and so has the PCI device below it
	}
	return devicePath(dev), driver
}

// devicePath is udev's ID_PATH of an interface (src/udev/udev-builtin-path_id.c of systemd): what leads from a bus with
// stable addresses to the device that the interface hangs below. Of buses that stand on each other, the nearest counts.
func devicePath(dev sysfs.Device) string {
	var parts []string
	for d, ok := dev, true; ok; d, ok = d.Parent() {
		subsystem := d.Subsystem()
		switch subsystem {
		case "usb":
			switch d.Uevent()["DEVTYPE"] {
			case "usb_interface", "usb_device":
				if _, port, ok := strings.Cut(d.Name(), "-"); ok {
					parts = append(parts, "usb-0:"+port)
				}
			}
		case "pci", "acpi", "xen", "platform", "ccw":
			parts = append(parts, subsystem+"-"+d.Name())
		case "virtio":
		default:
			continue
		}
		d = topOf(d, subsystem)
	}
	reverse := ""
	for _, p := range parts {
		if reverse == "" {
			reverse = p
		} else {
			reverse = p + "-" + reverse
		}
	}
	if strings.HasPrefix(reverse, "usb-") {
		return "" // without a bus below, the port is not unique
	}
	return reverse
}

// topOf is the topmost of the devices of one subsystem that stand on each other: bridges above a PCI device, hubs above
// one of USB.
func topOf(d sysfs.Device, subsystem string) sysfs.Device {
	for {
		above, ok := d.Parent()
		if !ok || above.Subsystem() != subsystem {
			return d
		}
		d = above
	}
}
