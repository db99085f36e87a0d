package uevent

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"initd/hw/sysfs"
)

// Enumerate returns an event with the action Add for every device that is there, parents before children, made from sysfs alone.
// With subsystems it is limited to those ("block", "net", …), else it is every class and bus. A device that vanishes
// meanwhile is left out: its Remove is in the subscription.
func Enumerate(f *sysfs.FS, subsystems ...string) ([]Event, error) {
	dirs, err := places(f, subsystems)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	var events []Event
	for _, dir := range dirs {
		names, err := f.Names(dir)
		if err != nil {
			continue // this kernel has no such class or bus, or its last device has just gone
		}
		for _, name := range names {
			device, err := f.Device(dir + "/" + name)
			if err != nil || seen[device.Path] {
				continue
			}
			seen[device.Path] = true
			events = append(events, found(device))
		}
	}
	slices.SortFunc(events, func(a, b Event) int { return strings.Compare(a.Path, b.Path) })
	return events, nil
}

func places(f *sysfs.FS, subsystems []string) ([]string, error) {
	var dirs []string
	if len(subsystems) > 0 {
		for _, name := range subsystems {
			dirs = append(dirs, "sys/class/"+name, "sys/bus/"+name+"/devices")
		}
		return dirs, nil
	}
	classes, err := f.Names("sys/class")
	if err != nil {
		return nil, err
	}
	for _, name := range classes {
		dirs = append(dirs, "sys/class/"+name)
	}
	buses, err := f.Names("sys/bus")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, name := range buses {
		dirs = append(dirs, "sys/bus/"+name+"/devices")
	}
	return dirs, nil
}

func found(device sysfs.Device) Event {
	properties := device.Uevent()
	path := strings.TrimPrefix(device.Path, "sys")
	subsystem := device.Subsystem()
	properties["ACTION"] = string(Add)
	properties["DEVPATH"] = path
	properties["SUBSYSTEM"] = subsystem
	return Event{Action: Add, Path: path, Subsystem: subsystem, Properties: properties, Found: true}
}
