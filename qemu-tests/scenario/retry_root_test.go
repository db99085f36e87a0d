package scenario

import (
	"os"
	"path/filepath"
	"testing"

	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

// rootInTwo is a root whose /sbin is a file system of its own.
const rootInTwo = `apiVersion: initd/v1
name: store
shell: {password: "$6$bystanders$EC2AtkFLXbJuHmJmBwhyTOdf1gqg0zlL7ZotPUrmC4GO1lrEz2AvCS9v2XZ4NDZSSMeGlV6Jj7f0UcEVx4aLZ1"}
mounts:
  - {what: label/root, where: /, type: ext4}
  - {what: label/sbin, where: /sbin, type: ext4, wait: 3s, on-failure: halt}
image:
  modules: [i6300esb]
  packages: [dash]
`

// A root has no init, because the file system that has it is not there, and the
// boot halts for that.
//
//   - Nobody comes: the failure screen stands for its time, then the watchdog
//     resets the machine.
//   - Somebody comes, opens the shell of the menu, and types what the console said:
//     the root is looked at again. The disk is brought; its file system is
//     mounted, the boot goes on, and the same command hands the machine over.
func TestARootWithoutInitWaitsForSomebodyOrIsReset(t *testing.T) {
	s := room.New(t, room.KMSAV4, room.KMSBV4)
	s.Appliance = rootInTwo
	hands := vm.Program(t, "./qemu-tests/guest/hands")
	folder := func(name, file string, content []byte) *vm.Disk {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(file)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), content, 0o755); err != nil {
			t.Fatal(err)
		}
		return vm.NewDisk(t, name, 32*vm.MiB, vm.Ext4{Label: name, Dir: dir})
	}
	root, sbin := folder("root", "sbin/nothing", nil), folder("sbin", "init", hands)
	image, overlay := s.Image(), s.Overlay()
	machine := func(name string, args ...string) *vm.VM {
		m := vm.New(t, vm.Name(name), vm.Watchdog()).Initramfs(image, overlay).Disk(root).Append("initd.events=/dev/ttyS1").Append(args...)
		m.Start()
		m.WaitEvent("the root has no init", room.Unit("root", "degraded"), vm.Guard)
		m.Console().WaitFor(`next: initd retry root$`, vm.Guard)
		m.Console().WaitFor(`^---- store is halted by mount/sbin -+$`, vm.Guard)
		return m
	}

	m := machine("nobody", "initd.failure-time=10s", "initd.watchdog-time=10s")
	if end := m.Exited(vm.Guard); end.Reason != "watchdog" {
		t.Errorf("it ended by %s, want the watchdog", end)
	}

	m = machine("somebody")
	m.Console().WaitFor(`Choose: `, vm.Guard)
	m.Type("!")
	m.Console().WaitFor(`Password for a shell: `, vm.Guard)
	m.Type("let me in\r")
	m.Console().WaitFor(`initd# `, vm.Guard)
	m.Type("initd retry root\r")
	asked := m.WaitEvent("an operator's retry", vm.Is("command", "unit", "root", "command", "retry"), vm.Guard)
	m.WaitEventAfter(asked, "it is looked at", vm.Is("attempt", "unit", "root"), vm.Guard)
	m.AddDisk(sbin)
	mounted := m.WaitEventAfter(asked, "/sbin is mounted", room.Unit("mount/sbin", "done"), vm.Guard)
	m.Type("initd retry root\r")
	m.WaitEventAfter(mounted, "the root's init has the machine", vm.Is("hands", "do", "start", "pid", "1"), vm.Guard)
	m.WaitEventAfter(mounted, "the orchestrator lives on", vm.Is("generation", "gen", "2"), vm.Guard)
}
