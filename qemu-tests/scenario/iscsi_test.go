package scenario

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	breport "initd/boot/report"
	"initd/hw/iscsi/iscsitest"
	"initd/qemu-tests/peer/config"
	"initd/qemu-tests/peer/lio"
	"initd/qemu-tests/peer/network"
	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

// The addresses of the targets' machine on two networks, and of the store on the second one.
const (
	targetA    = "192.0.2.50"
	targetB    = "198.51.100.50"
	storeMACB  = "52:54:00:00:01:03"
	targetMACB = "52:54:00:00:01:04"
	initiator  = "iqn.2026-01.net.example:store"
)

// twoNetworks are the links of a store of these stories.
const twoNetworks = `apiVersion: initd/v1
name: store
budgets: {boot: 3m, shutdown: 60s}
network:
  links:
    - {name: neta, match: {mac: "` + room.StoreMAC + `"}, addresses: [192.0.2.17/24]}
    - {name: netb, match: {mac: "` + storeMACB + `"}, addresses: [198.51.100.17/24]}
services:
` + room.HandsService + `image:
  modules: [ext4]
`

// iscsiRoom is a room with two wires, and targets in the place of key servers.
type iscsiRoom struct {
	*room.Room
	second  *vm.Wire
	targets lio.Config
}

func newISCSIRoom(t *testing.T) *iscsiRoom {
	t.Helper()
	s := &iscsiRoom{Room: room.New(t, targetA, "192.0.2.51"), second: vm.NewWire(t, "room-b")}
	s.Peer.KeyServers = nil
	s.Peer.Links = append(s.Peer.Links, network.Link{MAC: targetMACB, Addresses: []string{targetB + "/24"}})
	s.Appliance = twoNetworks
	return s
}

func iqn(name string) string { return "iqn.2026-01.net.example:" + name }

// startTargets boots the targets' machine.
func (s *iscsiRoom) startTargets(disks ...*vm.Disk) *vm.VM {
	s.T.Helper()
	s.Peer.LIO = &s.targets
	image := vm.NewImage(s.T).GoProgram("/init", "./qemu-tests/peer").Modules("virtio_net", "virtio_blk", "target_core_mod", "target_core_file", "target_core_iblock", "iscsi_target_mod").
		JSON(config.Path, s.Peer).File("/ext4.img", s.ext4(), 0o600).Write("targets")
	s.PeerVM = vm.New(s.T, vm.Name("targets"), vm.Memory(512), vm.CPUs(1), vm.Reboots()).Initramfs(image).Wire(s.Wire, room.PeerMAC).Wire(s.second, targetMACB).Disk(disks...).Start()
	s.PeerVM.WaitEvent("the targets listen", vm.Is("ready"), vm.Guard)
	return s.PeerVM
}

// ext4 is a small file system that disks begin with.
func (s *iscsiRoom) ext4() string {
	s.T.Helper()
	d := vm.NewDisk(s.T, "content", 6*vm.MiB, vm.Ext4{Label: "data"})
	path := filepath.Join(s.T.TempDir(), "ext4.img")
	b, err := os.ReadFile(d.Path)
	if err == nil {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		s.T.Fatal(err)
	}
	return path
}

func (s *iscsiRoom) startStore() *vm.VM {
	s.T.Helper()
	s.AddHands()
	return s.NewStore().Wire(s.second, storeMACB).Start()
}

// with puts sections before the services.
func (s *iscsiRoom) with(sections string) {
	s.Appliance = strings.Replace(s.Appliance, "services:\n", sections+"services:\n", 1)
}

// sessions are what initd iscsi list shows on the store.
func (s *iscsiRoom) sessions() []listedSession {
	s.T.Helper()
	var out struct{ Sessions []listedSession }
	e := room.Hand(s.T, s.Store, "run", "/usr/bin/initd", "iscsi list --json")
	if err := json.Unmarshal([]byte(e.Field("text")), &out); err != nil {
		s.T.Fatalf("%v: %s", err, e.Line)
	}
	return out.Sessions
}

type listedSession struct {
	ID                                             uint32
	Target, Portal, State, Connection, Owner, Unit string
	Disks                                          []struct{ LUN int }
}

