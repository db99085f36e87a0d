package scenario

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	breport "initd/boot/report"
	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

// stuckStore has mounts and a service whose devices will not answer, and others whose devices do.
const stuckStore = `apiVersion: initd/v1
name: store
budgets: {boot: 3m, shutdown: 20s}
mounts:
  - {where: /srv/scratch, type: tmpfs}
  - {what: id/virtio-calm, where: /srv/calm, type: ext4}
  - {what: id/dm-name-front, where: /srv/front, type: ext4, wait: 1s, deadline: 3s}
  - {what: id/dm-name-raw, where: /srv/raw, type: ext4, fsck: never, wait: 1s, deadline: 3s}
  - {what: label/nowhere, where: /srv/named, type: ext4, wait: 1s, deadline: 3s}
  - {what: id/dm-name-prog, where: /srv/prog, type: ext4, wait: 1s}
  - {what: id/virtio-late, where: /srv/late, type: ext4, wait: 1s}
  - {what: id/virtio-later, where: /srv/calm/new, type: ext4, fsck: never, wait: 1s, deadline: 3s}
services:
  - name: hands
    command: [/usr/bin/hands]
    ready: {file: /run/hands.ready}
  - {name: program, command: [/srv/prog/program, wait], needs: [mount/srv/late], wait: 1s, deadline: 5s}
image:
  modules: [dm_mod]
`

