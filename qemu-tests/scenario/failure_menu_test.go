package scenario

import (
	"strings"
	"testing"

	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

// A volume whose key file is wrong halts the boot while another one asks for its
// passphrase. The failure screen comes up on the serial line and on the VGA
// screen: what failed, why, and what helps; the question stays below it. Enter
// at the keyboard leads to the menu, which saves a support bundle, opens a shell to
// who knows its password, lets the
// question be answered by serial, and takes the right key for the volume that
// failed: the boot goes on, gets ready, and the menu is gone.
func TestTheFailureMenuHelps(t *testing.T) {
	s := room.New(t, room.KMSAV4, room.KMSBV4)
	s.Appliance = `apiVersion: initd/v1
name: store
shell: {password: "$6$bystanders$EC2AtkFLXbJuHmJmBwhyTOdf1gqg0zlL7ZotPUrmC4GO1lrEz2AvCS9v2XZ4NDZSSMeGlV6Jj7f0UcEVx4aLZ1"}
media:
  luks:
    - {name: wrong, device: id/virtio-wrong, key: {file: /etc/initd/keys/wrong}, on-failure: halt}
    - {name: asked, device: id/virtio-asked, key: prompt}
mounts:
  - {what: luks/wrong, where: /srv/wrong, type: ext4}
services:
` + room.HandsService + "image:\n  packages: [dash]\n"
	s.AddHands()
	s.Identity["keys/wrong"] = []byte("not this one")
	volume := func(name, key string) *vm.Disk {
		return vm.NewDisk(t, name, 32*vm.MiB, vm.LUKS{Keys: [][]byte{[]byte(key)}, KDF: "argon2id", Content: vm.Ext4{}})
	}
	store := s.NewStore(volume("wrong", "the right one"), volume("asked", "open sesame")).VGA().Start()
	console := store.Console()

	console.WaitFor(`^---- store is halted by luks/wrong -+$`, vm.Guard)
	console.WaitFor(`^luks/wrong failed: .*wrong`, vm.Guard)
	console.WaitFor(`next: initd keys unlock wrong$`, vm.Guard)
	console.WaitFor(`^Enter without a key leads to the menu\.`, vm.Guard)
	console.WaitFor(`^Passphrase for asked: `, vm.Guard)
	if !kernelIsQuiet(t, store) {
		t.Error("the kernel may write into the screen")
	}
	if screen := vga(t, store); !strings.Contains(screen, "store is halted by luks/wrong") {
		t.Errorf("the VGA screen does not show the failure; it shows:\n%s", screen)
	}

	store.Key("ret")
	console.WaitFor(`^r retry    k enter a key`, vm.Guard)
	console.WaitFor(`Choose: `, vm.Guard)
	store.Type("b")
	console.WaitFor(`saved as /run/initd/support-store-\S+\.tar\.gz`, vm.Guard)
	console.WaitFor(`Choose: `, vm.Guard)
	if screen := vga(t, store); !strings.Contains(screen, "saved as /run/initd/support-store-") {
		t.Errorf("the VGA screen does not show the menu; it shows:\n%s", screen)
	}

	store.Type("!")
	console.WaitFor(`Password for a shell: `, vm.Guard)
	store.Type("not this\r")
	console.WaitFor(`that is not the password`, vm.Guard)
	console.WaitFor(`Choose: `, vm.Guard)
	store.Type("!")
	console.WaitFor(`Password for a shell: `, vm.Guard)
	store.Type("let me in\r")
	console.WaitFor(`initd# `, vm.Guard)
	store.Type("echo by hand: $((6*7))\r")
	console.WaitFor(`by hand: 42`, vm.Guard)
	store.Type("exit\r")
	console.WaitFor(`Choose: `, vm.Guard)

	store.Key("k")
	console.WaitFor(`^  1 asked`, vm.Guard)
	console.WaitFor(`^  2 wrong`, vm.Guard)
	store.Key("1")
	console.WaitFor(`Passphrase for asked: `, vm.Guard)
	store.Type("open barley\r")
	console.WaitFor(`That did not open asked\. Passphrase for asked: `, vm.Guard)
	store.Type("open sesame\r")
	console.WaitFor(`asked waits for no key any more`, vm.Guard)
	console.WaitFor(`Choose: `, vm.Guard)
	store.WaitEvent("asked is open", room.Unit("luks/asked", "done"), vm.Guard)

	store.Type("k1")
	console.WaitFor(`Key for wrong: `, vm.Guard)
	store.Type("the right one\r")
	store.WaitEvent("the mount that was held is there", room.Unit("mount/srv/wrong", "done"), vm.Guard)
	store.WaitEvent("ready", vm.Is("ready"), vm.Guard)
	console.WaitFor(`^\(the boot goes on\)`, vm.Guard)
	for tries := 0; kernelIsQuiet(t, store); tries++ { // the last thing that the screen mends
		if tries == 100 {
			t.Fatal("the kernel is still kept from the console")
		}
	}
	store.CtrlAltDel()
	store.Exited(vm.Guard)
	room.NothingLeft(t, store)
}

// kernelIsQuiet tells that only emergencies go to the consoles.
func kernelIsQuiet(t *testing.T, m *vm.VM) bool {
	t.Helper()
	return strings.HasPrefix(room.Hand(t, m, "read", "/proc/sys/kernel/printk", "").Field("text"), "1\t")
}

// vga is what stands on the machine's screen.
func vga(t *testing.T, m *vm.VM) string {
	t.Helper()
	const columns = 80
	text := room.Hand(t, m, "read", "/dev/vcs1", "").Field("text")
	var lines []string
	for ; len(text) >= columns; text = text[columns:] {
		lines = append(lines, strings.TrimRight(text[:columns], " "))
	}
	return strings.Join(lines, "\n")
}
