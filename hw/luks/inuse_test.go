package luks

import (
	"testing"
	"testing/fstest"

	"initd/hw/dm"
	"initd/hw/sysfs"
)

func TestADeviceThatAnotherMappingIsOnIsInUse(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text + "\n")} }
	const holders = "sys/dev/block/254:16/holders/"
	machine := fstest.MapFS{
		"sys/class/block/dm-0/dev": file("253:0"), "sys/class/block/dm-0/dm/name": file("mine"),
		"sys/class/block/dm-7/dev": file("253:7"), "sys/class/block/dm-7/dm/name": file("tank0"),
		"sys/class/block/md0/dev": file("9:0"),
	}
	device, own := dm.Dev(254<<8|16), dm.Dev(253<<8)
	for _, row := range []struct {
		name    string
		holders []string
		want    string
	}{
		{"nobody", nil, ""},
		{"its own mapping", []string{"dm-0"}, ""},
		{"another", []string{"dm-0", "dm-7"}, "the device is in use: dm-7 (tank0) is on it"},
		{"an array", []string{"md0"}, "the device is in use: md0 is on it"},
	} {
		t.Run(row.name, func(t *testing.T) {
			root := fstest.MapFS{}
			for name, f := range machine {
				root[name] = f
			}
			for _, h := range row.holders {
				root[holders+h] = file("")
			}
			err := onlyHolder(sysfs.New(root), device, own)
			if got := err == nil; got != (row.want == "") || !got && err.Error() != row.want {
				t.Errorf("got %v, want %q", err, row.want)
			}
		})
	}
}
