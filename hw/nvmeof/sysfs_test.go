package nvmeof

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"initd/hw/sysfs"
	"initd/tests/tree"
)

// oneSubsystem is what Linux 6.12 shows of a subsystem with a path by IPv4, one by IPv6 that reconnects, a disk with two legs, and
// an NVMe disk of the machine's own.
func oneSubsystem() fstest.MapFS {
	m := fstest.MapFS{}
	file := func(name, text string) { m[name] = tree.File(text + "\n") }
	link := func(name, to string) { m[name] = tree.Link(to) }
	controller := func(dir, name string, attrs map[string]string) {
		file(dir+"/uevent", "NVME_TRTYPE=tcp")
		for k, v := range attrs {
			file(dir+"/"+k, v)
		}
		link("sys/class/nvme/"+name, "../../"+strings.TrimPrefix(dir, "sys/"))
	}
	const fabrics, sub = "sys/devices/virtual/nvme-fabrics/ctl/", "sys/devices/virtual/nvme-subsystem/"
	common := func(state, address string) map[string]string {
		return map[string]string{"state": state, "transport": "tcp", "cntrltype": "io", "subsysnqn": "nqn.x:a", "hostnqn": host().NQN, "hostid": host().ID,
			"cntlid": "3", "kato": "5", "ctrl_loss_tmo": "off", "fast_io_fail_tmo": "off", "reconnect_delay": "2", "address": address}
	}
	controller(fabrics+"nvme10", "nvme10", common("live", "traddr=192.0.2.40,trsvcid=4420,host_traddr=192.0.2.17,src_addr=192.0.2.17"))
	controller(fabrics+"nvme2", "nvme2", common("connecting", "traddr=2001:db8::40,trsvcid=4420,host_iface=eth1"))
	controller("sys/devices/pci0000:00/0000:00:05.0/nvme/nvme0", "nvme0", map[string]string{"state": "live", "transport": "pcie", "subsysnqn": "nqn.y", "address": "0000:00:05.0"})
	for _, leg := range []struct{ at, name, ana string }{{fabrics + "nvme10", "nvme1c10n1", "optimized"}, {fabrics + "nvme2", "nvme1c2n1", "inaccessible"}} {
		file(leg.at+"/"+leg.name+"/nsid", "1")
		file(leg.at+"/"+leg.name+"/ana_state", leg.ana)
		file(leg.at+"/"+leg.name+"/ana_grpid", "1")
		file(leg.at+"/"+leg.name+"/hidden", "1")
	}
	for _, s := range []struct{ name, nqn string }{{"nvme-subsys1", "nqn.x:a"}, {"nvme-subsys0", "nqn.y"}} {
		file(sub+s.name+"/uevent", "")
		file(sub+s.name+"/subsysnqn", s.nqn)
		file(sub+s.name+"/subsystype", "nvm")
		file(sub+s.name+"/iopolicy", "numa")
		link("sys/class/nvme-subsystem/"+s.name, "../../"+strings.TrimPrefix(sub, "sys/")+s.name)
	}
	link(sub+"nvme-subsys1/nvme10", "../../nvme-fabrics/ctl/nvme10")
	link(sub+"nvme-subsys1/nvme2", "../../nvme-fabrics/ctl/nvme2")
	link(sub+"nvme-subsys0/nvme0", "../../../pci0000:00/0000:00:05.0/nvme/nvme0")
	for k, v := range map[string]string{"nsid": "1", "wwid": "uuid.11111111-2222-4333-8444-555555555555", "uuid": "11111111-2222-4333-8444-555555555555", "size": "32768", "ro": "0", "hidden": "0"} {
		file(sub+"nvme-subsys1/nvme1n1/"+k, v)
	}
	file("run/nvme/registry/nvme2/owner", "stas")
	return m
}

var addresses = cmpopts.EquateComparable(netip.AddrPort{}, netip.Addr{})

func TestSubsystemsAreRead(t *testing.T) {
	list, err := Read(sysfs.New(oneSubsystem()))
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 2 || list[0].NQN != "nqn.y" || list[0].Controllers[0].Fabric() {
		t.Fatalf("%+v", list)
	}
	want := Subsystem{Name: "nvme-subsys1", NQN: "nqn.x:a", Type: "nvm", IOPolicy: "numa",
		Namespaces: []Namespace{{Name: "nvme1n1", NSID: 1, WWID: "uuid.11111111-2222-4333-8444-555555555555", UUID: "11111111-2222-4333-8444-555555555555", Bytes: 16 << 20}}}
	for _, c := range []Controller{
		{Name: "nvme2", State: StateConnecting, Target: Target{Addr: netip.MustParseAddrPort("[2001:db8::40]:4420"), HostIface: "eth1"}, Owner: "stas",
			Legs: []Leg{{Name: "nvme1c2n1", NSID: 1, ANAState: "inaccessible", ANAGroup: 1}}},
		{Name: "nvme10", State: StateLive, Target: Target{Addr: netip.MustParseAddrPort("192.0.2.40:4420"), HostAddr: netip.MustParseAddr("192.0.2.17")},
			Source: netip.MustParseAddr("192.0.2.17"), Legs: []Leg{{Name: "nvme1c10n1", NSID: 1, ANAState: "optimized", ANAGroup: 1}}},
	} {
		c.NQN, c.Transport, c.Type, c.Host, c.CntlID = "nqn.x:a", "tcp", "io", host(), 3
		c.KeepAlive, c.CtrlLoss, c.FastIOFail, c.ReconnectDelay, c.Subsystem = "5", "off", "off", "2", "nvme-subsys1"
		want.Controllers = append(want.Controllers, c)
	}
	if diff := cmp.Diff(want, list[1], addresses); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := list[1].Live(); n != 1 {
		t.Errorf("%d live", n)
	}
	if list, err := Read(sysfs.New(fstest.MapFS{"sys/class/net": {Mode: fs.ModeDir}})); err != nil || len(list) != 0 {
		t.Errorf("a kernel without NVMe: %v, %v", list, err)
	}
}

