package fault

import (
	stdcmp "cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"initd/boot/engine"
	breport "initd/boot/report"
	"initd/qemu-tests/guest/tracer/order"
	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

// victim is the appliance that is killed: one key server, two volumes, a file
// system on each, and a service.
const victim = `apiVersion: initd/v1
name: store
budgets: {boot: 3m, shutdown: 1m}
network:
  links:
    - {name: room, match: {mac: "` + room.StoreMAC + `"}, addresses: [` + room.StoreV4 + `]}
keys:
  tls: {ca: pki/ca.pem, cert: pki/store.pem, key: pki/store.key}
  servers:
    - {name: kms-a, address: "` + room.KMSAV4 + `:5696"}
media:
  luks:
    - {name: tank0, device: id/virtio-tank0, key: kmip}
    - {name: tank1, device: id/virtio-tank1, key: kmip}
mounts:
  - {what: luks/tank0, where: /srv/tank0, type: ext4}
  - {what: luks/tank1, where: /srv/tank1, type: ext4}
services:
` + room.HandsService + "    after: [mount/srv/tank0, mount/srv/tank1]\nimage:\n  packages: []\n"

// wanted are the units that have to be up, whatever was killed.
var wanted = [...]string{"mount/srv/tank0", "mount/srv/tank1", "service/hands"}

// scene is a room in which one machine is booted again and again, with the
// tracer in the place of its initd.
type scene struct {
	t     *testing.T
	room  *room.Room
	disks []*vm.Disk
	calm  outcome       // of an undisturbed boot
	saved string        // a machine that is about to start its first orchestrator; "" boots one each time
	waits time.Duration // instead of vm.Guard, if not 0
}

func newScene(t *testing.T) *scene {
	s := &scene{t: t, room: room.New(t, room.KMSAV4, room.KMSBV4)}
	s.room.Peer.KeyServers = s.room.Peer.KeyServers[:1]
	s.room.Appliance = victim
	s.room.AddHands()
	for _, name := range []string{"tank0", "tank1"} {
		content := vm.LUKS{Keys: [][]byte{s.room.Key(name)}, Content: vm.Ext4{Label: name}}
		s.disks = append(s.disks, vm.NewDisk(t, name, 48*vm.MiB, content))
	}
	tracer := vm.Build(t, "./qemu-tests/guest/tracer")
	s.room.Over = append(s.room.Over, func(o *vm.Image) {
		o.File(order.Program, vm.Shipped(t, "initd"), 0o755).File("/usr/bin/initd", tracer, 0o755).File("/usr/bin/tracer", tracer, 0o755)
	})
	s.room.StartPeer()
	return s
}

// guard is the hang guard of this scene: a soak that runs for hours beside other work may be starved for minutes.
func (s *scene) guard() time.Duration { return stdcmp.Or(s.waits, vm.Guard) }

// of makes what follows part of a subtest.
func (s *scene) of(t *testing.T) { s.t, s.room.T = t, t }

// outcome is what a boot came to.
type outcome struct {
	room.State
	Tries map[string]int    // of the ledger, other than zero
	Units map[string]string // of the report: state, object and server; what was adopted counts as done
	// Attempts are the report's; see attempts.
	Attempts map[string]int
}

// boot boots the machine with these kills, waits until all of them have
// happened and everything is up, and takes it down. Unmounts are on the way
// down, and their generations follow those of the boot.
func (s *scene) boot(kills ...order.Kill) (*vm.VM, outcome) {
	s.t.Helper()
	m := s.start(kills)
	last := 1
	var down []order.Kill
	for _, k := range kills {
		if k.Class == order.Umount {
			down = append(down, k)
			continue
		}
		last = max(last, s.dies(m, k))
	}
	o := s.up(m, last)
	if happened := len(kills) - len(down); happened > 0 && s.calm.Attempts != nil {
		s.attempts(m, o, happened)
	}
	m.CtrlAltDel()
	for _, k := range down {
		s.dies(m, k)
	}
	s.down(m)
	return m, o
}

// bootThrough is boot with kills of any generation, some of which may never
// come: it returns those that did.
func (s *scene) bootThrough(kills []order.Kill) (outcome, []order.Kill) {
	s.t.Helper()
	m := s.start(kills)
	var o outcome
	for gen := 0; gen != deaths(m)+1; {
		gen = deaths(m) + 1
		o = s.up(m, gen)
		room.Hand(s.t, m, "await", "/run/initd/bin/initd", "") // the last that a boot does by itself
	}
	s.attempts(m, o, len(happened(m)))
	m.CtrlAltDel()
	s.down(m)
	return o, happened(m)
}

// happened are the kills that took place.
func happened(m *vm.VM) []order.Kill {
	var list []order.Kill
	for _, k := range killed(m) {
		list = append(list, k.Kill)
	}
	return list
}

func killed(m *vm.VM) []order.Killed {
	var list []order.Killed
	for _, e := range m.Events() {
		var k order.Killed
		if e.Name == order.KilledEvent && e.Decode(&k) == nil {
			list = append(list, k)
		}
	}
	return list
}

// deaths is how many orchestrators have been killed. One is killed once, though two of its children's threads may have
// been at calls that are killed at.
func deaths(m *vm.VM) int {
	dead := map[int]bool{}
	for _, k := range killed(m) {
		if k.Victim == order.All {
			dead[k.Orchestrator] = true
		}
	}
	return len(dead)
}

// attempts checks that the report knows each attempt, and no more: what was up
// before the first kill was only looked at again (a look that a kill cut short
// counts), and no kill made more than one attempt of a unit fail.
func (s *scene) attempts(m *vm.VM, o outcome, kills int) {
	s.t.Helper()
	before, looking, cut := map[string]bool{}, map[string]bool{}, map[string]int{}
	killed := false
	for _, e := range m.Events() {
		killed = killed || e.Name == order.KilledEvent
		var x breport.Event
		if e.Decode(&x) != nil {
			continue
		}
		switch breport.Kind(e.Name) {
		case breport.UnitChanged:
			if !killed {
				before[x.Unit] = x.State == breport.Done
			}
		case breport.AttemptStarted:
			looking[x.Unit] = x.Op == breport.Check
		case breport.AttemptEnded:
			looking[x.Unit] = false
		case breport.UnitDeclared: // by the next orchestrator
			if looking[x.Unit] {
				cut[x.Unit]++
			}
			looking[x.Unit] = false
		}
	}
	for unit, calm := range s.calm.Attempts {
		most := calm + kills
		if before[unit] {
			most = calm + cut[unit]
		}
		if got := o.Attempts[unit]; got < calm || got > most {
			s.t.Errorf("%s: the report tells of %d attempts, want %d to %d: an undisturbed boot makes %d, there were %d kills, and it was done before them: %v",
				unit, got, calm, most, calm, kills, before[unit])
		}
	}
}

// start boots the machine with the tracer's orders. init tries two places,
// each twice until it has proved good: the tracer stands in both.
func (s *scene) start(kills []order.Kill) *vm.VM {
	s.t.Helper()
	if s.saved != "" {
		m := s.machine(order.Order{Ask: true}).From(s.saved).Start()
		m.Tell(order.Order{Kills: kills})
		return m
	}
	return s.machine(order.Order{Kills: kills}).Start()
}

// save boots a machine up to its first orchestrator, for all others to go on from there: most of the time of a boot is
// the kernel's, and nothing of that is to be killed.
func (s *scene) save() {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "machine")
	m := s.machine(order.Order{Ask: true}).Start()
	m.WaitEvent("the tracer asks for its order", vm.Is(order.AskEvent), s.guard())
	m.Save(file)
	s.saved = file
}

