package scenario

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"initd/qemu-tests/vm"
)

// pid1Machine has the shipped init, and a program of the tests as its orchestrator.
func pid1Machine(t *testing.T, story string, options []vm.Option, modules ...string) *vm.VM {
	image := vm.NewImage(t).File("/init", vm.Shipped(t, "init"), 0o755).GoProgram("/usr/bin/initd", "./qemu-tests/guest/pid1")
	if len(modules) > 0 {
		image.Modules(modules...)
	}
	return vm.New(t, append(options, vm.Name(story))...).Append("story=" + story).Initramfs(image.Write(story))
}

// unbroken fails the test if the guest's program could not play its part.
func unbroken(t *testing.T, m *vm.VM) {
	t.Helper()
	for _, e := range m.Events() {
		if e.Name == "broken" {
			t.Errorf("the guest's program: %s", e.Field("error"))
		}
	}
}

// init boots and sets what PID 1 of a machine has to set. A service leaves 300 processes behind; when they end, init reaps
// all of them. Somebody presses ctrl-alt-del: nothing happens but that the orchestrator is told, which powers off.
func TestInitReapsOrphansAndPowersOff(t *testing.T) {
	m := pid1Machine(t, "orphans", nil).Start()
	hello := m.WaitEvent("the orchestrator is up", vm.Is("hello"), vm.Guard)
	for member, want := range map[string]string{
		"generation": "1", "deaths": "0", "power": "true", "cgroup": "true", "watchdog": "false", "panic": "10",
		"rlimit": "Max open files 1048576 1048576 files",
	} {
		if got := hello.Field(member); got != want {
			t.Errorf("%s: got %s, want %s", member, got, want)
		}
	}
	m.WaitEvent("the parent ended well", vm.Is("parent", "status", "0"), vm.Guard)
	m.WaitEvent("300 orphans are reaped", vm.Is("reaped", "orphans", "300", "zombies", "0"), vm.Guard)
	m.CtrlAltDel()
	m.WaitEvent("the orchestrator is asked", vm.Is("asked", "kind", "reboot", "why", "ctrl-alt-del"), vm.Guard)
	if end := m.Exited(vm.Guard); end.Reason != "guest-shutdown" {
		t.Errorf("it ended by %s, want a power-off", end)
	}
	unbroken(t, m)
}

