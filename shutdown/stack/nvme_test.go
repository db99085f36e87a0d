package stack

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"initd/tests/tree"
)

// A file system and a volume on a disk with two connections, a discovery controller that nothing stands on, the root on a third, and an
// NVMe disk of the machine's own.
func TestConnectionsGoAfterWhatStandsOnThem(t *testing.T) {
	root := tree.New(t)
	write := func(name, text string) { root.Attr(t, name, text) }
	link := func(name, to string) { root.Link(t, name, to) }
	write("proc/self/mountinfo", `1 1 259:5 / / rw - ext4 /dev/nvme2n1 rw
30 1 259:2 / /srv/a rw - ext4 /dev/nvme1n1p1 rw
31 1 259:9 / /srv/own rw - ext4 /dev/nvme9n1 rw`)
	for name, at := range map[string]struct{ nqn, transport, address string }{
		"nvme0": {"nqn.x:a", "tcp", "traddr=192.0.2.40,trsvcid=4420,src_addr=192.0.2.17"}, "nvme1": {"nqn.x:a", "tcp", "traddr=2001:db8::40,trsvcid=4420"},
		"nvme2": {"nqn.x:root", "tcp", "traddr=192.0.2.40,trsvcid=4420"}, "nvme3": {"nqn.2014-08.org.nvmexpress.discovery", "tcp", "traddr=192.0.2.40,trsvcid=8009"},
		"nvme9": {"nqn.own", "pcie", "0000:00:05.0"},
	} {
		dir := "sys/class/nvme/" + name
		write(dir+"/subsysnqn", at.nqn)
		write(dir+"/transport", at.transport)
		write(dir+"/address", at.address)
	}
	for sub, of := range map[string][]string{"nvme-subsys1": {"nvme0", "nvme1"}, "nvme-subsys2": {"nvme2"}, "nvme-subsys9": {"nvme9"}} {
		for _, c := range of {
			write("sys/class/nvme-subsystem/"+sub+"/"+c+"/state", "live")
		}
	}
	disk := func(name, number, dir string) {
		write("sys/devices/virtual/nvme-subsystem/"+dir+"/"+name+"/dev", number)
		link("sys/class/block/"+name, "../../devices/virtual/nvme-subsystem/"+dir+"/"+name)
	}
	disk("nvme1n1", "259:1", "nvme-subsys1")
	disk("nvme2n1", "259:5", "nvme-subsys2")
	disk("nvme9n1", "259:9", "nvme-subsys9")
	write("sys/devices/virtual/nvme-subsystem/nvme-subsys1/nvme1n1/nvme1n1p1/dev", "259:2")
	write("sys/devices/virtual/nvme-subsystem/nvme-subsys1/nvme1n1/nvme1n1p1/partition", "1")
	link("sys/class/block/nvme1n1p1", "../../devices/virtual/nvme-subsystem/nvme-subsys1/nvme1n1/nvme1n1p1")
	write("sys/class/block/dm-0/dev", "253:0")
	write("sys/class/block/dm-0/dm/name", "vol")
	write("sys/class/block/dm-0/slaves/nvme1n1/x", "")

	s, err := Read(string(root))
	if err != nil {
		t.Fatal(err)
	}
	type node struct {
		Name, Keep string
		Below      []string
	}
	got := map[string]node{}
	for _, n := range s.Nodes {
		got[n.ID] = node{n.Name, n.Keep, n.Below}
	}
	want := map[string]node{
		"nvme0":    {"nqn.x:a at 192.0.2.40:4420", "", nil},
		"nvme1":    {"nqn.x:a at [2001:db8::40]:4420", "", nil},
		"nvme2":    {"nqn.x:root at 192.0.2.40:4420", "below /", nil},
		"nvme3":    {"nqn.2014-08.org.nvmexpress.discovery at 192.0.2.40:8009", "", nil},
		"dm-0":     {"vol", "", []string{"nvme1n1", "nvme0", "nvme1"}},
		"mount 1":  {"/", "the root", []string{"nvme2n1", "nvme2"}},
		"mount 30": {"/srv/a", "", []string{"mount 1", "nvme1n1p1", "nvme1n1", "nvme0", "nvme1"}},
		"mount 31": {"/srv/own", "", []string{"mount 1", "nvme9n1"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
}
