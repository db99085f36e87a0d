package scenario

import (
	"os"
	"strings"
	"testing"

	breport "initd/boot/report"
	"initd/qemu-tests/vm"
)

// handsService runs the program that does by hand what a test says.
const handsService = `  - name: hands
    command: [/usr/bin/hands]
    after: [mount/srv/tank0, mount/srv/tank1, mount/srv/tank2]
    ready: {file: /run/hands.ready}
`

// withHands adds it to the appliance of the first scenario.
func withHands(s *site) {
	s.appliance = strings.Replace(s.appliance, "image:\n", handsService+"image:\n  modules: [loop]\n", 1)
	handsOnly(s)
}

// handsOnly puts the program into the image; the appliance has the service
// already, and an image section.
func handsOnly(s *site) {
	s.t.Helper()
	program, err := os.ReadFile(vm.Build(s.t, "./qemu-tests/guest/hands"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.files["hands"] = program
	s.appliance = strings.Replace(s.appliance, "image:\n", "image:\n  files: [{from: hands, to: /usr/bin/hands, mode: \"0755\"}]\n", 1)
}

// hand tells the machine's hands to do something, and waits until they have.
func hand(t *testing.T, m *vm.VM, do, from, to string) vm.Event {
	t.Helper()
	events := m.Events()
	m.Tell(map[string]string{"do": do, "from": from, "to": to})
	e := m.WaitEventAfter(events[len(events)-1], "hands: "+do, vm.Is("hands", "do", do), vm.Guard)
	if why := e.Field("error"); why != "" {
		t.Fatalf("by hand: %s %s %s: %s", do, from, to, why)
	}
	return e
}

// noSecretIn searches the memory of init and of the orchestrator for every key
// of the run.
func noSecretIn(t *testing.T, s *site, m *vm.VM) {
	t.Helper()
	var r struct {
		Read   int      `json:"read"`
		Proved bool     `json:"proved"`
		Found  []string `json:"found"`
	}
	if err := hand(t, m, "search", strings.Join(s.secrets, ","), "").Decode(&r); err != nil {
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
	s := wellSite(t, kmsAV4, kmsBV4, storeV4)
	withHands(s)
	s.appliance = replace(s.appliance, "  - {what: luks/tank3, where: /srv/tank3, type: ext4}\n", "")
	disks := wellDisks(s)
	s.startPeer()
	store := s.newStore(disks...).Start()
	store.WaitEvent("ready", vm.Is("ready"), vm.Guard)
	store.WaitEvent("the hands are there", unit("service/hands", "done"), vm.Guard)

	noSecretIn(t, s, store)
	hand(t, store, "bind", "/srv/tank0", "/mnt/bound")
	loop := hand(t, store, "loop", "/srv/tank1/file", "").Field("device")
	hand(t, store, "linear", "/dev/mapper/tank3", "top")
	hand(t, store, "stubborn", "/srv/tank2/busy", "")

	store.CtrlAltDel()
	store.Exited(vm.Guard)
	nothingLeft(t, store)
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
