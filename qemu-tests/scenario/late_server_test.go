package scenario

import (
	"net/netip"
	"testing"
	"time"

	breport "initd/boot/report"
	"initd/qemu-tests/peer/config"
	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

// oneVolume is an appliance with one volume and the servers that have its key.
const oneVolume = `apiVersion: initd/v1
name: store
budgets: {boot: 3m, shutdown: 30s}
network:
  links:
    - {name: room, match: {mac: "` + room.StoreMAC + `"}, addresses: [` + room.StoreV4 + `]}
keys:
  tls: {ca: pki/ca.pem, cert: pki/store.pem, key: pki/store.key}
  servers:
SERVERS
media:
  luks:
    - {name: tank0, device: id/virtio-tank0, key: kmip}
mounts:
  - {what: luks/tank0, where: /srv/tank0, type: ext4}
`

// oneVolumeDisk is its disk.
func oneVolumeDisk(s *room.Room) *vm.Disk {
	return vm.NewDisk(s.T, "tank0", 48*vm.MiB, vm.LUKS{Keys: [][]byte{s.Key("tank0")}, Content: vm.Ext4{Label: "tank0"}})
}

// lateness is by how much the key server is late, by the appliance's clock
// and counted from the first time that it was dialled.
const lateness = 20 * time.Second

// The key server comes 20 s late.
//
//   - Its machine is not there at first: dials get no answer at all. Each is
//     given up after a second and begun anew, and the console and the events say
//     which server does not answer.
//   - After half of the time the machine is there, its server is not: the reason becomes
//     'connection refused'.
//   - After 20 s the server listens. The next attempt connects, the volume opens,
//     and the boot ends as if nothing had been.
//
// In all that time the fetch is one attempt of one unit, which never rests for long.
func TestTheKeyServerComesLate(t *testing.T) {
	const key = "key/tank0"
	s := room.New(t, room.KMSAV4, room.KMSBV4)
	s.Peer.KeyServers = s.Peer.KeyServers[:1]
	s.Appliance = replace(oneVolume, "SERVERS", `    - {name: kms-a, address: "`+room.KMSAV4+`:5696"}`)
	disk := oneVolumeDisk(s)
	peer := s.StartPeer()
	peer.Tell(config.Command{Do: "stop", Server: "kms-a"})
	peer.WaitEvent("the key server is stopped", vm.Is("done", "do", "stop", "error", ""), vm.Guard)
	away := s.Wire.Drop(vm.ToAddr(netip.MustParseAddr(room.KMSAV4)))

	store := s.NewStore(disk).Start()
	first := room.Decode(t, store.WaitEvent("the first dial", says(key, `^dialled kms-a$`), vm.Guard))
	store.WaitEvent("the silence is told", says(key, `^kms-a .*no answer to the dial within 1s`), vm.Guard)
	store.Console().WaitFor(key+`.* kms-a .*no answer`, vm.Guard)
	store.WaitEvent("half of the time is over", saysFrom(key, `^dialled kms-a$`, first.At+lateness/2), vm.Guard)
	away.End()

	store.WaitEvent("the refusal is told", says(key, `^kms-a .*connection refused`), vm.Guard)
	store.Console().WaitFor(key+`.* kms-a .*connection refused`, vm.Guard)
	store.WaitEvent("the time is over", saysFrom(key, `^dialled kms-a$`, first.At+lateness), vm.Guard)
	peer.Tell(config.Command{Do: "start", Server: "kms-a"})

	store.WaitEvent("the key is there", room.Unit(key, "done"), vm.Guard)
	store.WaitEvent("the volume is mounted", room.Unit("mount/srv/tank0", "done"), vm.Guard)
	store.WaitEvent("ready", vm.Is("ready"), vm.Guard)

	events := room.Told(t, store)
	wantSteadyDials(t, events, key)
	order(t, events, key, "luks/tank0", "mount/srv/tank0")
	if n := attempts(events, key); n != 1 {
		t.Errorf("the fetch took %d attempts, want one that stays at it", n)
	}
	for _, e := range events {
		if e.Kind == breport.UnitChanged && (e.State == breport.Degraded || e.State == breport.Failed) {
			t.Errorf("%s became %s: %s", e.Unit, e.State, e.Reason)
		}
	}
	if n := s.Gets("store/tank0"); n != 1 {
		t.Errorf("the key server gave the key out %d times, want 1", n)
	}
}

// saysFrom is says, not before a time of the guest's clock.
func saysFrom(id, pattern string, from time.Duration) func(vm.Event) bool {
	match := says(id, pattern)
	return func(e vm.Event) bool {
		var x breport.Event
		return match(e) && e.Decode(&x) == nil && x.At >= from
	}
}

// wantSteadyDials checks the pace of the first minute: a dial is given up
// after 1 s, and the pause before the next one is 1 s at most. A dial left to the
// kernel repeats its SYN after 1, 3 and 7 s, and an uncapped pause doubles: either
// leaves gaps of 4 s and more, and half as many dials.
func wantSteadyDials(t *testing.T, events []breport.Event, id string) {
	t.Helper()
	const longest, fewest = 3500 * time.Millisecond, 10
	n, last := 0, time.Duration(0)
	for _, e := range events {
		if e.Kind != breport.Progressed || e.Unit != id || e.Text != "dialled kms-a" {
			continue
		}
		if gap := e.At - last; n > 0 && gap > longest {
			t.Errorf("between two dials lie %v, want at most 1 s for the dial and 1 s for the pause", gap)
		}
		n, last = n+1, e.At
	}
	t.Logf("%d dials", n)
	if n < fewest {
		t.Errorf("it was dialled %d times, want %d at least", n, fewest)
	}
}
