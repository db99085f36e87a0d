package scenario

import (
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"

	"initd/qemu-tests/vm"
)

// machineState is what must not differ after an orchestrator's death.
type machineState struct {
	Tables  []string `json:"tables"`
	Mounts  []string `json:"mounts"`
	Redis   int      `json:"redis"`
	Started string   `json:"started"`
}

func stateOf(t *testing.T, m *vm.VM) machineState {
	t.Helper()
	var st machineState
	if err := hand(t, m, "state", "", "").Decode(&st); err != nil {
		t.Fatal(err)
	}
	return st
}

// The orchestrator is killed while a volume is being derived (argon2id takes its
// time) and one unit waits for a device that never comes; later once more,
// while redis runs. init starts another,
// which adopts what is there. In the end the dm tables and mounts are those of
// an undisturbed boot, redis is the same process, and the key servers have
// given each key out once.
func TestTheOrchestratorIsKilled(t *testing.T) {
	build := func(name string) *site {
		s := wellSite(t, kmsAV4, kmsBV4, storeV4, name)
		withHands(s)
		// A volume whose derivation takes long, and one whose key no server has.
		s.appliance = replace(s.appliance,
			"    - {name: tank1, device: id/virtio-tank1, key: kmip}\n",
			"    - {name: tank1, device: id/virtio-tank1, key: kmip}\n    - {name: never, device: partlabel/never, key: prompt}\n",
			"after: [mount/srv/tank0, mount/srv/tank1, mount/srv/tank2]", "after: []")
		return s
	}
	calm := build("calm")
	calmDisks := wellDisks(calm)
	calm.startPeer()
	m := calm.newStore(calmDisks...).Start()
	m.WaitEvent("tank3 is mounted", unit("mount/srv/tank3", "done"), vm.Guard)
	m.WaitEvent("tank1 is mounted", unit("mount/srv/tank1", "done"), vm.Guard)
	m.WaitEvent("redis is ready", unit("service/redis", "done"), vm.Guard)
	want := stateOf(t, m)
	wantGets := calm.gets("")
	m.Kill()
	calm.peerVM.Kill()

	s := build("killed")
	disks := wellDisks(s)
	s.startPeer()
	m = s.newStore(disks...).Start()
	// The children that derive keys have begun; tank1's argon2id is under way.
	m.WaitEvent("the hands are there", unit("service/hands", "done"), vm.Guard)
	m.WaitEvent("tank1 is being opened", vm.Is("attempt", "unit", "luks/tank1", "op", "apply"), vm.Guard)
	killed := hand(t, m, "kill-orchestrator", "", "")
	next := m.WaitEventAfter(killed, "another orchestrator", vm.Is("generation", "gen", "2"), vm.Guard)
	for _, id := range []string{"mount/srv/tank0", "mount/srv/tank1", "mount/srv/tank2", "mount/srv/tank3"} {
		m.WaitEventAfter(next, id+" is up", func(e vm.Event) bool { return unit(id, "done")(e) || unit(id, "adopted")(e) }, vm.Guard)
	}
	m.WaitEventAfter(next, "redis is ready", func(e vm.Event) bool {
		return unit("service/redis", "done")(e) || unit("service/redis", "adopted")(e)
	}, vm.Guard)
	before := stateOf(t, m)
	if diff := cmp.Diff(want.Tables, before.Tables, cmp.Comparer(sameTable)); diff != "" {
		t.Errorf("dm tables (-undisturbed +killed):\n%s", diff)
	}
	if diff := cmp.Diff(want.Mounts, before.Mounts); diff != "" {
		t.Errorf("mounts (-undisturbed +killed):\n%s", diff)
	}
	if got := s.gets(""); got != wantGets {
		t.Errorf("the key servers gave out %d keys, %d in an undisturbed boot", got, wantGets)
	}

	// Once more, with redis running: it lives on.
	killed = hand(t, m, "kill-orchestrator", "", "")
	next = m.WaitEventAfter(killed, "a third orchestrator", vm.Is("generation", "gen", "3"), vm.Guard)
	m.WaitEventAfter(next, "redis is adopted", unit("service/redis", "adopted"), vm.Guard)
	m.WaitEventAfter(next, "tank1 is adopted", unit("luks/tank1", "adopted"), vm.Guard)
	after := stateOf(t, m)
	if after.Redis != before.Redis || after.Started != before.Started || after.Redis == 0 {
		t.Errorf("redis was pid %d (started %s) and is pid %d (started %s)", before.Redis, before.Started, after.Redis, after.Started)
	}
	if got := s.gets(""); got != wantGets {
		t.Errorf("after the second kill the key servers have given out %d keys, want %d", got, wantGets)
	}
	m.CtrlAltDel()
	m.Exited(vm.Guard)
	nothingLeft(t, m)
}

// sameTable compares tables without what differs by chance: the nonce in the
// description of the key, which is made anew each time, and device numbers.
func sameTable(a, b string) bool { return normal(a) == normal(b) }

var keyName = regexp.MustCompile(`:logon:\S+`)

func normal(table string) string { return keyName.ReplaceAllString(table, ":logon:KEY") }
