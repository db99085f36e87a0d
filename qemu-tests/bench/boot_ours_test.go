package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"initd/qemu-tests/vm"
)

// rootDisk is the root: an init that is the marker, and mount points.
func rootDisk(b *testing.B) *vm.Disk {
	b.Helper()
	dir := filepath.Join(b.TempDir(), "root")
	for _, d := range []string{"dev", "proc", "sys", "run", "sbin", "tmp", "etc", "srv/d1", "srv/d2", "srv/d3", "srv/d4", "srv/d5"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			b.Fatal(err)
		}
	}
	program := vm.Program(b, "./qemu-tests/guest/marker")
	write(b, filepath.Join(dir, "sbin/init"), program, 0o755)
	return vm.NewDisk(b, "root", 64*vm.MiB, vm.Ext4{Label: "root", UUID: rootUUID, Dir: dir})
}

func write(b *testing.B, file string, content []byte, mode os.FileMode) {
	b.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(file, content, mode); err != nil {
		b.Fatal(err)
	}
}

// ours is the image of initd-image, with the keys in an archive of their own, as a machine's identity is given to it.
func ours(b *testing.B, _ *machine, volumes []volume) (images, args []string) {
	b.Helper()
	keys := vm.NewOverlay(b)
	var media, mounts strings.Builder
	for _, v := range volumes {
		fmt.Fprintf(&media, "    - {name: %s, device: uuid/%s, key: {file: /etc/initd/keys/%s}}\n", v.name, v.uuid, v.name)
		fmt.Fprintf(&mounts, "  - {what: luks/%s, where: /srv/%s, type: ext4}\n", v.name, v.name)
		keys.Bytes("/etc/initd/keys/"+v.name, v.key, 0o600)
	}
	file := "apiVersion: initd/v1\nname: store\nmedia:\n  luks:\n" + media.String() +
		"mounts:\n  - {what: uuid/" + rootUUID + ", where: /, type: ext4}\n" + mounts.String()
	return []string{shippedImage(b, file), keys.Write("keys")}, nil
}

// shippedImage makes an image by the shipped initd-image.
func shippedImage(b *testing.B, appliance string) string {
	b.Helper()
	dir := b.TempDir()
	file, out := filepath.Join(dir, "appliance.yaml"), filepath.Join(dir, "image")
	write(b, file, []byte(appliance), 0o644)
	cmd := exec.Command(vm.Shipped(b, "initd-image"), "initramfs", "-f", file, "-o", out,
		"--kernel-dir", kernelDir(b), "--drivers", "virtio", "--cache", filepath.Join(vm.Root(b), "out", "cache", "debs"))
	if text, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("initd-image: %v\n%s", err, text)
	}
	return out
}

// floor is the image of a small program and cryptsetup.
func floor(b *testing.B, _ *machine, volumes []volume) (images, args []string) {
	b.Helper()
	image := vm.NewImage(b).GoProgram("/init", "./qemu-tests/guest/floor").Program("cryptsetup").
		Modules("virtio_blk", "dm_crypt", "xts", "aesni_intel")
	for _, v := range volumes {
		image.Bytes("/keys/"+v.name, v.key, 0o600)
	}
	return []string{image.Write("floor")}, nil
}
