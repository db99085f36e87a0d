package dm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// record is what a udev that starts later has to find in its database for a
// device that was made before it ran, in the form of systemd's
// src/libsystemd/sd-device (device_update_db). Without the flag its rules take
// the event of a coldplug (action add) for one that came too early: they
// disable the device, its links are not made, and systemd never sees it ready
// (10-dm.rules or 55-dm.rules of libdevmapper, DM_UDEV_PRIMARY_SOURCE_FLAG).
const record = "E:DM_UDEV_PRIMARY_SOURCE_FLAG=1\nE:DM_UDEV_RULES=1\nE:DM_UDEV_RULES_VSN=2\nV:1\n"

// Record writes such a record for every active device that has none into the
// database of udev (/run/udev/data), for the day that a udev is started: after
// switch_root. It does nothing to devices.
func Record(database string) error {
	items, err := List()
	if errors.Is(err, ErrNoDriver) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, i := range items {
		info, err := StatDev(i.Dev)
		if errors.Is(err, ErrNotFound) || err == nil && !info.Active {
			continue
		}
		if err == nil {
			err = writeRecord(database, i.Dev)
		}
		if err != nil {
			return fmt.Errorf("record %s for udev: %w", i.Name, err)
		}
	}
	return nil
}

func writeRecord(database string, d Dev) error {
	if err := os.MkdirAll(database, 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(database, "b"+d.String()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, os.ErrExist) {
		return nil // a udev's own
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(record)
	return errors.Join(err, f.Close())
}