// Sixteen targets over two networks, four of them on both.
//
//   - All log in, in one go: those with one portal have a disk, those with two a multipath map. CHAP both ways and digests are used by
//     some. File systems on them are mounted, and hold what is written.
//   - The list shows who has which; a disk that is in use is not logged out of; a session that is named twice is left alone.
//   - A path's network fails and comes back: I/O goes on by the other, and the path joins again.
//   - The way down logs out of everything that it has unmounted.
func TestSixteenISCSITargetsOverTwoNetworks(t *testing.T) {
	s := newISCSIRoom(t)
	s.Identity["chap"], s.Identity["chap-mutual"] = []byte("a secret of the store's\n"), []byte("a secret of the target's\n")
	var fabrics, mounts strings.Builder
	auth := &lio.Auth{User: "store", Password: "a secret of the store's", MutualUser: "targets", MutualPassword: "a secret of the target's"}
	for i := range 16 {
		name := fmt.Sprintf("t%d", i)
		portals := []string{[]string{targetA, targetB}[i%2]}
		if i >= 12 {
			portals = []string{targetA, targetB}
		}
		target := lio.Target{IQN: iqn(name), LUNs: []lio.LUN{{Number: i % 3, MiB: 8, Image: "/ext4.img"}}}
		for _, p := range portals {
			target.Portals = append(target.Portals, p+":3260")
		}
		more := ""
		switch {
		case i%4 == 0:
			target.Initiators = []lio.Initiator{{Name: initiator, Auth: auth}}
			more = ", chap: {user: store, secret: {file: /etc/initd/chap}, mutual-user: targets, mutual: {file: /etc/initd/chap-mutual}}"
		case i%4 == 1:
			target.Parameters = map[string]string{"HeaderDigest": "CRC32C,None", "DataDigest": "CRC32C,None"}
			more = `, options: {header-digest: "crc32c", data-digest: "crc32c,none"}`
		}
		s.targets.Targets = append(s.targets.Targets, target)
		fmt.Fprintf(&fabrics, "    - {name: %s, target: %q, portals: [%s], initiator: %q, luns: [{lun: %d, name: disk}], min-paths: %d%s}\n",
			name, iqn(name), strings.Join(portals, ", "), initiator, i%3, len(portals), more)
		fmt.Fprintf(&mounts, "  - {what: iscsi/%s/disk, where: /srv/%s, type: ext4, fsck: never}\n", name, name)
	}
	s.with("fabrics:\n  iscsi:\n" + fabrics.String() + "mounts:\n" + mounts.String())
	s.startTargets()
	m := s.startStore()
	m.WaitEvent("ready", vm.Is("ready"), vm.Guard)

	list := s.sessions()
	if len(list) != 20 {
		t.Errorf("%d sessions, want 20: %+v", len(list), list)
	}
	for _, l := range list {
		if l.State != "LOGGED_IN" || l.Owner != "initd" || !strings.HasPrefix(l.Unit, "iscsi-path/t") || len(l.Disks) != 1 {
			t.Errorf("session %+v", l)
		}
	}
	for i := range 16 {
		file := fmt.Sprintf("/srv/t%d/mine", i)
		room.Hand(t, m, "write", fmt.Sprintf("of target %d", i), file)
	}
	for i := range 16 {
		file := fmt.Sprintf("/srv/t%d/mine", i)
		if e := room.Hand(t, m, "read", file, ""); e.Field("text") != fmt.Sprintf("of target %d", i) {
			t.Errorf("%s holds %q", file, e.Field("text"))
		}
	}
	if e := room.Hand(t, m, "run", "/usr/bin/initd", "iscsi logout "+iqn("t0")); e.Field("status") != "1" || !strings.Contains(e.Field("text"), "is used by the mount /srv/t0") {
		t.Errorf("a logout under a mount: %s", e.Line)
	}
	if e := room.Hand(t, m, "run", "/usr/bin/initd", "iscsi login "+iqn("t1")+" "+targetB+" --initiator "+initiator+" --lun 1"); e.Field("status") != "0" {
		t.Errorf("a login that is there already: %s", e.Line)
	}
	if n := len(s.sessions()); n != 20 {
		t.Errorf("%d sessions after that, want 20", n)
	}

	room.Hand(t, m, "load", "/srv/t12/load", "4096")
	room.Hand(t, m, "load-more", "", "5")
	s.PeerVM.SetLink(s.second, false)
	m.WaitEvent("a path is lost", noticed("iscsi-path/t12/"+targetB+":3260: lost"), vm.Guard)
	room.Hand(t, m, "load-more", "", "20") // by the other path
	s.PeerVM.SetLink(s.second, true)
	for i := range 16 {
		if i%2 == 1 || i >= 12 {
			m.WaitEvent("the path is back", noticed(fmt.Sprintf("iscsi-path/t%d/%s:3260: back", i, targetB)), vm.Guard)
		}
	}
	t.Logf("load: %s", room.Hand(t, m, "load-stop", "", "").Line)

	m.CtrlAltDel()
	m.Exited(vm.Guard)
	room.NothingLeft(t, m)
}

