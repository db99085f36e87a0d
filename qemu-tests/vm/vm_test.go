package vm_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"initd/qemu-tests/vm"
)

func selftestImage(t *testing.T) string {
	t.Helper()
	return vm.NewImage(t).
		GoProgram("/init", "./qemu-tests/guest/selftest").
		Modules("virtio_blk", "virtio_net", "i6300esb", "ext4").
		Write("selftest")
}

type do struct {
	Do   string `json:"do"`
	Text string `json:"text,omitempty"`
}

// One machine, one boot: it comes up; a disk that was there from the start is seen; another one is plugged in and
// pulled; what is typed arrives; while it is paused it says nothing; ctrl-alt-del and words reach it; it powers off.
func TestOneMachineFeelsWhatItsTestDoes(t *testing.T) {
	image := selftestImage(t)
	first := vm.NewDisk(t, "first", 8*vm.MiB, vm.Bytes("the first disk"))
	late := vm.NewDisk(t, "late", 8*vm.MiB, vm.Bytes("the late disk"))

	m := vm.New(t, vm.Name("one")).Initramfs(image).Disk(first).Start()
	up := m.WaitEvent("the guest is up", vm.Is("up"), vm.Guard)
	t.Logf("%.2f s from QEMU's start to the first event of user space, with %s", up.At.Seconds(), vm.ProbeAccelerator(t))

	seen := m.WaitEvent("the first disk is seen", vm.Is("disk", "serial", "first"), vm.Guard)
	if got := seen.Field("head"); got != "the first disk" {
		t.Errorf("the guest reads %q from the first disk", got)
	}
	m.AddDisk(late)
	seen = m.WaitEvent("the late disk is seen", vm.Is("disk", "serial", "late"), vm.Guard)
	if got := seen.Field("head"); got != "the late disk" {
		t.Errorf("the guest reads %q from the late disk", got)
	}
	m.RemoveDisk(late, vm.Guard)
	m.WaitEvent("the late disk is gone", vm.Is("disk-gone", "name", seen.Field("name")), vm.Guard)

	m.Console().WaitFor(`selftest> `, vm.Guard)
	m.Type("hello\n")
	m.WaitEvent("what was typed has arrived", vm.Is("typed", "line", "hello"), vm.Guard)
	m.Console().WaitFor(`selftest> `, vm.Guard)

	m.Pause()
	m.Tell(do{"echo", "while paused"})
	if status := string(m.QMP("query-status", nil)); !strings.Contains(status, `"paused"`) {
		t.Errorf("after Pause QEMU says %s", status)
	}
	for _, e := range m.Events() {
		if e.Name == "echo" {
			t.Error("a paused machine answered")
		}
	}
	m.Continue()
	m.WaitEvent("it answers again", vm.Is("echo", "text", "while paused"), vm.Guard)

	m.CtrlAltDel()
	m.WaitEvent("ctrl-alt-del has arrived", vm.Is("ctrl-alt-del"), vm.Guard)

	dump := m.Artefact("memory.elf")
	m.Tell(do{"echo", "needle-in-the-memory"})
	m.WaitEvent("the needle is in its memory", vm.Is("echo", "text", "needle-in-the-memory"), vm.Guard)
	m.DumpMemory(dump)
	memory, err := os.ReadFile(dump)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(memory, []byte("\x7fELF")) || !bytes.Contains(memory, []byte("needle-in-the-memory")) {
		t.Errorf("the dump of %d bytes is no core of this machine", len(memory))
	}
	if err := os.Remove(dump); err != nil {
		t.Fatal(err)
	}

	m.Tell(do{Do: "poweroff"})
	if exit := m.Exited(vm.Guard); exit.Reason != "guest-shutdown" {
		t.Errorf("it ended with %v, want a shutdown by the guest", exit)
	}
}