func TestWhichConnectionIsAdopted(t *testing.T) {
	f := sysfs.New(oneSubsystem())
	from := func(t Target, addr, iface string) Target {
		if addr != "" {
			t.HostAddr = netip.MustParseAddr(addr)
		}
		t.HostIface = iface
		return t
	}
	v4, v6 := target("nqn.x:a", "192.0.2.40:4420"), target("nqn.x:a", "[2001:db8::40]:4420")
	for _, row := range []struct {
		name string
		to   Target
		host Host
		want string
	}{
		{"the same path", v4, host(), "nvme10"},
		{"the same path from the same address", from(v4, "192.0.2.17", ""), host(), "nvme10"},
		{"the same path from another address", from(v4, "192.0.2.18", ""), host(), ""},
		{"one that reconnects", v6, host(), "nvme2"},
		{"the same interface", from(v6, "", "eth1"), host(), "nvme2"},
		{"another interface", from(v6, "", "eth2"), host(), ""},
		{"another port", target("nqn.x:a", "192.0.2.40:4421"), host(), ""},
		{"another subsystem", target("nqn.x:b", "192.0.2.40:4420"), host(), ""},
		{"another host", v4, HostOf("6d6b1c5e-7c0f-4c38-9d31-0f8ab6a6a3f6"), ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			if c, ok := Adopt(f, row.to, row.host); ok != (row.want != "") || c.Name != row.want && ok {
				t.Errorf("got %q, want %q", c.Name, row.want)
			}
		})
	}
	if d, err := Disk(f, "nqn.x:a", 1); err != nil || d.Name != "nvme1n1" {
		t.Errorf("disk: %+v, %v", d, err)
	}
	if _, err := Disk(f, "nqn.x:a", 2); err == nil || !strings.Contains(err.Error(), "no namespace 2") {
		t.Errorf("another disk: %v", err)
	}
}

func TestIdentity(t *testing.T) {
	const id, nqn = "6d6b1c5e-7c0f-4c38-9d31-0f8ab6a6a3f5", "nqn.2014-08.org.nvmexpress:uuid:6d6b1c5e-7c0f-4c38-9d31-0f8ab6a6a3f5"
	raw := make([]byte, 27)
	copy(raw[8:], "\x5e\x1c\x6b\x6d\x0f\x7c\x38\x4c\x9d\x31\x0f\x8a\xb6\xa6\xa3\xf5")
	dmi := func(name, text string) fstest.MapFS {
		return fstest.MapFS{name: {Data: []byte(text)}}
	}
	for _, row := range []struct {
		name  string
		files map[string]string
		sys   fstest.MapFS
		want  Host
		from  string
		fails string
	}{
		{name: "both files", files: map[string]string{"hostnqn": "nqn.2026-01.x:me\n", "hostid": strings.ToUpper(id)}, want: Host{"nqn.2026-01.x:me", id}, from: "DIR"},
		{name: "only the name, made of a UUID", files: map[string]string{"hostnqn": nqn}, want: Host{nqn, id}, from: "DIR"},
		{name: "only the ID", files: map[string]string{"hostid": id + "\n"}, want: Host{nqn, id}, from: "DIR"},
		{name: "a name of one's own without an ID", files: map[string]string{"hostnqn": "nqn.2026-01.x:me"}, fails: "hostid has to be there too"},
		{name: "an ID of zeros", files: map[string]string{"hostid": "00000000-0000-0000-0000-000000000000"}, fails: "no UUID that can tell machines apart"},
		{name: "rubbish", files: map[string]string{"hostnqn": "hello", "hostid": id}, fails: `does not begin with "nqn."`},
		{name: "files win over DMI", files: map[string]string{"hostid": id}, sys: dmi("sys/class/dmi/id/product_uuid", "11111111-2222-4333-8444-555555555555"), want: Host{nqn, id}, from: "DIR"},
		{name: "empty files are none", files: map[string]string{"hostnqn": "\n", "hostid": ""}, sys: dmi("sys/class/dmi/id/product_uuid", strings.ToUpper(id)+"\n"), want: Host{nqn, id}, from: "the machine's UUID"},
		{name: "the table itself, its bytes turned round", sys: dmi("sys/firmware/dmi/entries/1-0/raw", string(raw)), want: Host{nqn, id}, from: "the machine's UUID"},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			for n, text := range row.files {
				if err := os.WriteFile(filepath.Join(dir, n), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			i := Identity{Dirs: []string{filepath.Join(dir, "none"), dir}}
			if row.sys != nil {
				i.Sys = sysfs.New(row.sys)
			}
			got, from, err := i.Find()
			switch {
			case row.fails != "":
				if err == nil || !strings.Contains(err.Error(), row.fails) {
					t.Errorf("got %v, %v, want an error that says %q", got, err, row.fails)
				}
			case err != nil || got != row.want || from != strings.ReplaceAll(row.from, "DIR", dir):
				t.Errorf("got %v from %q, %v", got, from, err)
			}
		})
	}
	t.Run("made up once", func(t *testing.T) {
		keep := filepath.Join(t.TempDir(), "nvme")
		for _, uuid := range []string{"ffffffff-ffff-ffff-ffff-ffffffffffff", "03000200-0400-0500-0006-000700080009"} {
			i := Identity{Sys: sysfs.New(dmi("sys/class/dmi/id/product_uuid", uuid)), Dirs: []string{keep}, Keep: keep}
			first, from, err := i.Find()
			if err != nil || first.Check() != nil {
				t.Fatalf("%v from %q: %v", first, from, err)
			}
			if again, from, err := i.Find(); err != nil || again != first || from != keep {
				t.Errorf("again: %v from %q, %v", again, from, err)
			}
		}
	})
}

