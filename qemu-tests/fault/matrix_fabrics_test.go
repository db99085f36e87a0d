package fault

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"initd/qemu-tests/peer/config"
	"initd/qemu-tests/peer/lio"
	"initd/qemu-tests/peer/network"
	"initd/qemu-tests/peer/nvmet"
	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

// fabricRoom is the machine with bad links and targets: each fault has a link, a target or a subsystem of its own.
type fabricRoom struct {
	*room.Room
	lacp *vm.Wire // between a bond of the store and one of the peer

	targets lio.Config
	nvme    nvmet.Config
	// text of the file, by section
	links, iscsi, subsystems, mounts string

	mend map[string]func(t *testing.T, m *vm.VM) // what an operator mends before the command helps
	keys map[string]string                       // what is typed, by the key's name
}

const (
	targetsV4 = "192.0.2.50" // where targets and subsystems are
	droppedV4 = "192.0.2.52" // the same, and every packet to it is lost
	beyondV4  = "203.0.113.50"
)

// dropUntil loses frames until the fault is mended.
func (r *fabricRoom) dropUntil(id string, w *vm.Wire, match func(vm.Frame) bool) {
	rule := w.Drop(match)
	r.mend[id] = func(*testing.T, *vm.VM) { rule.End() }
}

// byHand mends a fault on the store, by its hands.
func (r *fabricRoom) byHand(id, do, from, to string) {
	r.mend[id] = func(t *testing.T, m *vm.VM) { room.Hand(t, m, do, from, to) }
}

// iscsiMends and nvmeMends mend a fault at the target, by changes in this order.
func (r *fabricRoom) iscsiMends(id string, changes ...lio.Change) {
	r.mend[id] = func(*testing.T, *vm.VM) {
		for _, c := range changes {
			r.Change(config.Command{Do: "lio", LIO: &c})
		}
	}
}

func (r *fabricRoom) nvmeMends(id string, c nvmet.Change) {
	r.mend[id] = func(*testing.T, *vm.VM) { r.Change(config.Command{Do: "nvmet", NVMet: &c}) }
}

func fabricFaults() map[string]func(r *fabricRoom) {
	all := linkFaults()
	maps.Copy(all, iscsiFaults())
	maps.Copy(all, nvmeFaults())
	return all
}

func fabricFaultIDs() []string { return slices.Sorted(maps.Keys(fabricFaults())) }

// newFabricRoom is a room with all of the faults.
func newFabricRoom(t *testing.T) *fabricRoom {
	t.Helper()
	r := &fabricRoom{Room: room.New(t, targetsV4, droppedV4), lacp: vm.NewWire(t, "lacp"), mend: map[string]func(*testing.T, *vm.VM){}, keys: map[string]string{}}
	r.Peer.KeyServers = nil
	r.Peer.Links = append(r.Peer.Links, network.Link{MAC: peerBondMAC, Bond: "lacp"})
	r.nvme.Ports = nvmePorts()
	faults := fabricFaults()
	for _, id := range fabricFaultIDs() {
		faults[id](r)
	}
	r.iscsiTarget("good", lio.Target{})
	r.login("good", targetsV4, "")
	r.nvmeSubsystem("good", nvmet.Subsystem{}, 1)
	r.connect("good", `paths: ["tcp://`+targetsV4+`:4420"]`+kernelDeadline)
	r.secrets()
	r.Peer.LIO, r.Peer.NVMet = &r.targets, &r.nvme

	file := `apiVersion: initd/v1
name: store
budgets: {boot: 3m, shutdown: 60s}
network:
  links:
    - {name: room, match: {mac: "` + room.StoreMAC + `"}, addresses: [` + room.StoreV4 + `]}
` + r.links + `  routes: [{to: 10.9.0.0/16, link: lacp-alone}]
fabrics:
  iscsi:
` + r.iscsi + `  nvme:
` + r.subsystems + `mounts:
` + r.mounts + `services:
` + room.HandsService + `image:
  modules: [dummy]
  files: [{from: open.chap, to: /etc/open.chap, mode: "0644"}, {from: hands, to: /usr/bin/hands, mode: "0755"}]
`
	r.AddHands()
	r.Appliance = file
	return r
}

// A machine whose links, portals, targets and subsystems are all wrong, each in another way. The screen names each fault and
// gives the command that helps; somebody mends what has to be mended outside of the machine, types the command, and
// the unit heals, or is left out. One target and one subsystem are well, and wait for nobody.
func TestFaultsOfLinksAndFabrics(t *testing.T) {
	r := newFabricRoom(t)
	r.startTargets()
	m := r.NewStore().Wire(r.lacp, storeBondMAC).With(cards()...).Append("quiet", "loglevel=1").Start()
	m.QMP("set_link", map[string]any{"name": "pulled", "up": false})
	m.WaitEvent("the hands are there", room.Unit("service/hands", "done"), vm.Guard)
	for _, unit := range []string{"iscsi/good", "nvme/good"} {
		m.WaitEvent(unit+" is up", func(e vm.Event) bool { return room.Unit(unit, "done")(e) || room.Unit(unit, "adopted")(e) }, vm.Guard)
	}
	rows := matrix(t, fabricFaultIDs())
	for _, f := range rows {
		m.WaitEvent(f.id+" shows", f.shows, vm.Guard)
	}
	m.WaitEvent("a bond whose switch is silent is used all the same", room.Unit("route/10.9.0.0/16", "done"), vm.Guard)
	score(t, m, rows, heals(m, r.mend, r.keys))
	m.CtrlAltDel()
	m.Exited(vm.Guard)
	room.NothingLeft(t, m)
}

// startTargets boots the machine with the targets.
func (r *fabricRoom) startTargets() {
	r.T.Helper()
	content, err := os.ReadFile(vm.NewDisk(r.T, "content", 6*vm.MiB, vm.Ext4{}).Path)
	if err != nil {
		r.T.Fatal(err)
	}
	path := filepath.Join(r.T.TempDir(), "ext4.img")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		r.T.Fatal(err)
	}
	image := vm.NewImage(r.T).GoProgram("/init", "./qemu-tests/peer").
		Modules("virtio_net", "target_core_mod", "target_core_file", "iscsi_target_mod", "nvmet-tcp", "8021q", "bonding").
		JSON(config.Path, r.Peer).File("/ext4.img", path, 0o600).Write("targets")
	r.PeerVM = vm.New(r.T, vm.Name("targets"), vm.Memory(512), vm.CPUs(1), speed()).Initramfs(image).Wire(r.Wire, room.PeerMAC).Wire(r.lacp, peerBondMAC).Start()
	r.PeerVM.WaitEvent("the targets listen", vm.Is("ready"), vm.Guard)
}
