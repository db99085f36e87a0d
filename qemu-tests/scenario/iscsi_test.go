package scenario

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	breport "initd/boot/report"
	"initd/hw/iscsi/iscsitest"
	"initd/qemu-tests/peer/config"
	"initd/qemu-tests/peer/keyserver"
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
	images  map[string]string // of LUNs, by their path on the targets' machine
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
	image := vm.NewImage(s.T).GoProgram("/init", "./qemu-tests/peer").Modules("virtio_net", "8021q", "virtio_blk", "target_core_mod", "target_core_file", "target_core_iblock", "iscsi_target_mod", "loop").
		JSON(config.Path, s.Peer).File("/ext4.img", s.ext4(), 0o600)
	for path, content := range s.images {
		image.File(path, content, 0o600)
	}
	s.PeerVM = vm.New(s.T, vm.Name("targets"), vm.Memory(512), vm.CPUs(1), vm.Reboots()).Initramfs(image.Write("targets")).Wire(s.Wire, room.PeerMAC).Wire(s.second, targetMACB).Disk(disks...).Start()
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
	Disks                                          []struct {
		LUN  int
		Name string
	}
}

// change makes a fault at the targets, or ends it.
func (s *iscsiRoom) change(c lio.Change) {
	s.T.Helper()
	s.Change(config.Command{Do: "lio", LIO: &c})
}

// keyServer adds one on the targets' machine, with the key of a volume, which it returns.
func (s *iscsiRoom) keyServer(address, volume string) []byte {
	s.T.Helper()
	s.AddServer("kms", address, keyserver.KindBytes)
	s.with("keys:\n  tls: {ca: pki/ca.pem, cert: pki/store.pem, key: pki/store.key}\n  servers: [{name: kms, address: \"" + net.JoinHostPort(address, "5696") + "\"}]\n")
	return s.Key(volume)
}

