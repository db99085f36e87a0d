package bench

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"initd/qemu-tests/vm"
)

// The limits of what is shipped, in MiB.
const (
	initLimit      = 2
	initdLimit     = 16
	initramfsLimit = 6
)

const mib = 1 << 20

// sized is an appliance that asks for no kernel module and no program, so that its image is what initd itself adds to an
// initramfs.
const sized = `apiVersion: initd/v1
name: store
network:
  links:
    - {name: room, match: {mac: "52:54:00:00:00:01"}, addresses: [192.0.2.17/24]}
keys:
  tls: {ca: pki/ca.pem, cert: pki/store.pem, key: pki/store.key}
  servers:
    - {name: kms-a, address: "192.0.2.21:5696"}
    - {name: kms-b, address: "192.0.2.22:5696"}
time: {servers: [192.0.2.22]}
mounts:
  - {where: /srv/cache, type: tmpfs}
`

// What is shipped is small, static and stripped; the same bytes come out on every machine, so that this is a test.
func TestTheProgramsAreSmall(t *testing.T) { show(t, "Sizes", sizes(t)...) }

func BenchmarkSizes(b *testing.B) { show(b, "Sizes", sizes(b)...) }

func sizes(t testing.TB) []row {
	t.Helper()
	var rows []row
	for _, p := range []struct {
		name  string
		limit float64
	}{{"init", initLimit}, {"initd", initdLimit}} {
		path := vm.Shipped(t, p.name)
		static(t, path)
		rows = append(rows, below(p.name+", static and stripped", size(t, path), p.limit, "MiB"))
	}
	return append(rows, below("init, initd and configuration in the initramfs, compressed", packed(t), initramfsLimit, "MiB"))
}

// size of a file in MiB.
func size(t testing.TB, path string) float64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return float64(info.Size()) / mib
}

// static fails for a program that asks for an interpreter or libraries, or that carries symbols.
func static(t testing.TB, path string) {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("%s is not static: it has a segment %v", path, p.Type)
		}
	}
	for _, s := range f.Sections {
		if s.Type == elf.SHT_SYMTAB || strings.HasPrefix(s.Name, ".debug") || strings.HasPrefix(s.Name, ".zdebug") {
			t.Errorf("%s is not stripped: it has a section %s", path, s.Name)
		}
	}
}

// packed is the size in MiB of an image with nothing but the two programs and their configuration, compressed as the
// shipped initd-image does it.
func packed(t testing.TB) float64 {
	t.Helper()
	dir := t.TempDir()
	file, out := filepath.Join(dir, "appliance.yaml"), filepath.Join(dir, "image")
	if err := os.WriteFile(file, []byte(sized), 0o644); err != nil {
		t.Fatal(err)
	}
	image := exec.Command(vm.Shipped(t, "initd-image"), "initramfs", "-f", file, "-o", out,
		"--kernel-dir", kernelDir(t), "--drivers", "none", "--compress", "zstd", "--cache", filepath.Join(vm.Root(t), "out", "cache", "debs"))
	if text, err := image.CombinedOutput(); err != nil {
		t.Fatalf("initd-image: %v\n%s", err, text)
	}
	return size(t, out)
}

func kernelDir(t testing.TB) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(vm.KernelFile(t, "lib/modules"), "*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("kernel modules: %v, %v; run make kernel", found, err)
	}
	return found[0]
}