func (s *scene) machine(o order.Order) *vm.VM {
	s.t.Helper()
	over := s.room.Over
	defer func() { s.room.Over = over }()
	s.room.Over = append(slices.Clone(over), func(image *vm.Image) { image.JSON(order.Path, o) })
	return s.room.NewStore(s.disks...).Append("initd.exe=/usr/bin/tracer")
}

// up waits until everything is, as the orchestrator of this generation says,
// and asks the machine what it is like.
func (s *scene) up(m *vm.VM, gen int) outcome {
	s.t.Helper()
	m.WaitEvent("everything is up", upIn(gen), s.guard())
	o := outcome{State: room.StateOf(s.t, m, "hands"), Attempts: map[string]int{}}
	report := breport.Fold(room.Told(s.t, m))
	o.Tries, o.Units = s.tries(o.Ledger), units(report)
	for _, u := range report.Units {
		o.Attempts[u.ID] = u.Attempts
	}
	// The same process as the first that was started; in another boot it is another.
	first := find(m, vm.Is("hands", "do", "start"))
	if first == nil || first.Field("pid") != fmt.Sprint(o.PID) || first.Field("started") != o.Started {
		s.t.Errorf("the service is pid %d, started at %s; it was first started as %v", o.PID, o.Started, first)
	}
	o.Ledger, o.PID, o.Started = nil, 0, ""
	return o
}

