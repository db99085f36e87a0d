// Package vm boots real machines for tests: QEMU, a real kernel, disks, wires between machines, and a way to hear what
// happens inside. It needs no root, no host network and no interface of the host.
//
// It owns QEMU's processes, the sockets to them, the disks' images and what a test leaves to look at
// (out/vm/TEST/MACHINE/). It knows nothing of initd: what runs in the guest is the test's own choice. It never asserts on
// how long something took; every wait ends at the event, and its guard only catches what hangs.
//
// # How to write a scenario
//
// Say in the test's comment what happens, then write it down in that order:
//
//	// The disk comes late: the guest waits for it, finds it, and powers off.
//	func TestALateDisk(t *testing.T) {
//		image := vm.NewImage(t).GoProgram("/init", "./qemu-tests/guest/selftest").Modules("virtio_blk").Write("late")
//		data := vm.NewDisk(t, "data0", 64*vm.MiB, vm.Ext4{Label: "data"})
//
//		m := vm.New(t, vm.Name("host")).Initramfs(image).Start()
//		m.WaitEvent("the guest is up", vm.Is("up"), vm.Guard)
//		m.AddDisk(data)
//		m.WaitEvent("the disk is seen", vm.Is("disk", "serial", "data0"), vm.Guard)
//		m.Powerdown()
//		m.Exited(vm.Guard)
//	}
//
// A guest speaks on two serial ports. The first (ttyS0) is its console: everything on it is kept, and Console().WaitFor
// waits for a line, like expect(1). The second (ttyS1) carries events, one JSON object a line with a member "event";
// guests write them with package qemu-tests/guest/event, and hear what Tell says. Prefer events: they are facts, the
// console is prose.
//
// Machines on one Wire hear each other; the wire can drop and delay frames by destination, and keeps a capture. Outages
// are verbs: Pause, Continue, SetLink, Kill (a power loss), RemoveDisk. A second boot of the same machine, with the same
// disks, is Again.
//
// A test fails by itself when a guest's kernel panics, unless the machine was made with ExpectPanic. On failure the last
// 60 lines of each console are printed, with the folder where everything is kept.
package vm
