package scenario

import (
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"initd/qemu-tests/acpi"
	"initd/qemu-tests/peer/lio"
	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

// The root of a Debian is an iSCSI disk that only the firmware's table (iBFT) knows of: address, target, the machine's name, and the
// secrets of CHAP both ways.
//
//   - The link of the table is set up, the target logged in to, its file system is the root, and the machine is handed over to it. The
//     orchestrator that lives on adopts the session.
//   - With nothing of the root cached, and under write load, the target's machine is paused until its silence is noticed; the orchestrator is
//     killed then, and its successor recovers the session when the target goes on, with the secrets of the table. Everything that was
//     acknowledged is there, and the link of the root never went down.
//   - A reboot, and a power-off of the next boot, by the root's own systemd leave a clean file system.
func TestRootOnISCSIFromTheFirmware(t *testing.T) {
	const own, reverse = "a secret of the store's", "a secret of the target's"
	s := newISCSIRoom(t)
	s.Appliance = "apiVersion: initd/v1\nname: store\nbudgets: {boot: 3m, shutdown: 30s}\nfirmware: use\nmounts:\n  - {what: label/ibft-root, where: /, type: ext4}\n"
	files := handedOver(t)
	files["etc/fstab"] = "LABEL=ibft-root / ext4 defaults 0 1\n"
	delete(files, "etc/systemd/system/multi-user.target.wants/systemd-networkd.service") // what it does to links, the other hand-over tells
	root := vm.NewDisk(t, "root", 320*vm.MiB, vm.Ext4{Label: "ibft-root", Dir: debianRoot(t, files)})
	s.targets.Targets = []lio.Target{{
		IQN: iqn("root"), Portals: []string{targetA + ":3260"}, LUNs: []lio.LUN{{Number: 1, Device: "/dev/vda"}},
		Initiators: []lio.Initiator{{Name: initiator, Auth: &lio.Auth{User: "store", Password: own, MutualUser: "target", MutualPassword: reverse}}},
	}}
	table, err := acpi.Write(t.TempDir(), "ibft", acpi.IBFT{
		Initiator: initiator,
		NICs:      []acpi.IBFTNIC{{MAC: room.StoreMAC, Address: netip.MustParsePrefix(room.StoreV4)}},
		Targets: []acpi.IBFTTarget{{Portal: netip.MustParseAddrPort(targetA + ":3260"), Name: iqn("root"), LUN: 1,
			User: "store", Secret: own, Reverse: "target", RSecret: reverse}},
	}.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	peer := s.startTargets(root)
	m := vm.New(t, vm.Name("store"), vm.Memory(1024), vm.QEMU("-acpitable", table)).Initramfs(s.Image()).
		Wire(s.Wire, room.StoreMAC).Append("initd.events=/dev/ttyS1").Start()
	second := adoptsISCSIRoot(t, m)
	m.WaitEventAfter(second, "the root's services run", vm.Is("hands-ready"), vm.Guard)
	outlivesItsTarget(t, m, peer, second)
	m.Tell(map[string]string{"do": "run", "from": "/usr/bin/systemctl", "to": "reboot"})
	cleanEnd(t, m, root, "guest-reset")

	again := m.Again().Append("systemd.unit=poweroff.target").Start() // as soon as it is there
	onISCSIRoot(t, again)
	cleanEnd(t, again, root, "guest-shutdown")
	for _, e := range append(m.Events(), again.Events()...) {
		if strings.Contains(string(e.Line), own) || strings.Contains(string(e.Line), reverse) {
			t.Errorf("a secret stands in the events: %s", e.Line)
		}
	}
}

// ibftPath is the unit of the session that the iBFT asks for.
const ibftPath = "iscsi-path/ibft-0/" + targetA + ":3260"

// onISCSIRoot follows a boot until the root takes over.
func onISCSIRoot(t *testing.T, m *vm.VM) vm.Event {
	t.Helper()
	m.WaitEvent("the table's link is up", room.Unit("net/ibft-0", "done"), vm.Guard)
	m.WaitEvent("it is logged in", room.Unit(ibftPath, "done"), vm.Guard)
	m.WaitEvent("its disk is there", room.Unit("iscsi/ibft-0", "done"), vm.Guard)
	m.WaitEvent("the root is mounted", room.Unit("mount/", "done"), vm.Guard)
	return m.WaitEvent("the orchestrator lives on", vm.Is("generation", "gen", "2"), vm.Guard)
}

// adoptsISCSIRoot is onISCSIRoot, until the orchestrator that lives on has adopted everything.
func adoptsISCSIRoot(t *testing.T, m *vm.VM) vm.Event {
	t.Helper()
	second := onISCSIRoot(t, m)
	for _, id := range []string{"net/ibft-0", ibftPath, "iscsi/ibft-0", "mount/", "root"} {
		m.WaitEventAfter(second, id+" is adopted", room.Unit(id, "adopted"), vm.Guard)
	}
	return second
}

// outlivesItsTarget: what the root stands on goes away, and comes back.
func outlivesItsTarget(t *testing.T, m, peer *vm.VM, second vm.Event) {
	t.Helper()
	const carrier = "/sys/class/net/eth0/carrier_down_count"
	was := room.Hand(t, m, "read", carrier, "").Field("text")
	room.Hand(t, m, "load", "/var/load", "4096")
	room.Hand(t, m, "load-more", "", "20")
	room.Hand(t, m, "write", "3", "/proc/sys/vm/drop_caches")

	peer.Pause()
	m.WaitEventAfter(second, "the loss is told", noticed(ibftPath+": lost"), vm.Guard)
	room.Hand(t, m, "kill", second.Field("pid"), "")
	third := m.WaitEventAfter(second, "its systemd unit's orchestrator", vm.Is("generation", "gen", "3"), vm.Guard)
	m.WaitEventAfter(third, "it adopts the session", room.Unit(ibftPath, "adopted"), vm.Guard)
	last := m.WaitEventAfter(third, "it knows that it is lost", noticed(ibftPath+": lost"), vm.Guard)
	peer.Continue()
	m.WaitEventAfter(last, "the successor recovers it", noticed(ibftPath+": back"), vm.Guard)
	room.Hand(t, m, "load-more", "", "20")
	t.Logf("load: %s", room.Hand(t, m, "load-stop", "", "").Line)

	if now := room.Hand(t, m, "read", carrier, "").Field("text"); now != was {
		t.Errorf("the link of the root went down: carrier_down_count was %q, is %q", was, now)
	}
}

// cleanEnd waits until the machine ends by itself, and looks at what it left on its root.
func cleanEnd(t *testing.T, m *vm.VM, root *vm.Disk, reason string) {
	t.Helper()
	if exit := m.Exited(vm.Guard); exit.Reason != reason || exit.Panic != "" {
		t.Errorf("the machine ended with %v, want %s", exit, reason)
	}
	for _, line := range m.Console().Lines() {
		if strings.Contains(line, "I/O error") || strings.Contains(line, "EXT4-fs error") {
			t.Errorf("the console says: %s", line)
		}
	}
	// With -n of a journal that would have to be replayed there is a warning alone.
	out, err := exec.Command("e2fsck", "-f", "-n", root.Path).CombinedOutput()
	if err != nil || strings.Contains(string(out), "journal") {
		t.Errorf("the root was not left clean (%v):\n%s", err, out)
	}
}