// down waits for the machine's end.
func (s *scene) down(m *vm.VM) {
	s.t.Helper()
	if end := m.Exited(s.guard()); end.Reason != "guest-reset" {
		s.t.Errorf("ctrl-alt-del ended in %s, want a reboot", end)
	}
	room.NothingLeft(s.t, m)
	if e := find(m, func(e vm.Event) bool { return e.Name == order.FailedEvent }); e != nil {
		s.t.Fatalf("the tracer failed: %s", e.Line)
	}
	if n := starts(m); n != 1 {
		s.t.Errorf("the service was started %d times, want once: it lives on while the orchestrator is away", n)
	}
}

// dies waits for a kill, and for what it is to be followed by; it returns
// the generation that leads then.
func (s *scene) dies(m *vm.VM, k order.Kill) int {
	s.t.Helper()
	name := k.String()
	killed := m.WaitEvent(name, killedBy(k), s.guard())
	s.t.Logf("%s: %s", name, killed.Line)
	if k.Victim == order.Caller && killed.Field("of") != "boot" {
		return k.Generation
	}
	m.WaitEventAfter(killed, "another orchestrator after: "+name, generation(k.Generation+1), s.guard())
	return k.Generation + 1
}

func killedBy(k order.Kill) func(vm.Event) bool {
	return func(e vm.Event) bool {
		var got order.Killed
		return e.Name == order.KilledEvent && e.Decode(&got) == nil && got.Kill == k
	}
}

// generation matches the start of one that is not before gen.
func generation(gen int) func(vm.Event) bool {
	return func(e vm.Event) bool {
		var x breport.Event
		return e.Name == string(breport.GenerationStarted) && e.Decode(&x) == nil && x.Gen >= uint64(gen)
	}
}

// upIn matches the event with which the last of the wanted units is up, as an
// orchestrator of this generation or a later one says.
func upIn(gen int) func(vm.Event) bool {
	const ready = "" // no unit's name
	up := map[string]bool{}
	leads := uint64(0)
	return func(e vm.Event) bool {
		var x breport.Event
		if e.Field("seq") == "" || e.Decode(&x) != nil {
			return false
		}
		if x.Gen > leads {
			leads = x.Gen
			clear(up)
		}
		if x.Kind == breport.UnitChanged {
			up[x.Unit] = x.State.OK()
		}
		up[ready] = up[ready] || x.Kind == breport.ReadyReached
		for _, id := range append(wanted[:], ready) {
			if !up[id] {
				return false
			}
		}
		return leads >= uint64(gen)
	}
}

// find gives the first event that matches, or nil.
func find(m *vm.VM, match func(vm.Event) bool) *vm.Event {
	for _, e := range m.Events() {
		if match(e) {
			return &e
		}
	}
	return nil
}

// starts counts how often the service was started.
func starts(m *vm.VM) int {
	n := 0
	for _, e := range m.Events() {
		if vm.Is("hands", "do", "start")(e) {
			n++
		}
	}
	return n
}

// tries reads a ledger's records as a successor would.
func (s *scene) tries(records []string) map[string]int {
	s.t.Helper()
	dir := s.t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ledger"), []byte(strings.Join(records, "\n")+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	ledger, err := engine.OpenLedger(dir)
	if err != nil {
		s.t.Fatal(err)
	}
	defer ledger.Close()
	tries := map[string]int{}
	for _, line := range records {
		var r struct {
			Key string `json:"key"`
		}
		if json.Unmarshal([]byte(line), &r) == nil && ledger.Tries(r.Key) > 0 {
			tries[r.Key] = ledger.Tries(r.Key)
		}
	}
	return tries
}

// units is a report without times.
func units(r *breport.Report) map[string]string {
	list := map[string]string{}
	for _, u := range r.Units {
		state := u.State
		if state == breport.Adopted {
			state = breport.Done
		}
		text := string(state) + " " + u.Object + " " + u.Server
		if u.LastError != nil && !u.State.OK() {
			text += ": " + u.LastError.Text
		}
		list[u.ID] = text
	}
	return list
}

// same compares what two boots came to.
func same(want, got outcome) string {
	want.Attempts, got.Attempts = nil, nil // see attempts
	return cmp.Diff(want, got, cmp.FilterPath(func(p cmp.Path) bool { return strings.HasSuffix(p.String(), "Tables") }, cmp.Comparer(room.SameTable)))
}

// points are the calls that a boot made, in their order.
func points(t *testing.T, m *vm.VM) []order.Point {
	t.Helper()
	var list []order.Point
	for _, e := range m.Events() {
		if e.Name != order.PointEvent {
			continue
		}
		var p order.Point
		if err := e.Decode(&p); err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}

// counts is how many points of each class there are.
func counts(list []order.Point) map[order.Class]int {
	n := map[order.Class]int{}
	for _, p := range list {
		n[p.Class]++
	}
	return n
}
