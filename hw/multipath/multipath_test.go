package multipath

import (
	"errors"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"initd/hw/dm"
	"initd/hw/sysfs"
)

func TestAMapIsOverTheSameDiskOnly(t *testing.T) {
	a := Leg{Name: "sda", Dev: "8:0", Sectors: 2048, WWID: "naa.6001405"}
	b := Leg{Name: "sdb", Dev: "8:16", Sectors: 2048, WWID: "naa.6001405"}
	got, err := Table([]Leg{b, a})
	want := dm.Target{Length: 2048, Type: "multipath", Params: "1 queue_if_no_path 0 1 1 service-time 0 2 1 8:0 1 8:16 1"}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	other, longer := b, b
	other.WWID, longer.Sectors = "naa.6001406", 4096
	for _, l := range []Leg{other, longer} {
		var mismatch *MismatchError
		if _, err := Table([]Leg{a, l}); !errors.As(err, &mismatch) {
			t.Errorf("%+v: %v", l, err)
		}
	}
	if _, err := Table(nil); err == nil {
		t.Error("a map over nothing")
	}
}

func TestAMapIsFoundByItsMedium(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s + "\n")} }
	sys := sysfs.New(fstest.MapFS{
		"sys/class/block/dm-0/dm/uuid": file("LVM-abc"), "sys/class/block/dm-0/dm/name": file("lv"), "sys/class/block/dm-0/size": file("8"),
		"sys/class/block/dm-1/dm/uuid": file("mpath-36001405"), "sys/class/block/dm-1/dm/name": file("half"), "sys/class/block/dm-1/size": file("0"),
		"sys/class/block/dm-2/dm/uuid": file("mpath-1LIO-ORG_disk"), "sys/class/block/dm-2/dm/name": file("other"), "sys/class/block/dm-2/size": file("8"),
		"proc/net/unix": file("Num\n0000: 00000002 00000000 00010000 0001 01 1 @/org/kernel/linux/storage/multipathd"),
	})
	if name, ok := Find(sys, "naa.6001405"); ok {
		t.Errorf("a map without a table is found: %s", name)
	}
	if name, ok := Find(sys, "t10.LIO-ORG disk  "); !ok || name != "other" {
		t.Errorf("got %q, %v", name, ok)
	}
	if !daemon(sys) || daemon(sysfs.New(fstest.MapFS{})) {
		t.Error("multipathd is told by its socket")
	}
}
