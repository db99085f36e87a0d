package sysfs

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// Device is one directory below sys/devices. The zero value is no device.
type Device struct {
	fs *FS
	// Path is relative to the root and free of links: "sys/devices/pci0000:00/0000:00:04.0/virtio1/block/vda".
	Path string
}

// Device returns the device at name, which may be a link to it such as "sys/class/block/vda". That a directory is a
// device shows by its uevent file; another one is an error that wraps fs.ErrNotExist.
func (f *FS) Device(name string) (Device, error) {
	real, err := f.Real(name)
	if err != nil {
		return Device{}, err
	}
	device := Device{fs: f, Path: real}
	if !strings.HasPrefix(real, "sys/devices/") || !f.Exists(path.Join(real, "uevent")) {
		return Device{}, &fs.PathError{Op: "device", Path: name, Err: fs.ErrNotExist}
	}
	return device, nil
}

// Class returns the device of that name in a class, a bus or (for the few subsystems of that kind) sys/subsystem.
func (f *FS) Class(subsystem, name string) (Device, error) {
	// The kernel writes '!' where a device's name has a slash (kobject_set_name_vargs, lib/kobject.c).
	name = strings.ReplaceAll(name, "/", "!")
	var last error
	for _, place := range []string{"sys/class/%s/%s", "sys/bus/%s/devices/%s", "sys/subsystem/%s/devices/%s"} {
		candidate := fmt.Sprintf(place, subsystem, name)
		if !fs.ValidPath(candidate) {
			return Device{}, &fs.PathError{Op: "device", Path: candidate, Err: fs.ErrInvalid}
		}
		device, err := f.Device(candidate)
		if err == nil {
			return device, nil
		}
		if last = err; !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return Device{}, last
}

// Name is the kernel's name of the device, with the slash that sysfs writes as '!'.
func (d Device) Name() string { return strings.ReplaceAll(path.Base(d.Path), "!", "/") }

// Is says whether this is a device at all.
func (d Device) Is() bool { return d.fs != nil }

// Attribute returns the name of an attribute below the device, for the readers of FS.
func (d Device) Attribute(name string) string { return path.Join(d.Path, name) }

// String returns an attribute's text, or "" where the device has none: for attributes that may be absent, when absence
// and emptiness mean the same.
func (d Device) String(attribute string) string {
	text, err := d.fs.String(d.Attribute(attribute))
	if err != nil {
		return ""
	}
	return text
}

// Raw returns an attribute byte for byte, or nil where the device has none.
func (d Device) Raw(attribute string) []byte {
	content, err := d.fs.Bytes(d.Attribute(attribute), MaxAttribute)
	if err != nil {
		return nil
	}
	return content
}

// Has says whether the device has an attribute, directory or link of that name.
func (d Device) Has(name string) bool { return d.fs.Exists(d.Attribute(name)) }

// Subsystem is the name of the class or bus the device belongs to, "" if to none.
func (d Device) Subsystem() string { return d.base("subsystem") }

// Driver is the name of the driver bound to the device, "" if none is.
func (d Device) Driver() string { return d.base("driver") }

func (d Device) base(link string) string {
	name, err := d.fs.LinkBase(d.Attribute(link))
	if err != nil {
		return ""
	}
	return name
}

// Uevent returns the device's properties as its uevent file lists them: MAJOR, MINOR, DEVNAME, DEVTYPE and the like.
func (d Device) Uevent() map[string]string {
	return ParseProperties(d.Raw("uevent"))
}

// Parent returns the nearest device above, false at the top.
func (d Device) Parent() (Device, bool) {
	for dir := path.Dir(d.Path); strings.HasPrefix(dir, "sys/devices/"); dir = path.Dir(dir) {
		parent := Device{fs: d.fs, Path: dir}
		if parent.Has("uevent") {
			return parent, true
		}
	}
	return Device{}, false
}

// Above returns the nearest device above (not d itself) that belongs to subsystem and, if devtype is not "", has that
// DEVTYPE.
func (d Device) Above(subsystem, devtype string) (Device, bool) {
	for at, ok := d.Parent(); ok; at, ok = at.Parent() {
		if at.Subsystem() == subsystem && (devtype == "" || at.Uevent()["DEVTYPE"] == devtype) {
			return at, true
		}
	}
	return Device{}, false
}

// Inherited returns an attribute of the device or, if it has none, of the nearest device above that has it, as udev's
// ATTRS does; "" if none has.
func (d Device) Inherited(attribute string) string {
	for at, ok := d, d.Is(); ok; at, ok = at.Parent() {
		if text := at.String(attribute); text != "" {
			return text
		}
	}
	return ""
}

// FS returns the view that the device was found in.
func (d Device) FS() *FS { return d.fs }

// ParseProperties reads KEY=VALUE lines, as in a uevent file. Lines of another shape are left out.
func ParseProperties(content []byte) map[string]string {
	properties := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(content))
	lines.Buffer(nil, MaxAttribute+1)
	for lines.Scan() {
		if key, value, ok := strings.Cut(lines.Text(), "="); ok && key != "" {
			properties[key] = value
		}
	}
	return properties
}