// Devices stop to answer while a machine runs: a suspended device below file systems, a frozen file system.
//
//   - A check of a file system (which must not be killed), a mount, the reading of what a disk is, a service whose program lies
//     there, and the making of a mount point block in the kernel. Each makes its unit stuck, with the pid and the place in the
//     kernel, or says so as the reason why a unit waits.
//   - Everything else goes on: another disk comes and is mounted, commands are answered. A retry starts no second process.
//   - The orchestrator is killed. The next one names the same processes, and starts no others in their place.
//   - The devices go on: every unit recovers by itself.
//   - A device stops to answer below a mounted file system with something to write; the machine is told to go down. It ends, and
//     names the mount.
func TestWhatBlocksInTheKernelIsStuckAndNothingElseIs(t *testing.T) {
	s := room.New(t, room.KMSAV4, room.KMSBV4)
	s.Appliance = stuckStore
	s.AddHands()
	dir := t.TempDir()
	program := vm.Program(t, "./qemu-tests/guest/pid1")
	if err := os.WriteFile(filepath.Join(dir, "program"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	disk := func(name string) *vm.Disk { return vm.NewDisk(t, name, 32*vm.MiB, vm.Ext4{Label: name}) }
	late, later := disk("late"), disk("later")
	prog := vm.NewDisk(t, "prog", 64*vm.MiB, vm.Ext4{Label: "prog", Dir: dir})
	m := s.NewStore(disk("calm"), disk("front"), disk("raw"), prog).Start()
	m.WaitEvent("ready without them", vm.Is("ready"), vm.Guard)
	m.WaitEvent("the hands are there", room.Unit("service/hands", "done"), vm.Guard)
	m.WaitEvent("the calm disk is mounted", room.Unit("mount/srv/calm", "done"), vm.Guard)

	room.Hand(t, m, "run", "/sbin/modprobe", "dm_mod")
	// One after the other: whoever reads a device can be killed, but not once he is the last to close it. One process that reads both
	// sleeps while it closes one, and has the other open for ever, which nobody is the last to close then.
	room.Hand(t, m, "front", "front", "front")
	m.WaitEvent("it is read by a process of its own", vm.Is("attempt", "unit", "mount/srv/front"), vm.Guard)
	room.Hand(t, m, "front", "raw", "raw")
	front := stuckUnit(t, m, "mount/srv/front")
	raw := stuckUnit(t, m, "mount/srv/raw")
	m.Console().WaitFor(`mount/srv/(front|raw) .*stuck`, vm.Guard)

	room.Hand(t, m, "map", "prog", "prog")
	m.WaitEvent("the program's file system is mounted", room.Unit("mount/srv/prog", "done"), vm.Guard)
	room.Hand(t, m, "suspend", "prog", "forget")
	m.AddDisk(late)
	m.WaitEvent("a disk that comes meanwhile is mounted", room.Unit("mount/srv/late", "done"), vm.Guard)
	service := stuckUnit(t, m, "service/program")
	room.Hand(t, m, "freeze", "/srv/calm", "")
	m.AddDisk(later)
	folder := stuckUnit(t, m, "mount/srv/calm/new")

	// Commands are answered, and a retry starts no second process.
	all := []breport.Event{front, raw, service, folder}
	status := room.Hand(t, m, "run", "/usr/bin/initd", "status").Field("text")
	status = strings.Join(strings.Fields(status), " ") // as it reads, not as it is broken into lines
	for _, e := range all {
		if !strings.Contains(status, "pid "+strconv.Itoa(e.PID)+", in "+e.Wchan) {
			t.Errorf("the status does not name process %d of %s, in %s:\n%s", e.PID, e.Unit, e.Wchan, status)
		}
	}
	asleep := regexp.MustCompile(`process \d+ (slept |sleeps )?in `) // by whichever of several looks was the last
	m.WaitEvent("a unit waits because two devices could not be read", func(e vm.Event) bool {
		line := string(e.Line)
		return e.Field("resource") == "block/label/nowhere" && strings.Contains(line, "could not be read: ") && asleep.MatchString(line)
	}, vm.Guard)
	before := m.Events()
	if r := room.Hand(t, m, "run", "/usr/bin/initd", "retry mount/srv/raw"); r.Field("status") != "0" {
		t.Errorf("a retry of a stuck unit: %s", r.Line)
	}
	again := stuckUnitAfter(t, m, before[len(before)-1], "mount/srv/raw")
	if again.PID != raw.PID {
		t.Errorf("after a retry process %d is stuck, want the same as before: %d", again.PID, raw.PID)
	}

	// The next orchestrator.
	killed := room.Hand(t, m, "kill-orchestrator", "", "")
	next := m.WaitEventAfter(killed, "another orchestrator", vm.Is("generation", "gen", "2"), vm.Guard)
	stuckUnitAfter(t, m, next, "mount/srv/front") // perhaps by another process: a check that could be ended begins anew
	for _, e := range []breport.Event{raw, folder} {
		m.WaitEventAfter(next, "process "+strconv.Itoa(e.PID)+" is handed on", vm.Is("init", "pid", strconv.Itoa(e.PID)), vm.Guard)
		if now := stuckUnitAfter(t, m, next, e.Unit); now.PID != e.PID {
			t.Errorf("%s: after the orchestrator's death process %d is stuck, want the same as before: %d", e.Unit, now.PID, e.PID)
		}
	}
	m.WaitEventAfter(next, "the service waits for the device, which is suspended", func(e vm.Event) bool {
		return room.Unit("mount/srv/prog", "degraded")(e) && strings.Contains(e.Field("reason"), "is suspended")
	}, vm.Guard)

	// The devices go on.
	thawed := room.Hand(t, m, "thaw", "/srv/calm", "")
	for _, name := range []string{"front-below", "raw-below", "prog"} {
		room.Hand(t, m, "resume", name, "")
	}
	for _, id := range []string{"mount/srv/front", "mount/srv/raw", "mount/srv/calm/new", "service/program"} {
		m.WaitEventAfter(thawed, id+" recovers", func(e vm.Event) bool { return room.Unit(id, "done")(e) || room.Unit(id, "adopted")(e) }, vm.Guard)
	}

	// The way down.
	room.Hand(t, m, "write", strings.Repeat("x", 4096), "/srv/front/file")
	room.Hand(t, m, "suspend", "front-below", "")
	m.CtrlAltDel()
	if end := m.Exited(vm.Guard); end.Reason != "guest-reset" {
		t.Errorf("it ended by %s, want a reboot", end)
	}
	stuckDown(t, m, "/srv/front", 20*time.Second)
}

// stuckUnit waits until a unit is stuck; the event has the process and its place in the kernel.
func stuckUnit(t *testing.T, m *vm.VM, id string) breport.Event {
	t.Helper()
	return checkStuck(t, m.WaitEvent(id+" is stuck", room.Unit(id, "stuck"), vm.Guard))
}

func stuckUnitAfter(t *testing.T, m *vm.VM, after vm.Event, id string) breport.Event {
	t.Helper()
	return checkStuck(t, m.WaitEventAfter(after, id+" is stuck", room.Unit(id, "stuck"), vm.Guard))
}

func checkStuck(t *testing.T, got vm.Event) breport.Event {
	t.Helper()
	e := room.Decode(t, got)
	if e.PID < 2 || e.Wchan == "" || e.Wchan == "unknown" {
		t.Errorf("%s is stuck as process %d in %q, want both", e.Unit, e.PID, e.Wchan)
	}
	return e
}

// stuckDown checks the way down of a machine on which one mount did not go.
func stuckDown(t *testing.T, m *vm.VM, where string, budget time.Duration) {
	t.Helper()
	said := ""
	for _, e := range room.Told(t, m) {
		if e.Kind != breport.ShutdownStep || e.Step == nil {
			continue
		}
		switch st := e.Step; {
		case st.Object == where && st.State == breport.Stuck:
			said = st.Reason
		case st.Phase == "end" && st.Action == "reboot":
			if st.Took > budget {
				t.Errorf("the way down took %s, more than its budget of %s", st.Took, budget)
			}
			if !strings.Contains(st.Reason, "left behind") {
				t.Errorf("the end says %q, want that something is left", st.Reason)
			}
		}
	}
	if !strings.Contains(said, "sleeps in the kernel") {
		t.Errorf("of %s the way down says %q, want that a process sleeps in the kernel", where, said)
	}
}
