package scenario

import (
	"strings"
	"testing"

	breport "initd/boot/report"
	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

// smallStore has the hands, and a mount whose disk comes late.
const smallStore = `apiVersion: initd/v1
name: store
mounts:
  - {where: /srv/scratch, type: tmpfs}
  - {what: id/virtio-late, where: /srv/late, type: ext4, wait: 1s}
services:
  - name: hands
    command: [/usr/bin/hands]
    ready: {file: /run/hands.ready}
image:
  modules: [MODULES]
`

func smallRoom(t *testing.T, modules string) *room.Room {
	t.Helper()
	s := room.New(t, room.KMSAV4, room.KMSBV4)
	s.Appliance = strings.Replace(smallStore, "MODULES", modules, 1)
	s.AddHands()
	return s
}

// notices are what an orchestrator of a generation had to say first.
func notices(t *testing.T, m *vm.VM, gen uint64) []string {
	t.Helper()
	var list []string
	for _, e := range room.Told(t, m) {
		if e.Kind == breport.Notice && e.Gen == gen {
			list = append(list, e.Text)
		}
	}
	return list
}

// noticed matches a line that heads the report.
func noticed(text string) func(vm.Event) bool {
	return func(e vm.Event) bool {
		return e.Name == string(breport.Notice) && strings.Contains(e.Field("text"), text)
	}
}

// /usr/bin/initd goes while it runs, and comes back broken; and the orchestrator dies again and again.
//
//   - It is deleted, which is said. The running orchestrator still starts children: a disk that comes is mounted.
//   - The orchestrator is killed. The next one is the copy of the last good one, and says so first; what could not be
//     started stands in the report too. Services live.
//   - Half a program lies there. Two more orchestrators are killed; the broken program is tried, and dies twice: that makes five
//     deaths, and init's failure screen.
//   - Somebody presses Enter: the copy is started, adopts what is up, and is left alone by the failure's time.
//   - It dies once more, and nobody comes: the machine resets.
func TestABrokenInitdAndACrashLoop(t *testing.T) {
	s := smallRoom(t, "")
	late := vm.NewDisk(t, "late", 32*vm.MiB, vm.Ext4{Label: "late"})
	m := s.NewStore().Append("initd.failure-time=20s").Start()
	m.WaitEvent("ready", vm.Is("ready"), vm.Guard)
	m.WaitEvent("the hands are there", room.Unit("service/hands", "done"), vm.Guard)
	room.Hand(t, m, "await", "/run/initd/bin/initd", "")
	if r := room.Hand(t, m, "run", "/run/initd/bin/initd", "version"); r.Field("status") != "0" {
		t.Errorf("the copy does not run: %s", r.Line)
	}

	room.Hand(t, m, "replace", "/usr/bin/initd", "nothing")
	m.WaitEvent("that it is gone is said", noticed("/usr/bin/initd was deleted or replaced while it runs"), vm.Guard)
	m.AddDisk(late)
	m.WaitEvent("a child of the deleted program mounts a disk", room.Unit("mount/srv/late", "done"), vm.Guard)
	gone := room.Hand(t, m, "kill-orchestrator", "", "")
	second := m.WaitEventAfter(gone, "the copy is started", vm.Is("generation", "gen", "2"), vm.Guard)
	m.WaitEventAfter(second, "it takes over", room.Unit("mount/srv/late", "adopted"), vm.Guard)
	m.WaitEventAfter(second, "the hands live on", room.Unit("service/hands", "adopted"), vm.Guard)
	first := notices(t, m, 2)
	if len(first) == 0 || !strings.HasPrefix(first[0], "initd runs from /run/initd/bin/initd, the copy of the last good one") {
		t.Errorf("the first line of the report is %q, want that the copy runs", first)
	}
	m.WaitEventAfter(gone, "the report says why", noticed("init: start /usr/bin/initd: cannot execute it: no such file or directory"), vm.Guard)
	m.Console().WaitFor(`init: start /usr/bin/initd: cannot execute it: no such file or directory`, vm.Guard)

	room.Hand(t, m, "replace", "/usr/bin/initd", "half of /run/initd/bin/initd")
	killed := room.Hand(t, m, "ended", "2", "")
	m.Console().WaitFor(`the orchestrator does not stay up`, vm.Guard)
	m.Console().WaitFor(`It died 5 times since the boot`, vm.Guard)

	m.Type("\n")
	third := m.WaitEventAfter(killed, "one is started anew", func(e vm.Event) bool {
		return e.Name == "generation" && e.Field("gen") > "3" && e.Field("gen") != "10"
	}, vm.Guard)
	m.WaitEventAfter(third, "it takes over", room.Unit("service/hands", "adopted"), vm.Guard)
	room.Hand(t, m, "pause", "25s", "") // longer than the failure's time: nothing happens
	room.Hand(t, m, "kill-orchestrator", "", "")
	m.Console().WaitFor(`nobody came: reset`, vm.Guard)
	if end := m.Exited(vm.Guard); end.Reason != "guest-reset" {
		t.Errorf("it ended by %s, want a reset", end)
	}
}

// The engine's loop blocks: the orchestrator is stopped (SIGSTOP), and so is the one that takes its place. init feeds the
// watchdog only by the heartbeat of that loop, and the hardware resets the machine. The report of the next boot says so.
func TestABlockedEngineEndsByTheWatchdog(t *testing.T) {
	s := smallRoom(t, "i6300esb")
	m := vm.New(t, vm.Name("store"), vm.Memory(1024), vm.Watchdog(), vm.Reboots()).Initramfs(s.Image(), s.Overlay()).
		Append("initd.events=/dev/ttyS1", "initd.watchdog-time=10s").Start()
	m.WaitEvent("ready", vm.Is("ready"), vm.Guard)
	m.WaitEvent("the hands are there", room.Unit("service/hands", "done"), vm.Guard)
	stopped := room.Hand(t, m, "stopped", "2", "")
	next := m.WaitEventAfter(stopped, "the next boot", vm.Is("generation", "gen", "1"), vm.Guard)
	m.WaitEventAfter(next, "its report says how the boot before ended", noticed("the boot before this one was ended by the watchdog"), vm.Guard)
	m.WaitEventAfter(next, "it is ready", vm.Is("ready"), vm.Guard)
	for _, line := range []string{"init: orchestrator of generation 1 killed: no heartbeat for 3", "init: watchdog is not fed: no heartbeat for 3"} {
		if !strings.Contains(m.Console().Text(), line) {
			t.Errorf("the console of the boot that was reset does not say %q", line)
		}
	}
}
