package iscsi

import (
	"testing"

	"initd/hw/uevent"
)

func TestADiskIsOfTheSessionInItsPath(t *testing.T) {
	for _, row := range []struct {
		name    string
		e       uevent.Event
		session uint32
		ok      bool
	}{
		{"a disk", uevent.Event{Action: uevent.Add, Subsystem: "block", Path: "/devices/platform/host5/session12/target5:0:0/5:0:0:1/block/sda"}, 12, true},
		{"a partition is no harm", uevent.Event{Action: uevent.Add, Subsystem: "block", Path: "/devices/platform/host5/session12/target5:0:0/5:0:0:1/block/sda/sda1"}, 12, true},
		{"a disk that goes", uevent.Event{Action: uevent.Remove, Subsystem: "block", Path: "/devices/platform/host5/session12/target5:0:0/5:0:0:1/block/sda"}, 0, false},
		{"a disk of this machine's own", uevent.Event{Action: uevent.Add, Subsystem: "block", Path: "/devices/pci0000:00/0000:00:04.0/virtio1/block/vda"}, 0, false},
		{"the session itself", uevent.Event{Action: uevent.Add, Subsystem: "iscsi_session", Path: "/devices/platform/host5/session12/iscsi_session/session12"}, 0, false},
	} {
		if sid, ok := diskOf(row.e); sid != row.session || ok != row.ok {
			t.Errorf("%s: session %d, %v; want %d, %v", row.name, sid, ok, row.session, row.ok)
		}
	}
}
