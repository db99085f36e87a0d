package scenario

import (
	"bytes"
	"encoding/pem"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	breport "initd/boot/report"
	"initd/qemu-tests/peer/dhcp"
	"initd/qemu-tests/peer/pki"
	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

// rootOnLUKS is the appliance that hands its machine over to a Debian on an
// encrypted disk.
const rootOnLUKS = `apiVersion: initd/v1
name: store
budgets: {boot: 3m, shutdown: 30s}
network:
  links:
    - {name: room, match: {mac: "` + room.StoreMAC + `"}, addresses: [dhcp4]}
keys:
  tls: {ca: pki/ca.pem, cert: pki/store.pem, key: pki/store.key}
  servers:
    - {name: kms-a, address: "` + room.KMSAV4 + `:5696"}
    - {name: kms-b, address: "` + room.KMSBV4 + `:5696"}
media:
  luks:
    - {name: root, device: id/virtio-root, key: kmip}
    - {name: data, device: id/virtio-data, key: kmip}
    - {name: later, device: id/virtio-later, key: kmip}
    - {name: asked, device: id/virtio-asked, key: prompt}
mounts:
  - {what: luks/root, where: /, type: ext4}
image:
  modules: [i6300esb]
`

// debianRoot unpacks the Debian root that bootstrap made, and puts in what a
// test adds.
func debianRoot(t *testing.T, files map[string]string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test unpacks a Debian root, whose files belong to several accounts: run it as root")
	}
	if out, err := exec.Command(filepath.Join(vm.Root(t), "bootstrap", "debian-root.sh")).CombinedOutput(); err != nil {
		t.Fatalf("make a Debian root: %v\n%s", err, out)
	}
	dir := filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	tar := filepath.Join(vm.Root(t), "out", "cache", "debian-root", "root.tar")
	if out, err := exec.Command("tar", "-x", "-p", "--numeric-owner", "-f", tar, "-C", dir, "--exclude=./dev/*", "--exclude=./var/cache/apt/*").CombinedOutput(); err != nil {
		t.Fatalf("unpack %s: %v\n%s", tar, err, out)
	}
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if to, ok := strings.CutPrefix(text, "-> "); ok {
			if err := os.Symlink(to, file); err != nil {
				t.Fatal(err)
			}
			continue
		}
		mode := os.FileMode(0o644)
		if strings.Contains(name, "/bin/") {
			mode = 0o755
		}
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// handedOver is what the test's Debian has beside its packages: the test's
// hands, which come up after multi-user.target, networkd, which would like the
// link for itself, and a second volume in fstab.
func handedOver(t *testing.T) map[string]string {
	hands := vm.Program(t, "./qemu-tests/guest/hands")
	return map[string]string{
		"usr/bin/hands":  string(hands),
		"etc/machine-id": "0123456789abcdef0123456789abcdef\n", // else systemd asks its first questions
		"etc/hostname":   "handed-over\n",
		"etc/fstab":      "/dev/mapper/root / ext4 defaults 0 1\n/dev/mapper/data /srv/data ext4 defaults 0 0\n",
		"etc/systemd/system/hands.service": "[Unit]\nDescription=the test's hands\nAfter=multi-user.target\n" +
			"[Service]\nExecStart=/usr/bin/hands\n",
		"etc/systemd/system/multi-user.target.wants/hands.service":            "-> ../hands.service",
		"etc/systemd/system/multi-user.target.wants/systemd-networkd.service": "-> /lib/systemd/system/systemd-networkd.service",
		"etc/systemd/network/80-all.network":                                  "[Match]\nName=e*\n[Network]\nDHCP=yes\n",
	}
}

// The machine is handed over to a Debian whose root is on LUKS, with the key
// from a KMIP server and the address from DHCP. Its systemd reaches
// multi-user.target, with a second volume from fstab (which it takes only from
// a device that udev says is ready). The report goes on; the orchestrator
// lives on as generation 2 and renews the lease; killed, it is followed by its
// systemd unit's. A watchdog that cannot be stopped does not bite. The memory
// of the machine holds nothing of the client key. The identity has gone with
// the initramfs: a volume whose disk comes now is opened with one that is put on
// the state disk, which came along, and another by hand.
func TestTheMachineIsHandedOverToADebianOnLUKS(t *testing.T) {
	s := room.New(t, room.KMSAV4, room.KMSBV4)
	s.Appliance = rootOnLUKS
	s.Peer.DHCP = []dhcp.Config{{
		Link: room.PeerMAC, Server: netip.MustParseAddr(room.KMSAV4), Prefix: netip.MustParsePrefix("192.0.2.0/24"),
		First: netip.MustParseAddr("192.0.2.100"), Count: 4, Lease: 60,
	}}
	root := vm.NewDisk(t, "root", 320*vm.MiB, vm.LUKS{Keys: [][]byte{s.Key("root")}, Content: vm.Ext4{Label: "root", Dir: debianRoot(t, handedOver(t))}})
	data := vm.NewDisk(t, "data", 64*vm.MiB, vm.LUKS{Keys: [][]byte{s.Key("data")}, Content: vm.Ext4{Label: "data"}})
	later := vm.NewDisk(t, "later", 32*vm.MiB, vm.LUKS{Keys: [][]byte{s.Key("later")}})
	asked := vm.NewDisk(t, "asked", 32*vm.MiB, vm.LUKS{Keys: [][]byte{[]byte("open sesame")}})
	state := vm.NewDisk(t, "state", 16*vm.MiB, vm.Ext4{Label: "initd-state"})
	peer := s.StartPeer()
	m := vm.New(t, vm.Name("store"), vm.Memory(1024), vm.Watchdog()).
		Initramfs(s.Image(), s.Overlay()).Disk(root, data, state).Wire(s.Wire, room.StoreMAC).
		Append("initd.events=/dev/ttyS1", "init_on_free=1", "i6300esb.nowayout=1").Start()

	m.WaitEvent("the link is up", room.Unit("net/room", "done"), vm.Guard)
	m.Pause()
	for name, n := range copiesOfClientKey(t, s, m) {
		if n == 0 && name == "as PEM" { // the file itself: what is found now must be gone later
			t.Error("the search does not find the client's key while the initramfs has it")
		}
	}
	m.Continue()
	m.WaitEvent("the root is mounted", room.Unit("mount/", "done"), vm.Guard)
	m.WaitEvent("the root can take over", room.Unit("root", "done"), vm.Guard)
	// Two disks are not there: nobody waits for them until the budget is over.
	m.WaitEvent("ready without the missing disks", vm.Is("ready"), vm.Guard)
	for _, id := range []string{"luks/later", "luks/asked"} {
		why := "still waiting for id/virtio-" + strings.TrimPrefix(id, "luks/") + ": no device answers; all else is done"
		if e := last(room.Told(t, m), id); e.State != breport.Degraded || !strings.HasPrefix(e.Reason, why) {
			t.Errorf("%s is %q (%q), want degraded: %s...", id, e.State, e.Reason, why)
		}
	}
	second := m.WaitEvent("the orchestrator lives on", vm.Is("generation", "gen", "2"), vm.Guard)
	if why := second.Field("reason"); why != "the machine was handed over to /sbin/init" {
		t.Errorf("the second orchestrator is there because %q", why)
	}
	for _, id := range []string{"luks/root", "luks/data", "mount/", "root", "net/room"} {
		m.WaitEventAfter(second, id+" is adopted", room.Unit(id, "adopted"), vm.Guard)
	}

	m.WaitEventAfter(second, "multi-user.target is reached", vm.Is("hands-ready"), vm.Guard)
	run := func(command, args string) string { return room.Hand(t, m, "run", command, args).Field("text") }
	if got := run("/usr/bin/systemctl", "is-active multi-user.target initd.service dev-mapper-root.device dev-mapper-data.device srv-data.mount"); got != strings.Repeat("active\n", 5) {
		t.Errorf("systemd says:\n%s%s", got, run("/usr/bin/systemctl", "--no-pager --failed"))
	}
	if got := room.Hand(t, m, "read", "/proc/1/comm", "").Field("text"); got != "systemd\n" {
		t.Errorf("PID 1 is %q", got)
	}
	const initd = "/run/initd/bin/initd"
	status := run(initd, "status")
	for _, want := range []string{"store is ready", "orchestrator 2", "the business of /sbin/init in this root"} {
		if !strings.Contains(status, want) {
			t.Errorf("initd status lacks %q:\n%s", want, status)
		}
	}
	if n := s.Gets(""); n != 3 {
		t.Errorf("the key servers gave %d keys out, want 3", n)
	}

	// Killed, it is followed by the one that waits beside it.
	room.Hand(t, m, "kill", second.Field("pid"), "")
	third := m.WaitEventAfter(second, "its systemd unit's orchestrator", vm.Is("generation", "gen", "3"), vm.Guard)
	m.WaitEventAfter(third, "the root is adopted again", room.Unit("root", "adopted"), vm.Guard)
	if got := run(initd, "status"); !strings.Contains(got, "orchestrator 3") {
		t.Errorf("initd status lacks the third orchestrator:\n%s", got)
	}
	// That one is the unit's own: systemd starts another when it dies too.
	room.Hand(t, m, "kill", third.Field("pid"), "")
	fourth := m.WaitEventAfter(third, "the unit is started again", vm.Is("generation", "gen", "4"), vm.Guard)
	m.WaitEventAfter(fourth, "the link is adopted again", room.Unit("net/room", "adopted"), vm.Guard)

	// The lease is renewed, by requests of the same client for its own address,
	// and later than the watchdog would have reset the machine.
	events := peer.Events()
	last := events[len(events)-1]
	for range 2 {
		last = peer.WaitEventAfter(last, "a renewal", vm.Is("dhcp", "op", "ack", "mac", room.StoreMAC, "address", "192.0.2.100"), vm.Guard)
	}
	if got := room.Hand(t, m, "read", "/sys/class/watchdog/watchdog0/state", "").Field("text"); got != "active\n" {
		t.Errorf("the watchdog that cannot be stopped is %q", got)
	}
	if got := room.Hand(t, m, "read", "/sys/kernel/rcu_expedited", "").Field("text"); got != "0\n" {
		t.Errorf("the kernel's grace periods are still hurried: %q", got)
	}
	// Two links, lo and eth0; networkd would have taken eth0 by its own file.
	if got := run("/usr/bin/grep", "-rhE ^ADMIN_STATE= /run/systemd/netif/links"); got != "ADMIN_STATE=unmanaged\nADMIN_STATE=unmanaged\n" {
		t.Errorf("networkd's links:\n%s", got)
	}
	comesLater(t, s, m, later, asked)
	for name, n := range copiesOfClientKey(t, s, m) {
		if n > 0 {
			t.Errorf("%d copies of the client's key (%s) are left in the machine's memory", n, name)
		}
	}
}

// comesLater plugs in the disks of two volumes after the hand-over: one whose
// key a key server has, and one that people open.
func comesLater(t *testing.T, s *room.Room, m *vm.VM, later, asked *vm.Disk) {
	t.Helper()
	const initd, identity = "/run/initd/bin/initd", "/run/initd/state/pki"
	refused := m.WaitEvent("without an identity there is no key", func(e vm.Event) bool {
		return (room.Unit("key/later", "degraded")(e) || room.Unit("key/later", "failed")(e)) && e.Field("gen") > "1"
	}, vm.Guard)
	client, err := s.CA.Client(pki.Options{}, "store")
	if err != nil {
		t.Fatal(err)
	}
	room.Hand(t, m, "mkdir", identity, "")
	for name, text := range map[string][]byte{"ca.pem": s.CA.PEM, "store.pem": client.Cert, "store.key": client.Key} {
		room.Hand(t, m, "write", string(text), identity+"/"+name)
		room.Hand(t, m, "run", "/usr/bin/chmod", "600 "+identity+"/"+name)
	}
	m.AddDisk(later)
	if r := room.Hand(t, m, "run", initd, "retry key/later"); r.Field("status") != "0" {
		t.Errorf("initd retry key/later: %s", r.Line)
	}
	m.WaitEventAfter(refused, "the late volume is open", room.Unit("luks/later", "done"), vm.Guard)
	m.AddDisk(asked)
	m.WaitEventAfter(refused, "it asks", vm.Is("attempt", "unit", "luks/asked", "op", "apply"), vm.Guard)
	room.Hand(t, m, "unlock", "asked", "open sesame")
	m.WaitEventAfter(refused, "the volume that people open is open", room.Unit("luks/asked", "done"), vm.Guard)
}

// copiesOfClientKey counts in the machine's whole memory the private key that
// the initramfs holds, as its file has it and as programs hold it.
func copiesOfClientKey(t *testing.T, s *room.Room, m *vm.VM) map[string]int {
	t.Helper()
	file := s.Identity["pki/store.key"]
	block, _ := pem.Decode(file)
	if block == nil {
		t.Fatal("the client's key is no PEM")
	}
	// The first bytes of PKCS #8 are the same for every key of its kind.
	lines := strings.Split(strings.TrimSpace(string(file)), "\n")
	needles := map[string][]byte{"as DER": block.Bytes[36:68], "as PEM": []byte(lines[2])}
	dump := m.Artefact("memory")
	m.QMP("pmemsave", map[string]any{"val": 0, "size": 1024 << 20, "filename": dump})
	defer os.Remove(dump)
	b, err := os.ReadFile(dump)
	if err != nil {
		t.Fatal(err)
	}
	copies := map[string]int{}
	for name, needle := range needles {
		copies[name] = bytes.Count(b, needle)
	}
	return copies
}
