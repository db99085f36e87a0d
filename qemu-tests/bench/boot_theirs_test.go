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

// theirModules are what the tools would find out by themselves on the machine that boots; they run on another one.
const theirModules = "virtio_blk virtio_pci dm_crypt xts ecb aesni_intel sha256_ssse3 crc32c_intel"

// debian unpacks one of the roots that bootstrap/peer-roots.sh makes, with the kernel of the machines.
func debian(b *testing.B, name string) (dir, version string) {
	b.Helper()
	if os.Geteuid() != 0 {
		b.Fatal("this benchmark runs the tools of other people in their own Debian root: run it as root")
	}
	if out, err := exec.Command(filepath.Join(vm.Root(b), "bootstrap", "peer-roots.sh")).CombinedOutput(); err != nil {
		b.Fatalf("make the roots of initramfs-tools and dracut: %v\n%s", err, out)
	}
	dir = filepath.Join(b.TempDir(), name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	tool(b, "tar", "-x", "-p", "--numeric-owner", "-f", filepath.Join(vm.Root(b), "out/cache/peer-roots", name+".tar"), "-C", dir, "--exclude=./dev/*")
	modules := kernelDir(b)
	version = filepath.Base(modules)
	for _, d := range []string{"lib/modules", "boot"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			b.Fatal(err)
		}
	}
	tool(b, "cp", "-a", modules, filepath.Join(dir, "lib/modules/"))
	tool(b, "cp", vm.KernelFile(b, "config"), filepath.Join(dir, "boot/config-"+version))
	return dir, version
}

func tool(b *testing.B, name string, args ...string) {
	b.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		b.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// inside runs a command in a root, with /dev and /proc in a mount namespace of its own.
func inside(b *testing.B, dir string, command ...string) {
	b.Helper()
	script := `mount --bind /dev "$0/dev" && mount -t proc proc "$0/proc" && exec chroot "$0" "$@"`
	tool(b, "unshare", append([]string{"--mount", "sh", "-c", script, dir}, command...)...)
}

// crypttab writes the volumes and their keys into a root, as crypttab(5) wants them.
func crypttab(b *testing.B, dir, options string, volumes []volume) {
	b.Helper()
	var tab strings.Builder
	for _, v := range volumes {
		fmt.Fprintf(&tab, "%s UUID=%s /etc/keys/%s.key %s\n", v.name, v.uuid, v.name, options)
		write(b, filepath.Join(dir, "etc/keys", v.name+".key"), v.key, 0o600)
	}
	write(b, filepath.Join(dir, "etc/crypttab"), []byte(tab.String()), 0o644)
}

// initramfsTools is mkinitramfs with cryptroot's hook, and a script that mounts the volumes as the root will want them.
func initramfsTools(b *testing.B, _ *machine, volumes []volume) (images, args []string) {
	b.Helper()
	dir, version := debian(b, "initramfs-tools")
	crypttab(b, dir, "luks,initramfs", volumes)
	write(b, filepath.Join(dir, "etc/cryptsetup-initramfs/conf-hook"), []byte("KEYFILE_PATTERN=\"/etc/keys/*.key\"\nASKPASS=n\n"), 0o644)
	write(b, filepath.Join(dir, "etc/initramfs-tools/conf.d/bench"), []byte("MODULES=list\nUMASK=0077\n"), 0o644)
	write(b, filepath.Join(dir, "etc/initramfs-tools/modules"), []byte("virtio_blk\n"), 0o644)
	write(b, filepath.Join(dir, "etc/initramfs-tools/hooks/bench"), []byte("#!/bin/sh\n[ \"$1\" != prereqs ] || exit 0\n"+
		". /usr/share/initramfs-tools/hook-functions\nmanual_add_modules "+theirModules+"\n"), 0o755)
	mounts := "#!/bin/sh\n[ \"$1\" != prereqs ] || exit 0\n"
	for _, v := range volumes {
		mounts += fmt.Sprintf("mount -t ext4 /dev/mapper/%s \"$rootmnt/srv/%s\"\n", v.name, v.name)
	}
	write(b, filepath.Join(dir, "etc/initramfs-tools/scripts/local-bottom/bench"), []byte(mounts), 0o755)
	inside(b, dir, "mkinitramfs", "-o", "/boot/image", version)
	return []string{filepath.Join(dir, "boot/image")}, []string{"root=UUID=" + rootUUID, "ro"}
}

// dracut is its crypt module without systemd; its fstab.sys has the mounts.
func dracut(b *testing.B, _ *machine, volumes []volume) (images, args []string) {
	b.Helper()
	dir, version := debian(b, "dracut")
	crypttab(b, dir, "luks", volumes)
	args = []string{"root=UUID=" + rootUUID, "ro"}
	var mounts strings.Builder
	for _, v := range volumes {
		fmt.Fprintf(&mounts, "/dev/mapper/%s /srv/%s ext4 defaults 0 0\n", v.name, v.name)
		args = append(args, "rd.luks.uuid="+v.uuid)
	}
	write(b, filepath.Join(dir, "etc/fstab.sys"), []byte(mounts.String()), 0o644)
	inside(b, dir, "dracut", "--force", "--no-hostonly", "--no-hostonly-cmdline", "--no-early-microcode", "--zstd",
		"--modules", "bash base dm crypt rootfs-block fstab-sys udev-rules fs-lib", "--add-drivers", theirModules,
		"--include", "/etc/crypttab", "/etc/crypttab", "--include", "/etc/keys", "/etc/keys", "/boot/image", version)
	return []string{filepath.Join(dir, "boot/image")}, args
}
