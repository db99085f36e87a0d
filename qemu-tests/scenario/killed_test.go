package scenario

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	breport "initd/boot/report"
	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

const silent = "192.0.2.23"

// busyAt tells whether Apply of a unit had begun and not ended in the last record of a generation.
func busyAt(t *testing.T, m *vm.VM, id string, gen uint64) bool {
	t.Helper()
	busy := false
	for _, e := range room.Told(t, m) {
		if e.Gen == gen && e.Unit == id && e.Op == breport.Apply {
			busy = e.Kind == breport.AttemptStarted
		}
	}
	return busy
}

// The orchestrator is killed while a volume is being derived (argon2id takes its
// time), a dial to a key server that never answers is open, and one unit waits for a
// device that never comes; later once more, while redis runs. init starts another,
// which adopts what is there. In the end the dm tables and mounts are those of
// an undisturbed boot, redis is the same process, and the key servers have
// given each key out once.
func TestTheOrchestratorIsKilled(t *testing.T) {
	build := func(name string) *room.Room {
		s := wellSite(t, room.KMSAV4, room.KMSBV4, room.StoreV4, name)
		withHands(s)
		// A server that drops all packets, and a volume that is not there and whose key only that server has.
		s.Peer.Links[0].Addresses = append(s.Peer.Links[0].Addresses, silent+"/24")
		s.Wire.Drop(vm.ToAddr(netip.MustParseAddr(silent)))
		s.Appliance = replace(s.Appliance,
			"    - {name: tank1, device: id/virtio-tank1, key: kmip}\n",
			"    - {name: tank1, device: id/virtio-tank1, key: kmip}\n    - {name: never, device: partlabel/never, key: {kmip: {name: store/never, servers: silent}}}\n",
			"media:\n", "    - {name: kms-c, address: \""+silent+":5696\", group: silent}\nmedia:\n",
			"after: [mount/srv/tank0, mount/srv/tank1, mount/srv/tank2]", "after: []")
		return s
	}
	calm := build("calm")
	calmDisks := wellDisks(calm)
	calm.StartPeer()
	m := calm.NewStore(calmDisks...).Start()
	m.WaitEvent("tank3 is mounted", room.Unit("mount/srv/tank3", "done"), vm.Guard)
	m.WaitEvent("tank1 is mounted", room.Unit("mount/srv/tank1", "done"), vm.Guard)
	m.WaitEvent("redis is ready", room.Unit("service/redis", "done"), vm.Guard)
	want := room.StateOf(t, m, "redis-server")
	wantGets := calm.Gets("")
	m.Kill()
	calm.PeerVM.Kill()

	s := build("killed")
	disks := wellDisks(s)
	s.StartPeer()
	m = s.NewStore(disks...).Start()
	// The children that derive keys have begun; tank1's argon2id is under way.
	m.WaitEvent("the hands are there", room.Unit("service/hands", "done"), vm.Guard)
	m.WaitEvent("tank1 is being opened", vm.Is("attempt", "unit", "luks/tank1", "op", "apply"), vm.Guard)
	m.WaitEvent("the silent server is dialled", says("key/never", `^dialled kms-c$`), vm.Guard)
	killed := room.Hand(t, m, "kill-orchestrator", "", "")
	next := m.WaitEventAfter(killed, "another orchestrator", vm.Is("generation", "gen", "2"), vm.Guard)
	for _, id := range []string{"mount/srv/tank0", "mount/srv/tank1", "mount/srv/tank2", "mount/srv/tank3"} {
		m.WaitEventAfter(next, id+" is up", func(e vm.Event) bool { return room.Unit(id, "done")(e) || room.Unit(id, "adopted")(e) }, vm.Guard)
	}
	m.WaitEventAfter(next, "redis is ready", func(e vm.Event) bool {
		return room.Unit("service/redis", "done")(e) || room.Unit("service/redis", "adopted")(e)
	}, vm.Guard)
	before := room.StateOf(t, m, "redis-server")
	for _, id := range []string{"luks/tank1", "key/never"} {
		if !busyAt(t, m, id, 1) {
			t.Errorf("%s was not at work when the orchestrator was killed: the kill proves less than it says", id)
		}
	}
	m.WaitEventAfter(next, "the silent server is dialled again", says("key/never", `^dialled kms-c$`), vm.Guard)
	if diff := cmp.Diff(want.Tables, before.Tables, cmp.Comparer(room.SameTable)); diff != "" {
		t.Errorf("dm tables (-undisturbed +killed):\n%s", diff)
	}
	if diff := cmp.Diff(want.Mounts, before.Mounts); diff != "" {
		t.Errorf("mounts (-undisturbed +killed):\n%s", diff)
	}
	if got := s.Gets(""); got != wantGets {
		t.Errorf("the key servers gave out %d keys, %d in an undisturbed boot", got, wantGets)
	}

	// Once more, with redis running: it lives on.
	killed = room.Hand(t, m, "kill-orchestrator", "", "")
	next = m.WaitEventAfter(killed, "a third orchestrator", vm.Is("generation", "gen", "3"), vm.Guard)
	m.WaitEventAfter(next, "redis is adopted", room.Unit("service/redis", "adopted"), vm.Guard)
	m.WaitEventAfter(next, "tank1 is adopted", room.Unit("luks/tank1", "adopted"), vm.Guard)
	after := room.StateOf(t, m, "redis-server")
	if after.PID != before.PID || after.Started != before.Started || after.PID == 0 {
		t.Errorf("redis was pid %d (started %s) and is pid %d (started %s)", before.PID, before.Started, after.PID, after.Started)
	}
	if got := s.Gets(""); got != wantGets {
		t.Errorf("after the second kill the key servers have given out %d keys, want %d", got, wantGets)
	}
	m.CtrlAltDel()
	m.Exited(vm.Guard)
	room.NothingLeft(t, m)
}
