package scenario

import (
	"os"
	"path/filepath"
	"testing"

	"initd/qemu-tests/vm"
)

// harnessDisks holds one disk of each kind that the harness fills; qemu-tests/guest/disks looks at them from inside.
func harnessDisks(t *testing.T) []*vm.Disk {
	const size = 32 * vm.MiB
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hello"), []byte("hello from the host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	files := vm.Ext4{Label: "files", Dir: dir}
	first, second := []byte("first key of the test"), []byte("second key of the test")
	header := vm.NewDisk(t, "luks-header", 16*vm.MiB)
	return []*vm.Disk{
		vm.NewDisk(t, "ext4", size, files),
		vm.NewDisk(t, "gpt", size, vm.GPT{
			{Label: "plain", Size: 16 * vm.MiB, Content: files},
			{Label: "empty", Size: 4 * vm.MiB},
		}),
		vm.NewDisk(t, "luks1", size, vm.LUKS{Version: 1, Keys: [][]byte{first}, Content: files}),
		vm.NewDisk(t, "luks2", size+16*vm.MiB, vm.LUKS{Keys: [][]byte{first, second}, Content: files}),
		vm.NewDisk(t, "luks2-4k", size+16*vm.MiB, vm.LUKS{Keys: [][]byte{first}, KDF: "argon2id", MemoryKiB: 32768, SectorSize: 4096, Content: files}),
		vm.NewDisk(t, "luks-data", size, vm.LUKS{Keys: [][]byte{first}, Header: header.Path, Content: files}),
		header,
	}
}