func TestTheRegistry(t *testing.T) {
	root := t.TempDir()
	if err := errors.Join(os.MkdirAll(filepath.Join(root, "sys/kernel"), 0o755), os.WriteFile(filepath.Join(root, "sys/kernel/uevent_seqnum"), []byte("1234\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	f, err := sysfs.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, who := range []string{"stas", Us} { // the second controller of that name takes the first one's place
		if err := SetOwner(root, "nvme3", who); err != nil {
			t.Fatal(err)
		}
		if got := owner(f, "nvme3"); got != who {
			t.Errorf("owner: got %q, want %q", got, who)
		}
	}
	b, err := os.ReadFile(filepath.Join(root, "run/nvme/registry/nvme3/seqnum"))
	if err != nil || string(b) != "1234\n" {
		t.Errorf("seqnum: %q, %v", b, err)
	}
	if entries, err := os.ReadDir(filepath.Join(root, "run/nvme/registry")); err != nil || len(entries) != 1 {
		t.Errorf("left beside it: %v, %v", entries, err)
	}
	for range 2 {
		if err := Forget(root, "nvme3"); err != nil {
			t.Error(err)
		}
	}
	if got := owner(f, "nvme3"); got != "" {
		t.Errorf("forgotten, its owner is %q", got)
	}
	if Forget(root, "../..") == nil || Disconnect(root, "../../x") == nil {
		t.Error("a path was taken for a controller")
	}
}

func TestTheHandshakeDaemonIsSeen(t *testing.T) {
	const sockets = `sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode
00000000d1 0   1234       00000011 0        0        0     2        0        1
00000000d2 16  77         00000004 0        0        0     2        0        2
`
	for group, want := range map[uint32]bool{0: false, 1: false, 3: true, 4: false, 5: false, 40: true} {
		if got := listens(strings.NewReader(sockets), group); got != want {
			t.Errorf("group %d: got %v", group, got)
		}
	}
	const keys = `0a1b2c3d I------     1 perm 1f0b0000     0     0 keyring   .nvme: 2
1b2c3d4e I--Q---     1 perm 3b010000     0     0 psk       NVMe0R01 nqn.y nqn.x: 32
`
	if id, err := findKeyring(strings.NewReader(keys), ".nvme"); err != nil || id != 0x0a1b2c3d {
		t.Errorf("keyring: %#x, %v", id, err)
	}
	if _, err := findKeyring(strings.NewReader(keys), "NVMe0R01"); err == nil {
		t.Error("a key is no keyring")
	}
}

func TestNamesOfTheKernelAreToldApart(t *testing.T) {
	for name, want := range map[string][3]bool{
		"nvme0": {true, false, false}, "nvme12": {true, false, false}, "nvme0n1": {false, true, false}, "nvme3c10n2": {false, false, true},
		"nvme": {}, "nvme0p1": {}, "nvme0n1p1": {}, "nvme-subsys0": {}, "nvme#": {}, "xnvme0": {}, "nvme0 ": {}, "": {},
	} {
		if got := [3]bool{isController(name), isNamespace(name), isLeg(name)}; got != want {
			t.Errorf("%q: controller, namespace, leg: got %v, want %v", name, got, want)
		}
	}
}
