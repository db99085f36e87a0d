package scenario

import (
	"os"
	"path/filepath"
	"testing"

	"initd/qemu-tests/peer/config"
	"initd/qemu-tests/peer/network"
	"initd/qemu-tests/peer/nvmet"
	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

// The root is an NVMe/TCP disk that only the firmware's table (NBFT) knows of: addresses, the subsystem, two paths, this machine's name.
//
//   - The link of the table is set up, the subsystem connected by the path that answers (the other network has nobody), under the name and with the
//     digests of the table; its file system is the root, and the machine is handed over to it.
//   - The same machine boots once more from it.
func TestRootOnNVMeFromTheFirmware(t *testing.T) {
	const nic, other = "52:54:00:00:00:01", "52:54:00:00:00:02"
	first, second := vm.NewWire(t, "first"), vm.NewWire(t, "second")
	peer := config.Config{
		Links: []network.Link{{MAC: room.PeerMAC, Addresses: []string{nvmeA + "/24"}}},
		NVMet: &nvmet.Config{
			Subsystems: []nvmet.Subsystem{{NQN: nqn("root"), Serial: "root",
				Hosts:      []nvmet.Host{{NQN: "nqn.2014-08.org.nvmexpress:uuid:550e8400-e29b-41d4-a716-446655440001"}},
				Namespaces: []nvmet.Namespace{{ID: 1, Device: "serial:root", UUID: "550e8400-e29b-41d4-a716-446655440001"}}}},
			Ports: []nvmet.Port{{ID: 1, Address: nvmeA, Service: "4420", Subsystems: []string{nqn("root")}}},
		},
	}
	image := vm.NewImage(t).GoProgram("/init", "./qemu-tests/peer").Modules("virtio_net", "virtio_blk", "nvmet-tcp").JSON(config.Path, peer).Write("peer")
	target := vm.New(t, vm.Name("peer"), vm.Memory(256), vm.CPUs(1)).Initramfs(image).Disk(vm.NewDisk(t, "root", 64*vm.MiB, vm.Ext4{Label: "nbft-root", Dir: markerRoot(t)})).Wire(first, room.PeerMAC).Start()
	target.WaitEvent("the target is there", vm.Is("ready"), vm.Guard)

	s := room.New(t, room.KMSAV4, room.KMSBV4)
	s.Appliance = "apiVersion: initd/v1\nname: store\nfirmware: use\nmounts:\n  - {what: label/nbft-root, where: /, type: ext4}\n"
	table := filepath.Join(vm.Root(t), "hw", "firmware", "testdata", "nbft_two_paths.bin")
	store := vm.New(t, vm.Name("store"), vm.Memory(768), vm.QEMU("-acpitable", "file="+table)).Initramfs(s.Image()).
		Wire(first, nic).Wire(second, other).Append("initd.events=/dev/ttyS1")
	for n := range 2 {
		if n > 0 {
			store = store.Again()
		}
		store.Start()
		store.WaitEvent("the subsystem of the table is connected", room.Unit("nvme/nbft-1", "done"), vm.Guard)
		store.WaitEvent("its file system is mounted", room.Unit("mount/", "done"), vm.Guard)
		store.Console().WaitFor("bench: marker, 0 mounted", vm.Guard)
		if exit := store.Exited(vm.Guard); exit.Reason != "guest-shutdown" {
			t.Errorf("boot %d ended with %v, want the root's own power-off", n+1, exit)
		}
	}
}

// markerRoot is the folder of a root whose init says that it runs, and turns the machine off.
func markerRoot(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"dev", "proc", "sys", "run", "sbin", "tmp", "etc", "srv"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program := vm.Program(t, "./qemu-tests/guest/marker")
	if err := os.WriteFile(filepath.Join(dir, "sbin", "init"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
