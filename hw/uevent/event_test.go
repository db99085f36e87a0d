package uevent

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// loopChange is what a 6.18 kernel sent when "change" was written to /sys/block/loop0/uevent.
const loopChange = "change@/devices/virtual/block/loop0\x00ACTION=change\x00DEVPATH=/devices/virtual/block/loop0\x00" +
	"SUBSYSTEM=block\x00SYNTH_UUID=0\x00MAJOR=7\x00MINOR=0\x00DEVNAME=loop0\x00DEVTYPE=disk\x00DISKSEQ=1\x00SEQNUM=815\x00"

// fromUdev wraps properties as udevd does.
func fromUdev(properties string) []byte {
	message := make([]byte, udevHeaderSize, udevHeaderSize+len(properties))
	copy(message, udevPrefix)
	binary.BigEndian.PutUint32(message[udevMagicAt:], udevMagic)
	binary.NativeEndian.PutUint32(message[12:], udevHeaderSize)
	binary.NativeEndian.PutUint32(message[udevPropertiesOffsetAt:], udevHeaderSize)
	binary.NativeEndian.PutUint32(message[udevPropertiesLengthAt:], uint32(len(properties)))
	return append(message, properties...)
}

func properties(message string) string { return message[strings.IndexByte(message, 0)+1:] }

func TestBothFormatsGiveTheSameEvent(t *testing.T) {
	want := Event{
		Action: Change, Path: "/devices/virtual/block/loop0", Subsystem: "block", Seq: 815,
		Properties: map[string]string{
			"ACTION": "change", "DEVPATH": "/devices/virtual/block/loop0", "SUBSYSTEM": "block", "SYNTH_UUID": "0",
			"MAJOR": "7", "MINOR": "0", "DEVNAME": "loop0", "DEVTYPE": "disk", "DISKSEQ": "1", "SEQNUM": "815",
		},
	}
	got, err := ParseKernel([]byte(loopChange))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("kernel:", diff)
	}
	got, err = ParseUdev(fromUdev(properties(loopChange)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("udev:", diff)
	}
	if got.Name() != "loop0" {
		t.Errorf("name %q", got.Name())
	}
}

func TestBadMessagesAreErrors(t *testing.T) {
	good := fromUdev(properties(loopChange))
	with := func(at int, value uint32) []byte {
		message := append([]byte(nil), good...)
		binary.NativeEndian.PutUint32(message[at:], value)
		return message
	}
	for _, row := range []struct {
		name    string
		parse   func([]byte) (Event, error)
		message []byte
	}{
		{"kernel: nothing", ParseKernel, nil},
		{"kernel: no path", ParseKernel, []byte("add@\x00ACTION=add\x00")},
		{"kernel: a relative path", ParseKernel, []byte("add@devices\x00ACTION=add\x00DEVPATH=devices\x00SUBSYSTEM=x\x00")},
		{"kernel: cut off", ParseKernel, []byte(loopChange[:len(loopChange)-1])},
		{"kernel: the header says something else than the properties", ParseKernel, []byte("add" + loopChange[len("change"):])},
		{"kernel: an action that is ours", ParseKernel, []byte("overflow@/d\x00ACTION=overflow\x00DEVPATH=/d\x00SUBSYSTEM=x\x00")},
		{"kernel: a sequence number that is none", ParseKernel, []byte("add@/d\x00ACTION=add\x00DEVPATH=/d\x00SUBSYSTEM=x\x00SEQNUM=-1\x00")},
		{"udev: shorter than its header", ParseUdev, good[:39]},
		{"udev: another magic", ParseUdev, with(udevMagicAt, 1)},
		{"udev: properties inside the header", ParseUdev, with(udevPropertiesOffsetAt, 8)},
		{"udev: properties beyond the end", ParseUdev, with(udevPropertiesLengthAt, 1<<31)},
		{"udev: an offset that wraps", ParseUdev, with(udevPropertiesOffsetAt, 0xffffffff)},
		{"udev: a message of the kernel", ParseUdev, []byte(loopChange)},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got, err := row.parse(row.message); !errors.Is(err, errFormat) {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func FuzzParseKernel(f *testing.F) {
	f.Add([]byte(loopChange))
	f.Add([]byte("add@/d\x00ACTION=add\x00DEVPATH=/d\x00SUBSYSTEM=x\x00"))
	f.Fuzz(func(t *testing.T, message []byte) { check(t, ParseKernel, message) })
}

func FuzzParseUdev(f *testing.F) {
	f.Add(fromUdev(properties(loopChange)))
	f.Add(fromUdev(""))
	f.Fuzz(func(t *testing.T, message []byte) { check(t, ParseUdev, message) })
}

func check(t *testing.T, parse func([]byte) (Event, error), message []byte) {
	event, err := parse(message)
	if err != nil {
		return
	}
	if event.Path == "" || event.Path[0] != '/' || event.Action == "" || event.Action == Overflow {
		t.Errorf("an impossible event: %+v", event)
	}
	event.Name()
}
