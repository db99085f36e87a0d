package uevent

import (
	"errors"
	"io/fs"
	"path"
	"strings"

	"initd/hw/sysfs"
)

// Record is what udevd keeps of a device that it has processed.
type Record struct {
	// Links are names below /dev, without it: "disk/by-id/virtio-data0".
	Links      []string
	Properties map[string]string
}

// maxRecord bounds one database file in bytes.
const maxRecord = 64 << 10

// Database returns udevd's record of an event's device, false as long as udevd has not processed it. f's root must
// hold run/udev/data, that is: f is a view of the running system, or of a capture of it.
func Database(f *sysfs.FS, event Event) (Record, bool, error) {
	content, err := f.Bytes("run/udev/data/"+identifier(event), maxRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, false, nil
	}
	if err != nil {
		return Record{}, false, err
	}
	record, done := parseRecord(string(content))
	return record, done, nil
}

// identifier is udevd's name of a device (sd_device_get_device_id, systemd's src/libsystemd/sd-device/sd-device.c).
func identifier(event Event) string {
	major, minor := event.Properties["MAJOR"], event.Properties["MINOR"]
	switch {
	case major != "" && event.Subsystem == "block":
		return "b" + major + ":" + minor
	case major != "":
		return "c" + major + ":" + minor
	case event.Subsystem == "net" && event.Properties["IFINDEX"] != "":
		return "n" + event.Properties["IFINDEX"]
	}
	return "+" + event.Subsystem + ":" + path.Base(event.Path)
}

// parseRecord reads lines of one letter, a colon and a value. A record without I: (the time of initialisation) is of a
// device that udevd has seen but not finished.
func parseRecord(content string) (record Record, done bool) {
	record.Properties = map[string]string{}
	for line := range strings.SplitSeq(content, "\n") {
		kind, value, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		switch kind {
		case "S":
			record.Links = append(record.Links, value)
		case "E":
			if key, text, ok := strings.Cut(value, "="); ok {
				record.Properties[key] = text
			}
		case "I":
			done = true
		}
	}
	return record, done
}
