package iscsi

import (
	"testing"
	"testing/fstest"

	"initd/hw/sysfs"
	"initd/tests/tree"
)

func TestWhatIsNoDiskIsNamed(t *testing.T) {
	for _, row := range []struct {
		name, kind, inquiry string
		what                string
		disk                bool
	}{
		{"a disk whose node is to come", "0", "\x00\x00\x06", "", true},
		{"a zoned disk", "20", "\x14", "", true},
		{"a tape", "1", "\x01\x80", "a tape", false},
		{"a type that nobody has a name for", "29", "\x1d", "a device of type 29", false},
		{"a unit that is not connected never becomes a disk", "0", "\x20", "no unit that is connected (peripheral qualifier 1)", false},
		{"a type that is not told yet", "", "", "", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			files := fstest.MapFS{"u/vendor": tree.File("X\n")}
			if row.kind != "" {
				files["u/type"], files["u/inquiry"] = tree.File(row.kind+"\n"), tree.File(row.inquiry)
			}
			what, disk := whatIs(sysfs.New(files), "u")
			if what != row.what || disk != row.disk {
				t.Errorf("got %q, %v; want %q, %v", what, disk, row.what, row.disk)
			}
		})
	}
	e := &NoLUNError{Target: "iqn.2026-01.net.example:a", LUN: 3, There: "a tape"}
	if got, want := e.Error(), "LUN 3 of iqn.2026-01.net.example:a is a tape, not a disk"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