// Two machines on one wire: a frame arrives as it was sent; a dropped one does not, while the next one does; a pulled
// cable is silent until it is plugged again; then one machine loses its power, and the other one reboots.
func TestTwoMachinesHearEachOther(t *testing.T) {
	image := selftestImage(t)
	lan := vm.NewWire(t, "lan")
	a := vm.New(t, vm.Name("a"), vm.Memory(256)).Initramfs(image).Wire(lan, "52:54:00:00:00:0a")
	b := vm.New(t, vm.Name("b"), vm.Memory(256)).Initramfs(image).Wire(lan, "52:54:00:00:00:0b")
	vm.StartAll(t, a, b)
	a.WaitEvent("a listens", vm.Is("listening"), vm.Guard)
	b.WaitEvent("b listens", vm.Is("listening"), vm.Guard)

	a.Tell(do{"send", "one"})
	b.WaitEvent("b hears a", vm.Is("frame", "text", "one", "from", "52:54:00:00:00:0a"), vm.Guard)

	lost := lan.Drop(func(f vm.Frame) bool { return f.To == "b" && bytes.Contains(f.Data, []byte("two")) })
	a.Tell(do{"send", "two"})
	a.Tell(do{"send", "three"})
	b.WaitEvent("b hears what is not dropped", vm.Is("frame", "text", "three"), vm.Guard)
	if lost.Hits() != 1 {
		t.Errorf("the wire dropped %d frames, want 1", lost.Hits())
	}
	lost.End()

	b.SetLink(lan, false)
	a.Tell(do{"send", "four"})
	a.Tell(do{"echo", "four is sent"})
	a.WaitEvent("four is on the wire", vm.Is("echo", "text", "four is sent"), vm.Guard)
	b.Tell(do{"echo", "without a cable"})
	b.WaitEvent("b lives without its cable", vm.Is("echo", "text", "without a cable"), vm.Guard)
	b.SetLink(lan, true)
	// A frame that is sent before b's side of the link is up again is lost, as on any wire: b speaks first.
	b.Tell(do{"send", "plugged"})
	a.WaitEvent("a hears b again", vm.Is("frame", "text", "plugged"), vm.Guard)
	a.Tell(do{"send", "five"})
	b.WaitEvent("b hears a again", vm.Is("frame", "text", "five"), vm.Guard)
	for _, e := range b.Events() {
		if e.Name == "frame" && (e.Field("text") == "two" || e.Field("text") == "four") {
			t.Errorf("b heard %q, which was lost", e.Field("text"))
		}
	}

	a.Kill()
	if exit := a.Exited(vm.Guard); exit.Reason != "killed" {
		t.Errorf("a ended with %v, want killed", exit)
	}
	b.Tell(do{Do: "reboot"})
	if exit := b.Exited(vm.Guard); exit.Reason != "guest-reset" {
		t.Errorf("b ended with %v, want a reset by the guest", exit)
	}
	again := b.Again().Start()
	again.WaitEvent("b is up again", vm.Is("listening"), vm.Guard)
}

// A machine that nobody feeds is reset by its watchdog; a kernel that panics ends its machine and is named.
func TestDeadlyEndsAreNamed(t *testing.T) {
	image := selftestImage(t)
	dog := vm.New(t, vm.Name("dog"), vm.Memory(256), vm.Watchdog()).Initramfs(image).Start()
	dog.WaitEvent("the guest is up", vm.Is("up"), vm.Guard)
	dog.Tell(do{Do: "watchdog"})
	if exit := dog.Exited(vm.Guard); exit.Reason != "watchdog" {
		t.Errorf("it ended with %v, want its watchdog", exit)
	}

	broken := vm.New(t, vm.Name("broken"), vm.Memory(256), vm.ExpectPanic()).Initramfs(image).Start()
	broken.WaitEvent("the guest is up", vm.Is("up"), vm.Guard)
	broken.Tell(do{Do: "panic"})
	if exit := broken.Exited(vm.Guard); exit.Reason != "guest-reset" || !strings.HasPrefix(exit.Panic, "Kernel panic - not syncing") {
		t.Errorf("it ended with %v, want a reset after a panic", exit)
	}
}

// BenchmarkBoot measures the time from QEMU's start to the first event of user space.
func BenchmarkBoot(b *testing.B) {
	image := vm.NewImage(b).GoProgram("/init", "./qemu-tests/guest/selftest").Write("boot")
	var total float64
	n := 0
	for b.Loop() {
		m := vm.New(b, vm.Name("boot"), vm.Memory(256)).Initramfs(image).Start()
		total += m.WaitEvent("the guest is up", vm.Is("up"), vm.Guard).At.Seconds()
		m.Kill()
		n++
	}
	b.ReportMetric(total/float64(n), "s/boot")
}

func TestEventsAreReadByMember(t *testing.T) {
	e := vm.Event{Name: "test", Line: json.RawMessage(`{"event":"test","package":"./hw/dm","exit":2}`)}
	for _, tc := range []struct {
		name  string
		match func(vm.Event) bool
		want  bool
	}{
		{"its name matches", vm.Is("test"), true},
		{"another name does not", vm.Is("boot"), false},
		{"a string member matches", vm.Is("test", "package", "./hw/dm"), true},
		{"a number matches by its text", vm.Is("test", "exit", "2"), true},
		{"all members have to match", vm.Is("test", "package", "./hw/dm", "exit", "0"), false},
		{"a missing member is empty", vm.Is("test", "nothing", ""), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.match(e); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}