// A service's program lies on a device that is suspended: its process sleeps in the kernel. Others start and end
// meanwhile. A child of the orchestrator sleeps there too; the orchestrator dies, the child survives SIGKILL, and the next
// orchestrator starts nevertheless and is told who is busy. When the device goes on, the service runs, as the process that
// it was, and the child ends.
func TestAServiceOnASuspendedDeviceFreezesNobodyElse(t *testing.T) {
	dir := t.TempDir()
	program := vm.Program(t, "./qemu-tests/guest/pid1")
	if err := os.WriteFile(filepath.Join(dir, "program"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	disk := vm.NewDisk(t, "data0", 60*vm.MiB, vm.Ext4{Label: "frozen", Dir: dir})
	m := pid1Machine(t, "frozen", nil, "virtio_blk", "dm_mod").Disk(disk).Start()

	asleep := m.WaitEvent("both sleep in the kernel", vm.Is("asleep"), vm.Guard)
	for _, name := range []string{"other0", "other1", "other2"} {
		m.WaitEvent(name+" starts and ends", vm.Is("other", "name", name, "status", "0"), vm.Guard)
	}
	frozen := m.WaitEvent("init says that the service is being loaded", vm.Is("frozen", "loading", "true"), vm.Guard)
	second := m.WaitEvent("the next orchestrator", vm.Is("hello", "generation", "2"), vm.Guard)
	if busy, child := second.Field("busy"), asleep.Field("child"); busy != "["+child+"]" {
		t.Errorf("busy: got %s, want [%s]", busy, child)
	}
	if thawed := m.WaitEvent("the service is loaded", vm.Is("thawed"), vm.Guard); thawed.Field("pid") != frozen.Field("pid") {
		t.Errorf("the service runs as %s, was %s", thawed.Field("pid"), frozen.Field("pid"))
	}
	m.WaitEvent("the child ends by SIGKILL", vm.Is("child", "status", "9"), vm.Guard)
	if end := m.Exited(vm.Guard); end.Reason != "guest-shutdown" {
		t.Errorf("it ended by %s, want a power-off", end)
	}
	unbroken(t, m)
}

// The watchdog is fed while the orchestrator's loop turns. Then the failure screen is up and nobody comes: init stops
// feeding, and the machine is reset.
func TestTheWatchdogResetsAFailureThatNobodySees(t *testing.T) {
	m := pid1Machine(t, "watchdog", []vm.Option{vm.Watchdog()}, "i6300esb").Append("initd.failure-time=2s").Start()
	m.WaitEvent("the watchdog is armed", vm.Is("armed"), vm.Guard)
	m.WaitEvent("it was fed longer than its timeout", vm.Is("fed"), vm.Guard)
	if end := m.Exited(vm.Guard); end.Reason != "watchdog" {
		t.Errorf("it ended by %s, want the watchdog", end)
	}
	if text := m.Console().Text(); !strings.Contains(text, "watchdog is not fed: the failure lasts longer than 2s") {
		t.Error("the console does not say why")
	}
	unbroken(t, m)
}

// The machine is handed over to the init of another root. The first try fails, since that root lacks a folder: everything
// is where it was, and the next orchestrator hears why. The second one reaches a root that has no such init: init goes on
// there, with an orchestrator that hears why. The third one succeeds: nothing is left of the old root, its
// secrets are overwritten (a process that has them open reads zeros), another file system below it is untouched, an
// orchestrator lives on without a socket, and the watchdog does not bite.
func TestInitSwitchesRoot(t *testing.T) {
	m := pid1Machine(t, "switchroot", []vm.Option{vm.Watchdog()}, "i6300esb").Start()
	note := m.WaitEvent("init says what the first root lacks", vm.Is("note"), vm.Guard)
	if text := note.Field("text"); !strings.Contains(text, "move /sys to /bad/sys: no such file or directory") {
		t.Errorf("init says %q", text)
	}
	if note.Field("secret") != "true" || note.Field("stat") != "init" {
		t.Errorf("after the failed hand-over not everything is where it was: %s", note)
	}
	inside := m.WaitEventAfter(note, "init says what the second root lacks", vm.Is("note"), vm.Guard)
	if text := inside.Field("text"); !strings.Contains(text, "execute /sbin/none of the new root: no such file or directory") {
		t.Errorf("init says %q", text)
	}
	m.WaitEventAfter(inside, "the orchestrator lives on, without a socket", vm.Is("adopted", "argv", "@initd boot --adopt", "socket", "false"), vm.Guard)
	init := m.WaitEvent("the new init runs", vm.Is("newinit"), vm.Guard)
	for member, want := range map[string]string{
		"pid": "1", "argv": "/sbin/init", "root": "dev proc run sbin sys",
		"cgroup": "populated 1\nfrozen 0", "descriptors": "/dev/console /dev/console /dev/console",
	} {
		if got := init.Field(member); got != want {
			t.Errorf("the new init's %s: got %q, want %q", member, got, want)
		}
	}
	if limit := init.Field("limit"); !strings.HasSuffix(limit, " 4096 files") { // the soft one is Go's own
		t.Errorf("the new init's %s, want a hard limit of 4096", limit)
	}
	kept := m.WaitEvent("what the old root's process sees", vm.Is("kept"), vm.Guard)
	if kept.Field("zeros") != "2" || kept.Field("other") != "stays" || kept.Field("left") != "bad other" {
		t.Errorf("the old root: %s, want its two secrets zero, the other file system untouched and nothing but mount points left", kept)
	}
	m.WaitEvent("the machine outlives the watchdog's timeout", vm.Is("alive", "watchdog", "inactive"), vm.Guard)
	if end := m.Exited(vm.Guard); end.Reason != "guest-shutdown" {
		t.Errorf("it ended by %s, want a power-off", end)
	}
	unbroken(t, m)
}
