package bench

import (
	"testing"
	"time"

	"initd/qemu-tests/vm"
)

// The shipped initd and open-iscsi log in to the same sixteen targets in the same machine, by turns: all of them, found by discovery,
// and a single one; and both make a lost connection anew. Theirs is iscsid, which runs already, and iscsiadm, whose discovery does
// not count; ours is the whole command.
//
// The target is taken away by switching it off, so that it answers and refuses. (A dead one is knocked at about once a second.)
func BenchmarkISCSI(b *testing.B) {
	image := vm.NewImage(b).GoProgram("/init", "./qemu-tests/guest/iscsibench").
		Modules("target_core_mod", "target_core_file", "iscsi_target_mod", "iscsi_tcp", "sd_mod", "crc32c").
		Program("iscsid", "iscsiadm").Bytes("/etc/passwd", []byte("root:x:0:0:root:/:/bin/sh\n"), 0o644).File("/usr/bin/initd", vm.Shipped(b, "initd"), 0o755).Write("iscsi")
	m := vm.New(b, vm.Name("iscsi"), vm.Memory(1024)).Initramfs(image).Start()
	end := m.WaitEvent("all is measured", vm.Is("end"), 8*time.Minute)
	if why := end.Field("error"); why != "" {
		b.Fatal(why)
	}
	of := map[string]times{}
	for _, e := range m.Events() {
		var x struct {
			Side, What string
			MS         float64
		}
		if e.Name == "took" && e.Decode(&x) == nil {
			of[x.What+" "+x.Side] = append(of[x.What+" "+x.Side], time.Duration(x.MS*float64(time.Millisecond)))
		}
	}
	show(b, "iSCSI; theirs: iscsiadm and iscsid",
		faster("16 targets, until all sessions are logged in", of["sixteen ours"], of["sixteen theirs"], 3),
		compared("16 targets, until all disks are there", of["sixteen-disks ours"], of["sixteen-disks theirs"]),
		faster("a single login, until the session is logged in", of["single ours"], of["single theirs"], 3),
		compared("a single login, until the disk is there", of["single-disks ours"], of["single-disks theirs"]),
		compared("from the target's return to the first I/O", of["recovery ours"], of["recovery theirs"]))
}
