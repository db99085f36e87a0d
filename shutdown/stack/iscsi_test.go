package stack

import (
	"slices"
	"testing"

	"initd/tests/tree"
)

// A mount on a map over the disks of two sessions, and a session of iscsid's beside them.
func TestISCSISessionsGoAfterWhatIsOnTheirDisks(t *testing.T) {
	root := tree.New(t)
	put := func(name, text string) { root.Attr(t, name, text) }
	put("proc/self/mountinfo", "20 1 0:2 / / rw - rootfs rootfs rw\n30 20 253:0 / /srv/a rw - ext4 /dev/mapper/a rw")
	put("proc/swaps", "Filename Type Size Used Priority")
	for id, disk := range map[string]string{"1": "sda", "2": "sdb", "3": "sdc"} {
		dir := "sys/class/iscsi_session/session" + id
		put(dir+"/ifacename", map[string]string{"1": "initd-80aabbccdde1", "2": "initd-80aabbccdde2", "3": "default"}[id])
		put(dir+"/targetname", "iqn.2026-01.net.example:a")
		put(dir+"/state", "LOGGED_IN")
		put("sys/class/iscsi_connection/connection"+id+":0/persistent_address", "2001:db8::5"+id)
		put("sys/class/iscsi_connection/connection"+id+":0/persistent_port", "3260")
		put("sys/devices/platform/host"+id+"/session"+id+"/target0:0:0/0:0:0:0/block/"+disk+"/dev", "8:"+id)
		root.Link(t, "sys/class/block/"+disk, "../../devices/platform/host"+id+"/session"+id+"/target0:0:0/0:0:0:0/block/"+disk)
	}
	put("sys/class/block/dm-0/dev", "253:0")
	put("sys/class/block/dm-0/dm/name", "a")
	put("sys/class/block/dm-0/dm/uuid", "mpath-36001405")
	put("sys/class/block/dm-0/slaves/sda/dev", "8:1")
	put("sys/class/block/dm-0/slaves/sdb/dev", "8:2")
	s, err := Read(string(root))
	if err != nil {
		t.Fatal(err)
	}
	dm := s.Node("dm-0")
	if dm == nil || !slices.Contains(dm.Below, "session1") || !slices.Contains(dm.Below, "session2") {
		t.Fatalf("the map stands on both sessions: %+v", s.Nodes)
	}
	one := s.Node("session1")
	if one == nil || one.Kind != ISCSI || one.Path != "1" || one.Name != "iqn.2026-01.net.example:a at [2001:db8::51]:3260" {
		t.Errorf("got %+v", one)
	}
	if other := s.Node("session3"); other != nil {
		t.Errorf("iscsid's session is iscsid's to end: %+v", other)
	}
}