// Sixteen targets over two networks, four of them on both; and a seventeenth, whose second portal is late, with a volume that is found by
// its UUID, and its key from a key server in the same network.
//
//   - All log in, in one go: those with one portal have a disk, those with two a multipath map. CHAP both ways and digests are used by
//     some. File systems on them are mounted, and hold what is written.
//   - The volume has the UUID on each leg. It is not opened on the one that is there first, but on the map.
//   - The list shows who has which; a disk that is in use is not logged out of; a session that is named twice is left alone.
//   - A path's network fails and comes back: I/O goes on by the other, and the path joins again. So it does when the store's own
//     cable is pulled, and put in and out.
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
	key := s.keyServer(targetA, "vault")
	s.images = map[string]string{"/vault.img": vm.NewDisk(t, "vault", 22*vm.MiB, vm.LUKS{Keys: [][]byte{key}, UUID: vaultUUID, Content: vm.Ext4{}}).Path}
	s.targets.Targets = append(s.targets.Targets, lio.Target{IQN: iqn("vault"), Portals: []string{targetA + ":3260", targetB + ":3260"}, LUNs: []lio.LUN{{MiB: 22, Image: "/vault.img"}}})
	s.targets.Late = []lio.Late{{Listen: targetB + ":3290", To: targetB + ":3260", Seconds: 8}}
	fmt.Fprintf(&fabrics, "    - {name: vault, target: %q, portals: [%s, %q], initiator: %q, min-paths: 2}\n", iqn("vault"), targetA, targetB+":3290", initiator)
	mounts.WriteString("  - {what: luks/vault, where: /srv/vault, type: ext4, fsck: never}\n")
	s.with("fabrics:\n  iscsi:\n" + fabrics.String() + "media:\n  luks: [{name: vault, device: uuid/" + vaultUUID + ", key: kmip}]\nmounts:\n" + mounts.String())
	s.startTargets()
	m := s.startStore()
	m.WaitEvent("ready", vm.Is("ready"), vm.Guard)
	s.wantVaultOnItsMap()

	list := s.sessions()
	if len(list) != 22 {
		t.Errorf("%d sessions, want 22: %+v", len(list), list)
	}
	for _, l := range list {
		if l.State != "LOGGED_IN" || l.Owner != "initd" || !strings.HasPrefix(l.Unit, "iscsi-path/") || len(l.Disks) != 1 {
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
	if n := len(s.sessions()); n != 22 {
		t.Errorf("%d sessions after that, want 22", n)
	}

	order(t, room.Told(t, m), "luks/vault") // it came up once: its own mapping is no loss

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
	s.flap()
	t.Logf("load: %s", room.Hand(t, m, "load-stop", "", "").Line)

	m.CtrlAltDel()
	m.Exited(vm.Guard)
	room.NothingLeft(t, m)
}

const vaultUUID = "3f0a5a52-6c58-4b0e-9d1b-0c8f1f3b7a11"

// wantVaultOnItsMap checks that the volume was not touched before its map was there, and stands on that.
func (s *iscsiRoom) wantVaultOnItsMap() {
	t := s.T.(*testing.T)
	t.Helper()
	events := room.Told(t, s.Store)
	order(t, events, "iscsi/vault", "luks/vault", "mount/srv/vault") // iscsi/vault needs both paths
	if n := attempts(events, "luks/vault"); n != 1 {
		t.Errorf("%d attempts to open the volume, want 1", n)
	}
	legs, below := "", ""
	for _, table := range room.StateOf(t, s.Store, "hands").Tables {
		f := strings.Fields(table)
		switch {
		case strings.HasPrefix(table, "vault: ") && f[3] == "crypt":
			below = f[7]
		case strings.HasPrefix(table, "vault-0: ") && f[3] == "multipath":
			legs = table
		}
	}
	if below == "" || legs == "" || strings.Contains(legs+" ", " "+below+" ") {
		t.Errorf("the volume stands on %q; the map is %q", below, legs)
	}
}

// flap pulls the store's own cable of the second network: in and out, and then for as long as it takes to be noticed. Everything on it
// comes back, with the address that it had.
func (s *iscsiRoom) flap() {
	t, m := s.T.(*testing.T), s.Store
	t.Helper()
	carrier := func(presence breport.Presence) func(vm.Event) bool {
		return vm.Is("loss", "unit", "net/netb", "presence", string(presence))
	}
	for range 3 {
		m.SetLink(s.second, false)
		m.SetLink(s.second, true)
	}
	events := m.Events()
	last := events[len(events)-1]
	m.SetLink(s.second, false)
	e := m.WaitEventAfter(last, "the carrier is lost", carrier(breport.Gone), vm.Guard)
	if !strings.Contains(e.Field("reason"), "no carrier") {
		t.Errorf("the reason: %s", e.Line)
	}
	last = m.WaitEventAfter(last, "a path over it is lost", noticed("iscsi-path/t13/"+targetB+":3260: lost"), vm.Guard)
	room.Hand(t, m, "load-more", "", "20") // by the other path
	m.SetLink(s.second, true)
	m.WaitEventAfter(last, "the carrier is back", carrier(breport.Present), vm.Guard)
	m.WaitEventAfter(last, "the path is back", noticed("iscsi-path/t13/"+targetB+":3260: back"), vm.Guard)
	if got := room.StateOf(t, m, "hands").Addresses; !slices.ContainsFunc(got, func(a string) bool { return strings.HasSuffix(a, " 198.51.100.17/24") }) {
		t.Errorf("addresses after the flaps: %q", got)
	}
}

// Targets that are dead, refuse, are silent, slow or unwilling, and good ones among them; one that takes half a minute to answer; one in a VLAN
// on a bond, whose cable is pulled; and one that a cluster shares, which comes when another machine has mounted its disk.
//
// While all of them are under way one is tried again by hand: that is no matter of the others', so the one that answers after half a minute
// is not begun anew.
func TestISCSIPortalsInTrouble(t *testing.T) {
	s := newISCSIRoom(t)
	s.Peer.Links[1].VLANs = map[int][]string{120: {targetVLAN + "/24"}}
	s.Appliance = strings.Replace(s.Appliance, `{name: netb, match: {mac: "`+storeMACB+`"}, `, `{name: netb, bond: {mode: active-backup, members: [{mac: "`+storeMACB+`"}]}, `, 1)
	s.Appliance = strings.Replace(s.Appliance, "services:\n", "    - {name: tagged, vlan: {id: 120, link: netb}, addresses: [203.0.113.17/24]}\nservices:\n", 1)
	s.Identity["chap"], s.Identity["other"] = []byte("a secret of the store's"), []byte("another secret altogether")
	auth := &lio.Auth{User: "store", Password: "a secret of the store's", MutualUser: "targets", MutualPassword: "a secret of the target's"}
	lun := []lio.LUN{{Number: 0, MiB: 8, Image: "/ext4.img"}}
	s.targets = lio.Config{
		Targets: []lio.Target{
			{IQN: iqn("good"), Portals: []string{targetA + ":3260", targetB + ":3260"}, LUNs: lun},
			{IQN: iqn("guarded"), Portals: []string{targetA + ":3260"}, LUNs: lun, Initiators: []lio.Initiator{{Name: initiator, Auth: auth}}},
			{IQN: iqn("theirs"), Portals: []string{targetA + ":3260"}, LUNs: lun, Initiators: []lio.Initiator{{Name: iqn("another"), Auth: auth}}},
			{IQN: iqn("shared"), Portals: []string{targetA + ":3260"}, LUNs: lun},
			{IQN: iqn("tagged"), Portals: []string{targetVLAN + ":3260"}, LUNs: lun},
		},
		Scripted: []lio.Scripted{
			{Listen: targetA + ":3270", Script: iscsitest.Script{Silent: true}},
			{Listen: targetA + ":3271", Script: iscsitest.Script{Redirect: targetB + ":3260,1"}},
			{Listen: targetA + ":3272", Script: iscsitest.Script{Status: 0x0302}},
			{Listen: targetA + ":3273", Script: iscsitest.Script{Status: 0x0203}},
			{Listen: targetA + ":3274", Script: iscsitest.Script{Raw: []byte(strings.Repeat("no iSCSI at all, ", 20))}},
		},
		Late: []lio.Late{{Listen: targetA + ":3280", To: targetA + ":3260", Seconds: 8}, {Listen: targetA + ":3281", To: targetA + ":3260", Seconds: 30}},
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
		strings.Replace(entry("slow", "good", `"`+targetA+`:3281"`, ""), ", options: {login-timeout: 20s}", "", 1) +
		entry("shared", "shared", `"`+targetA+`:3282"`, ", active: cluster") +
		strings.Replace(entry("tagged", "tagged", targetVLAN, ""), "login-timeout: 20s", "nop-interval: 2s, nop-timeout: 3s", 1) +
		"mounts:\n  - {what: iscsi/paths/0, where: /srv/paths, type: ext4, fsck: never}\n")
	s.Wire.Drop(vm.ToAddr(netip.MustParseAddr("192.0.2.99")))
	s.startTargets()
	m := s.startStore()
	s.retriesOne("iscsi-path/paths/" + targetA + ":3270")
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
	slow := "iscsi-path/slow/" + targetA + ":3281"
	m.WaitEvent("one that answers after 30 s is up", room.Unit(slow, "done"), vm.Guard)
	events := room.Told(t, m)
	if n := attempts(events, slow); n != 1 || slices.ContainsFunc(events, func(e breport.Event) bool { return e.Unit == slow && e.Error != nil }) {
		t.Errorf("%s was given up: %d attempts", slow, n)
	}
	order(t, events, "iscsi-path/paths/"+targetB+":3260", "iscsi/paths", "mount/srv/paths", "iscsi-path/paths/"+targetA+":3280")
	for _, secret := range []string{"a secret of the store's", "another secret altogether"} {
		for _, e := range events {
			if b, err := json.Marshal(e); err != nil || strings.Contains(string(b), secret) {
				t.Errorf("a secret stands in the events: %s", b)
			}
		}
	}
	s.pullsTheBond()
	s.otherMachineFirst()
	m.CtrlAltDel()
	m.Exited(vm.Guard)
}

// targetVLAN is the targets' address in a VLAN of the second network.
const targetVLAN = "203.0.113.50"

// retriesOne tries one path again while it is being tried, in one go with others.
func (s *iscsiRoom) retriesOne(unit string) {
	t, m := s.T.(*testing.T), s.Store
	t.Helper()
	begins := vm.Is(string(breport.AttemptStarted), "unit", unit, "op", string(breport.Apply))
	first := m.WaitEvent("all of them are begun", begins, vm.Guard)
	m.WaitEvent("the hands are there", vm.Is("hands-ready"), vm.Guard)
	run(t, m, "/usr/bin/initd", "retry "+unit)
	m.WaitEventAfter(first, "it is begun again", begins, vm.Guard)
	for _, e := range m.Events() {
		if vm.Is(string(breport.AttemptCancelled))(e) && e.Field("unit") != unit {
			t.Errorf("another was called off: %s", e.Line)
		}
	}
}

// pullsTheBond pulls the cable of the bond's only member: what is in the VLAN above it is lost for that reason, and comes back.
func (s *iscsiRoom) pullsTheBond() {
	t, m := s.T.(*testing.T), s.Store
	t.Helper()
	unit := "iscsi-path/tagged/" + targetVLAN + ":3260"
	last := m.WaitEvent("the portal in the VLAN is logged in to", room.Unit(unit, "done"), vm.Guard)
	m.SetLink(s.second, false)
	e := m.WaitEventAfter(last, "the VLAN has no carrier", vm.Is("loss", "unit", "net/tagged", "presence", string(breport.Gone)), vm.Guard)
	if !strings.Contains(e.Field("reason"), "no carrier") {
		t.Errorf("the reason: %s", e.Line)
	}
	last = m.WaitEventAfter(last, "the path is lost", noticed(unit+": lost"), vm.Guard)
	m.SetLink(s.second, true)
	m.WaitEventAfter(last, "the path is back", noticed(unit+": back"), vm.Guard)
}

// otherMachineFirst has another machine mount the disk that is shared, before the store finds it: the store logs in, and so does its
// orchestrator's successor, and neither writes a byte.
func (s *iscsiRoom) otherMachineFirst() {
	t, m := s.T.(*testing.T), s.Store
	t.Helper()
	m.WaitEvent("the shared disk is not there", failedWith("iscsi-path/shared/"+targetA+":3282"), vm.Guard)
	s.change(lio.Change{Do: "mount", Target: iqn("shared"), LUN: &lio.LUN{}})
	s.change(lio.Change{Do: "serve", Portal: targetA + ":3282", Value: targetA + ":3260"})
	m.WaitEvent("it comes late", room.Unit("iscsi/shared", "done"), vm.Guard)
	untouched := func(when string) {
		t.Helper()
		for _, l := range s.sessions() {
			if l.Target != iqn("shared") || len(l.Disks) != 1 {
				continue
			}
			// Documentation/block/stat.rst: the fifth number counts writes, the twelfth discards, the sixteenth flushes.
			stat := strings.Fields(room.Hand(t, m, "read", "/sys/block/"+l.Disks[0].Name+"/stat", "").Field("text"))
			if len(stat) < 16 || stat[4] != "0" || stat[11] != "0" || stat[15] != "0" {
				t.Errorf("%s the shared disk was written to: %q", when, stat)
			}
			return
		}
		t.Errorf("%s: no session has the shared disk", when)
	}
	untouched("when it came")
	gone := room.Hand(t, m, "kill-orchestrator", "", "")
	m.WaitEventAfter(gone, "a successor adopts it", room.Unit("iscsi/shared", "adopted"), vm.Guard)
	untouched("by the successor")
}

// failedWith matches the end of a unit's attempt by an error, unless somebody called it off.
func failedWith(unit string) func(vm.Event) bool {
	return func(e vm.Event) bool {
		var x breport.Event
		return e.Field("unit") == unit && e.Field("seq") != "" && e.Decode(&x) == nil && x.Error != nil && !strings.Contains(x.Error.Text, "called off")
	}
}
