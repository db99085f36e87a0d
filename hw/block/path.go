package block

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"initd/hw/sysfs"
)

// diskPaths are the links in by-path of a whole disk (60-persistent-storage.rules, 'by-path').
func diskPaths(disk sysfs.Device) []string {
	_, multipath := disk.Above("nvme-subsystem", "")
	if strings.Contains(disk.Path, "/virtual/") && !multipath {
		return nil
	}
	main, compatible := pathID(disk)
	if main == "" {
		return nil
	}
	paths := []string{replace(main, "/")}
	if compatible != "" {
		paths = append(paths, replace(compatible, "/"))
	}
	if strings.HasPrefix(disk.Name(), "vd") && strings.HasPrefix(main, "pci-") {
		paths = append(paths, replace("virtio-"+main, "/")) // the rules call these deprecated
	}
	return paths
}

// walker composes a path on the way up from a device, as systemd's src/udev/udev-builtin-path_id.c does.
type walker struct {
	disk             sysfs.Device
	main, compatible string
	transport, bus   bool // a well-known transport, a bus whose addresses are stable
}

func (w *walker) prepend(format string, arguments ...any) {
	w.main = join(fmt.Sprintf(format, arguments...), w.main)
}

// both prepends to the compatible path too, if there is one.
func (w *walker) both(format string, arguments ...any) {
	w.prepend(format, arguments...)
	if w.compatible != "" {
		w.compatible = join(fmt.Sprintf(format, arguments...), w.compatible)
	}
}

func join(element, path string) string {
	if path == "" {
		return element
	}
	return element + "-" + path
}

// pathID is the persistent path of a disk, "" where its place is not known to be stable: without a bus whose addresses are, or
// without a transport that is understood.
func pathID(disk sysfs.Device) (main, compatible string) {
	w := walker{disk: disk}
	for at, ok := disk, true; ok; at, ok = at.Parent() {
		if at = w.step(at); !at.Is() {
			return "", "" // a piece is missing: a path without it would be another one's
		}
	}
	if !w.bus || !w.transport {
		return "", ""
	}
	return w.main, w.compatible
}

// step takes one device into the path and returns the device above which to go on; none if what is needed is not there.
func (w *walker) step(at sysfs.Device) sysfs.Device {
	switch subsystem := at.Subsystem(); subsystem {
	case "scsi":
		w.transport = true
		return w.scsi(at)
	case "usb":
		w.transport = true
		return w.usb(at)
	case "virtio":
		w.transport = true
		return topOf(at, "virtio")
	case "nvme", "nvme-subsystem":
		return w.nvme(at, subsystem)
	case "pci", "acpi", "xen":
		w.both(subsystem+"-%s", at.Name())
		w.bus = true
		return topOf(at, subsystem)
	case "platform", "ccw":
		w.both(subsystem+"-%s", at.Name())
		w.bus, w.transport = true, true
		return topOf(at, subsystem)
	}
	return at
}

// topOf is the topmost of the devices of one subsystem that stand on each other (bridges above a PCI device).
func topOf(at sysfs.Device, subsystem string) sysfs.Device {
	for at.Subsystem() == subsystem {
		above, ok := at.Parent()
		if !ok || above.Subsystem() != subsystem {
			break
		}
		at = above
	}
	return at
}

func (w *walker) nvme(at sysfs.Device, subsystem string) sysfs.Device {
	nsid := w.disk.String("nsid")
	if nsid == "" {
		return at
	}
	w.both("nvme-%s", nsid)
	w.bus, w.transport = true, true
	if subsystem == "nvme-subsystem" {
		// The disk hangs below the subsystem; the controller that has its number leads on to the bus (find_real_nvme_parent).
		digits := strings.TrimPrefix(w.disk.Name(), "nvme")
		digits = digits[:len(digits)-len(strings.TrimLeft(digits, "0123456789"))]
		if controller, err := w.disk.FS().Class("nvme", "nvme"+digits); err == nil {
			return topOf(controller, "nvme")
		}
	}
	return topOf(at, "nvme")
}

func (w *walker) usb(at sysfs.Device) sysfs.Device {
	switch at.Uevent()["DEVTYPE"] {
	case "usb_interface", "usb_device":
	default:
		return at
	}
	_, port, ok := strings.Cut(at.Name(), "-")
	if !ok {
		return at
	}
	w.prepend("usb-0:%s", port)
	return topOf(at, "usb")
}

func (w *walker) scsi(at sysfs.Device) sysfs.Device {
	if at.Uevent()["DEVTYPE"] != "scsi_device" {
		return at
	}
	switch {
	case strings.Contains(at.Path, "/rport-"):
		w.bus = true
		return w.fibreChannel(at)
	case strings.Contains(at.Path, "/end_device-"):
		w.bus = true
		return w.sas(at)
	case strings.Contains(at.Path, "/session"):
		w.bus = true
		return w.iscsi(at)
	case strings.Contains(at.Path, "/ata"):
		return w.ata(at)
	case strings.Contains(at.Path, "/vmbus_"), strings.Contains(at.Path, "/VMBUS"):
		return w.hyperV(at)
	}
	return w.plainSCSI(at)
}

// address is HOST:BUS:TARGET:LUN of a scsi_device's name.
func address(at sysfs.Device) (host, bus, target, lun uint64, ok bool) {
	n, err := fmt.Sscanf(at.Name(), "%d:%d:%d:%d", &host, &bus, &target, &lun)
	return host, bus, target, lun, err == nil && n == 4
}