// Targets that are dead, refuse, are silent, slow or unwilling, and good ones among them.
func TestISCSIPortalsInTrouble(t *testing.T) {
	s := newISCSIRoom(t)
	s.Identity["chap"], s.Identity["other"] = []byte("a secret of the store's"), []byte("another secret altogether")
	auth := &lio.Auth{User: "store", Password: "a secret of the store's", MutualUser: "targets", MutualPassword: "a secret of the target's"}
	lun := []lio.LUN{{Number: 0, MiB: 8, Image: "/ext4.img"}}
	s.targets = lio.Config{
		Targets: []lio.Target{
			{IQN: iqn("good"), Portals: []string{targetA + ":3260", targetB + ":3260"}, LUNs: lun},
			{IQN: iqn("guarded"), Portals: []string{targetA + ":3260"}, LUNs: lun, Initiators: []lio.Initiator{{Name: initiator, Auth: auth}}},
			{IQN: iqn("theirs"), Portals: []string{targetA + ":3260"}, LUNs: lun, Initiators: []lio.Initiator{{Name: iqn("another"), Auth: auth}}},
		},
		Scripted: []lio.Scripted{
			{Listen: targetA + ":3270", Script: iscsitest.Script{Silent: true}},
			{Listen: targetA + ":3271", Script: iscsitest.Script{Redirect: targetB + ":3260,1"}},
			{Listen: targetA + ":3272", Script: iscsitest.Script{Status: 0x0302}},
			{Listen: targetA + ":3273", Script: iscsitest.Script{Status: 0x0203}},
			{Listen: targetA + ":3274", Script: iscsitest.Script{Raw: []byte(strings.Repeat("no iSCSI at all, ", 20))}},
		},
		Late: []lio.Late{{Listen: targetA + ":3280", To: targetA + ":3260", Seconds: 8}},
	}
	entry := func(name, target, portals, more string) string {
		return fmt.Sprintf("    - {name: %s, target: %q, portals: [%s], initiator: %q%s, options: {login-timeout: 20s}}\n", name, iqn(target), portals, initiator, more)
	}
	chap := func(secret, mutual string) string {
		out := ", chap: {user: store, secret: {file: /etc/initd/" + secret + "}"
		if mutual != "" {
			out += ", mutual: {file: /etc/initd/" + mutual + "}"
		}
		return out + "}"
	}
	s.with("fabrics:\n  iscsi:\n" +
		entry("paths", "good", `"192.0.2.99", "`+targetA+`:3999", "`+targetA+`:3270", "`+targetA+`:3280", "`+targetB+`"`, ", min-paths: 1") +
		entry("moved", "good", `"`+targetA+`:3271"`, "") +
		entry("wrong", "guarded", targetA, chap("other", "")) +
		entry("impostor", "guarded", targetA, chap("chap", "other")) +
		entry("none", "none", targetA, "") +
		entry("stranger", "theirs", targetA, chap("chap", "")) +
		entry("full", "good", `"`+targetA+`:3272"`, "") +
		entry("unknown", "good", `"`+targetA+`:3273"`, "") +
		entry("babble", "good", `"`+targetA+`:3274"`, "") +
		entry("lun", "good", targetA, ", luns: [{lun: 7}]") +
		"mounts:\n  - {what: iscsi/paths/0, where: /srv/paths, type: ext4, fsck: never}\n")
	s.Wire.Drop(vm.ToAddr(netip.MustParseAddr("192.0.2.99")))
	s.startTargets()
	m := s.startStore()
	for unit, code := range map[string]string{
		"wrong/" + targetA + ":3260": "ISCSI-AUTH", "impostor/" + targetA + ":3260": "ISCSI-MUTUAL", "none/" + targetA + ":3260": "ISCSI-UNAVAILABLE",
		"stranger/" + targetA + ":3260": "ISCSI-FORBIDDEN", "full/" + targetA + ":3272": "ISCSI-TOO-MANY", "unknown/" + targetA + ":3273": "ISCSI-NOT-FOUND",
		"babble/" + targetA + ":3274": "ISCSI-PROTOCOL", "lun/" + targetA + ":3260": "ISCSI-NO-LUN",
		"paths/" + targetA + ":3999": "ISCSI-DIAL", "paths/" + targetA + ":3270": "ISCSI-TIMEOUT", "paths/192.0.2.99:3260": "ISCSI-DIAL",
	} {
		e := m.WaitEvent("iscsi-path/"+unit+" says why", failedWith("iscsi-path/"+unit), vm.Guard)
		if got := room.Decode(t, e); got.Error == nil || got.Error.Code != code {
			t.Errorf("iscsi-path/%s: %s, want %s", unit, e.Line, code)
		}
	}
	m.WaitEvent("a redirection is followed", room.Unit("iscsi-path/moved/"+targetA+":3271", "done"), vm.Guard)
	m.WaitEvent("one path of five is enough", room.Unit("iscsi/paths", "done"), vm.Guard)
	m.WaitEvent("it is mounted", room.Unit("mount/srv/paths", "done"), vm.Guard)
	m.WaitEvent("the late path joins by itself", room.Unit("iscsi-path/paths/"+targetA+":3280", "done"), vm.Guard)
	events := room.Told(t, m)
	order(t, events, "iscsi-path/paths/"+targetB+":3260", "iscsi/paths", "mount/srv/paths", "iscsi-path/paths/"+targetA+":3280")
	for _, secret := range []string{"a secret of the store's", "another secret altogether"} {
		for _, e := range events {
			if b, err := json.Marshal(e); err != nil || strings.Contains(string(b), secret) {
				t.Errorf("a secret stands in the events: %s", b)
			}
		}
	}
	m.CtrlAltDel()
	m.Exited(vm.Guard)
}

// failedWith matches the end of a unit's attempt by an error.
func failedWith(unit string) func(vm.Event) bool {
	return func(e vm.Event) bool {
		var x breport.Event
		return e.Field("unit") == unit && e.Field("seq") != "" && e.Decode(&x) == nil && x.Error != nil
	}
}
