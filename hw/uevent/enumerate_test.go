package uevent

import (
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"initd/hw/sysfs"
	"initd/tests/tree"
)

func virtioDisk() *sysfs.FS {
	file, link := tree.File, tree.Link
	const (
		pci  = "sys/devices/pci0000:00/0000:00:04.0"
		disk = pci + "/virtio1/block/vda"
	)
	return sysfs.New(fstest.MapFS{
		pci + "/uevent":              file("MODALIAS=pci:v00001AF4\n"),
		pci + "/subsystem":           link("../../../bus/pci"),
		disk + "/uevent":             file("MAJOR=254\nMINOR=0\nDEVNAME=vda\nDEVTYPE=disk\n"),
		disk + "/subsystem":          link("../../../../../../class/block"),
		disk + "/vda1/uevent":        file("MAJOR=254\nMINOR=1\nDEVNAME=vda1\nDEVTYPE=partition\n"),
		disk + "/vda1/subsystem":     link("../../../../../../../class/block"),
		"sys/class/block/vda1":       link("../../devices/pci0000:00/0000:00:04.0/virtio1/block/vda/vda1"),
		"sys/class/block/vda":        link("../../devices/pci0000:00/0000:00:04.0/virtio1/block/vda"),
		"sys/class/block/gone":       link("../../devices/gone"),
		"sys/class/version":          file("an attribute, no device\n"),
		"sys/bus/pci/devices/04":     link("../../../devices/pci0000:00/0000:00:04.0"),
		"sys/bus/pci/drivers_probe":  file(""),
		"run/udev/data/b254:0":       file("S:disk/by-id/virtio-a\nS:disk/by-uuid/1\nI:5\nE:ID_SERIAL=a=b\nG:systemd\nV:1\n"),
		"run/udev/data/b254:1":       file("E:ID_PART=1\n"),
		"run/udev/data/+pci:unknown": file("I:1\n"),
	})
}

func TestEnumerateFindsParentsFirstAndEachDeviceOnce(t *testing.T) {
	events, err := Enumerate(virtioDisk())
	if err != nil {
		t.Fatal(err)
	}
	type row struct{ Name, Subsystem, Modalias string }
	var got []row
	for _, event := range events {
		if event.Action != Add || !event.Found {
			t.Errorf("%s: action %s, found %v", event.Path, event.Action, event.Found)
		}
		got = append(got, row{event.Name(), event.Subsystem, event.Properties["MODALIAS"]})
	}
	want := []row{{"0000:00:04.0", "pci", "pci:v00001AF4"}, {"vda", "block", ""}, {"vda1", "block", ""}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	events, err = Enumerate(virtioDisk(), "block", "nosuch")
	if err != nil || len(events) != 2 {
		t.Errorf("block only: %d events, %v", len(events), err)
	}
}

func TestUdevsRecordSaysWhetherADeviceIsReady(t *testing.T) {
	events, err := Enumerate(virtioDisk(), "block")
	if err != nil {
		t.Fatal(err)
	}
	record, ready, err := Database(virtioDisk(), events[0])
	if err != nil || !ready {
		t.Fatalf("vda: ready %v, %v", ready, err)
	}
	want := Record{Links: []string{"disk/by-id/virtio-a", "disk/by-uuid/1"}, Properties: map[string]string{"ID_SERIAL": "a=b"}}
	if diff := cmp.Diff(want, record); diff != "" {
		t.Error(diff)
	}
	if _, ready, err := Database(virtioDisk(), events[1]); ready || err != nil {
		t.Errorf("vda1, which udevd has not finished: ready %v, %v", ready, err)
	}
	none := Event{Subsystem: "net", Path: "/devices/x/net/eth0", Properties: map[string]string{"IFINDEX": "2"}}
	if _, ready, err := Database(virtioDisk(), none); ready || err != nil {
		t.Errorf("a device without a record: ready %v, %v", ready, err)
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add("S:disk/by-id/virtio-a\nL:0\nI:5\nE:ID_SERIAL=a\nG:systemd\nQ:systemd\nV:1\n")
	f.Fuzz(func(t *testing.T, content string) {
		record, _ := parseRecord(content)
		if len(record.Links) > len(content) {
			t.Error("more links than bytes")
		}
	})
}