// lunText is the LUN's number, or for one that does not fit peripheral addressing its eight bytes.
func lunText(at sysfs.Device) string {
	_, _, _, lun, _ := address(at)
	if lun < 256 {
		return fmt.Sprintf("lun-%d", lun)
	}
	return fmt.Sprintf("lun-0x%04x%04x00000000", lun&0xffff, lun>>16&0xffff)
}

func (w *walker) plainSCSI(at sysfs.Device) sysfs.Device {
	host, ok := at.Above("scsi", "scsi_host")
	number, bus, target, lun, parsed := address(at)
	if !ok || !parsed {
		return sysfs.Device{}
	}
	// The host's number is the kernel's counter; relative to the lowest below the same adapter it is a place.
	siblings, err := at.FS().Names(path.Dir(host.Path))
	if err != nil {
		return sysfs.Device{}
	}
	lowest := number
	for _, name := range siblings {
		if digits, ok := strings.CutPrefix(name, "host"); ok && digits != "" && strings.Trim(digits, "0123456789") == "" {
			lowest = min(lowest, trailing(name))
		}
	}
	w.prepend("scsi-%d:%d:%d:%d", number-lowest, bus, target, lun)
	return host
}

func (w *walker) ata(at sysfs.Device) sysfs.Device {
	host, ok := at.Above("scsi", "scsi_host")
	if !ok {
		return sysfs.Device{}
	}
	above, ok := host.Parent()
	if !ok {
		return sysfs.Device{}
	}
	port, err := at.FS().Class("ata_port", above.Name())
	if err != nil {
		return sysfs.Device{}
	}
	number := port.String("port_no")
	_, bus, target, _, parsed := address(at)
	if number == "" || !parsed {
		return sysfs.Device{}
	}
	if bus != 0 {
		w.prepend("ata-%s.%d.0", number, bus) // behind a port multiplier
	} else {
		w.prepend("ata-%s.%d", number, target) // master and slave
	}
	w.compatible = join("ata-"+number, w.compatible)
	return host
}

func (w *walker) iscsi(at sysfs.Device) sysfs.Device {
	session := at
	for !strings.HasPrefix(session.Name(), "session") {
		above, ok := session.Parent()
		if !ok {
			return sysfs.Device{}
		}
		session = above
	}
	described, err := at.FS().Class("iscsi_session", session.Name())
	if err != nil {
		return sysfs.Device{}
	}
	connection, err := at.FS().Class("iscsi_connection", fmt.Sprintf("connection%d:0", trailing(session.Name())))
	if err != nil {
		return sysfs.Device{}
	}
	w.prepend("ip-%s:%s-iscsi-%s-%s", connection.String("persistent_address"), connection.String("persistent_port"),
		described.String("targetname"), lunText(at))
	return at
}

func (w *walker) fibreChannel(at sysfs.Device) sysfs.Device {
	target, ok := at.Above("scsi", "scsi_target")
	if !ok {
		return sysfs.Device{}
	}
	transport, err := at.FS().Class("fc_transport", target.Name())
	if err != nil {
		return sysfs.Device{}
	}
	w.prepend("fc-%s-%s", transport.String("port_name"), lunText(at))
	return at
}

// sas follows handle_scsi_sas: the phy that a disk of its own hangs on, or the disk's address behind a wide port.
func (w *walker) sas(at sysfs.Device) sysfs.Device {
	target, ok := at.Above("scsi", "scsi_target")
	if !ok {
		return sysfs.Device{}
	}
	end, ok := target.Parent()
	if !ok {
		return sysfs.Device{}
	}
	device, err := at.FS().Class("sas_device", end.Name())
	if err != nil {
		return sysfs.Device{}
	}
	port, ok := end.Parent()
	if !ok {
		return sysfs.Device{}
	}
	described, err := at.FS().Class("sas_port", port.Name())
	if err != nil {
		return sysfs.Device{}
	}
	if described.String("num_phys") != "1" {
		w.prepend("sas-%s-%s", device.String("sas_address"), lunText(at))
		return at
	}
	above, ok := port.Parent()
	if !ok {
		return sysfs.Device{}
	}
	phy := device.String("phy_identifier")
	if expander, err := at.FS().Class("sas_device", above.Name()); err == nil {
		w.prepend("sas-exp%s-phy%s-%s", expander.String("sas_address"), phy, lunText(at))
	} else if errors.Is(err, fs.ErrNotExist) {
		w.prepend("sas-phy%s-%s", phy, lunText(at))
	}
	return at
}

// hyperV names the disk by its channel's GUID, which outlives the numbers.
func (w *walker) hyperV(at sysfs.Device) sysfs.Device {
	host, ok := at.Above("scsi", "scsi_host")
	if !ok {
		return sysfs.Device{}
	}
	channel, ok := host.Parent()
	if !ok {
		return sysfs.Device{}
	}
	guid := channel.String("device_id")
	if len(guid) < 3 || guid[0] != '{' || guid[len(guid)-1] != '}' {
		return sysfs.Device{}
	}
	w.prepend("vmbus-%s-%s", strings.ReplaceAll(guid[1:len(guid)-1], "-", ""), lunText(at))
	return host
}
