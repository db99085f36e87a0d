package scenario

import (
	"strings"
	"testing"

	breport "initd/boot/report"
	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

// withHands adds the hands to the appliance of the first scenario.
func withHands(s *room.Room) {
	service := room.HandsService + "    after: [mount/srv/tank0, mount/srv/tank1, mount/srv/tank2]\n"
	s.Appliance = strings.Replace(s.Appliance, "image:\n", service+"image:\n  modules: [loop]\n", 1)
	s.AddHands()
}

// noSecretIn searches the memory of init and of the orchestrator for every key
// of the run.
func noSecretIn(t *testing.T, s *room.Room, m *vm.VM) {
	t.Helper()
	var r struct {
		Read   int      `json:"read"`
		Proved bool     `json:"proved"`
		Found  []string `json:"found"`
	}
	if err := room.Hand(t, m, "search", strings.Join(s.Secrets, ","), "").Decode(&r); err != nil {
		t.Fatal(err)
	}
	if !r.Proved || r.Read < 1<<20 {
		t.Errorf("the search cannot find: %+v", r)
	}
	for _, f := range r.Found {
		t.Error(f)
	}
}

// By hand on the running machine: a bind mount, a loop device on a file of a
// volume, a linear device on top of another volume, and a process that keeps a
// mount busy and ignores SIGTERM. The way down takes them all, holders first,
// names the process, and ends within its budget.
func TestWhatWasSetUpByHandGoesDownToo(t *testing.T) {
	s := wellSite(t, room.KMSAV4, room.KMSBV4, room.StoreV4)
	withHands(s)
	s.Appliance = replace(s.Appliance, "  - {what: luks/tank3, where: /srv/tank3, type: ext4}\n", "")
	disks := wellDisks(s)
	s.StartPeer()
	store := s.NewStore(disks...).Start()
	store.WaitEvent("ready", vm.Is("ready"), vm.Guard)
	store.WaitEvent("the hands are there", room.Unit("service/hands", "done"), vm.Guard)

	noSecretIn(t, s, store)
	room.Hand(t, store, "bind", "/srv/tank0", "/mnt/bound")
	loop := room.Hand(t, store, "loop", "/srv/tank1/file", "").Field("device")
	room.Hand(t, store, "linear", "/dev/mapper/tank3", "top")
	room.Hand(t, store, "stubborn", "/srv/tank2/busy", "")

	store.CtrlAltDel()
	store.Exited(vm.Guard)
	room.NothingLeft(t, store)
	at := map[string]int{}
	named := ""
	for i, e := range store.Events() {
		var x breport.Event
		if e.Name != "shutdown" || e.Decode(&x) != nil || x.Step == nil {
			continue
		}
		if x.Step.State == breport.Done {
			at[x.Step.Object] = i
		}
		if strings.Contains(x.Step.Object+x.Step.Reason, "exe (pid ") || strings.Contains(x.Step.Reason, "SIGTERM") {
			named += x.Step.Object + ": " + x.Step.Reason + "\n"
		}
	}
	for _, order := range [][2]string{{"/mnt/bound", "tank0"}, {"/srv/tank0", "tank0"}, {loop, "/srv/tank1"}, {"/srv/tank1", "tank1"}, {"top", "tank3"}, {"/srv/tank2", "tank2"}} {
		first, second := at[order[0]], at[order[1]]
		if first == 0 || second == 0 || first > second {
			t.Errorf("%s went at %d, %s at %d: want the first before the second (0: it did not go)", order[0], first, order[1], second)
		}
	}
	if !strings.Contains(named, "ignored SIGTERM and was killed") {
		t.Errorf("the process that kept /srv/tank2 busy is not named as one that ignored SIGTERM; said was:\n%s", named)
	}
}
