//go:build !guest

package kmod

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// excerpt is a small part of what depmod wrote for Debian's cloud kernel 6.12.
func excerpt(t testing.TB) *Index {
	t.Helper()
	x, err := Open(os.DirFS("testdata/tree"), "6.12-cloud")
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestResolve(t *testing.T) {
	for _, test := range []struct {
		name    string
		asked   []string
		load    string // what is loaded, in order; ? marks the optional
		builtin string
	}{
		{name: "a module brings what it needs first", asked: []string{"dm-crypt"}, load: "dm_mod dm_crypt"},
		{name: "dashes and underscores are equal", asked: []string{"dm_crypt", "dm-mod"}, load: "dm_mod dm_crypt"},
		{name: "a soft dependency that is built in is told", asked: []string{"xts"}, load: "xts", builtin: "ecb"},
		{name: "every softdep line counts", asked: []string{"btrfs"},
			load: "?crc32c_intel libcrc32c raid6_pq xor ?blake2b_generic ?sha256_ssse3 btrfs", builtin: "sha256_generic"},
		{name: "post comes after", asked: []string{"vfio"}, load: "vfio ?vfio_iommu_type1"},
		{name: "a wish for something that needs the wisher is still loaded in order", asked: []string{"vfio_iommu_type1"}, load: "vfio vfio_iommu_type1"},
		{name: "a file system's alias", asked: []string{"fs-xfs"}, load: "?crc32c_intel libcrc32c xfs"},
		{name: "a built-in file system loads nothing but what it wishes for", asked: []string{"fs-ext4"}, load: "?crc32c_intel", builtin: "ext4"},
		{name: "a cipher brings its template and its parts", asked: []string{"crypto-xts(aes)"},
			load: "xts cryptd crypto_simd gf128mul aesni_intel", builtin: "ecb aes_generic"},
		{name: "a virtio device", asked: []string{"virtio:d00000002v00001AF4"}, load: "virtio_blk"},
		{name: "a PCI device by its class", asked: []string{"pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01"},
			load: "scsi_common scsi_mod libata libahci ahci"},
		{name: "a symbol", asked: []string{"symbol:crc32c"}, load: "?crc32c_intel libcrc32c"},
		{name: "what two names need is loaded once", asked: []string{"xfs", "btrfs", "xfs"},
			load: "?crc32c_intel libcrc32c xfs raid6_pq xor ?blake2b_generic ?sha256_ssse3 btrfs", builtin: "sha256_generic"},
		{name: "what was wished for first and is asked for later is not optional", asked: []string{"vfio", "vfio_iommu_type1"}, load: "vfio vfio_iommu_type1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := excerpt(t).Resolve(test.asked...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.load, spell(r.Load)); diff != "" {
				t.Errorf("to load (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.builtin, spell(r.Builtin)); diff != "" {
				t.Errorf("built in (-want +got):\n%s", diff)
			}
		})
	}
}

func spell(steps []Step) string {
	var words []string
	for _, s := range steps {
		if s.Optional {
			words = append(words, "?"+s.Name)
		} else {
			words = append(words, s.Name)
		}
	}
	return strings.Join(words, " ")
}

func TestEveryUnknownNameIsNamedWithTheRelease(t *testing.T) {
	r, err := excerpt(t).Resolve("zfs", "dm-crypt", "fs-reiserfs", "crypto-xts(serpent)")
	if got := spell(r.Load); got != "dm_mod dm_crypt xts" && got != "dm_mod dm_crypt" {
		t.Errorf("the known one comes to %q", got)
	}
	var unknown *UnknownError
	if !errors.As(err, &unknown) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"zfs", "fs-reiserfs", "crypto-serpent", "crypto-xts(serpent)", "lib/modules/6.12-cloud"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %s", err, want)
		}
	}
}

func TestModuleFilesOutsideOfTheTreeAreRefused(t *testing.T) {
	for _, line := range []string{"/etc/shadow.ko:", "../x.ko:", "kernel/../../x.ko:", "a.ko: /b.ko", "kernel/a.ko b.ko", ":", "a.ko: b.ko"} {
		tree := mapTree(map[string][]byte{"modules.dep": []byte(line + "\n")})
		if x, err := Open(tree, "6.1"); err == nil {
			t.Errorf("%q is taken: %v", line, x.files)
		}
	}
}

func TestWeakDependenciesAreInAClosureAndNotInAnOrder(t *testing.T) {
	x, err := Open(mapTree(map[string][]byte{
		"modules.dep":     []byte("kernel/a.ko:\nkernel/b.ko:\n"),
		"modules.weakdep": []byte("# comment\nweakdep a b\n"),
	}), "6.14")
	if err != nil {
		t.Fatal(err)
	}
	r, err := x.Resolve("a")
	if err != nil || spell(r.Load) != "a" {
		t.Errorf("Resolve: %q, %v", spell(r.Load), err)
	}
	r, err = x.Closure("a")
	if err != nil || spell(r.Load) != "a ?b" {
		t.Errorf("Closure: %q, %v", spell(r.Load), err)
	}
}

func TestColdplugPassesOverDevicesThatNoModuleDrives(t *testing.T) {
	r := excerpt(t).Coldplug([]string{"acpi:PNP0A03:", "virtio:d00000001v00001AF4", "virtio:d00000002v00001AF4", "cpu:type:x86"})
	if diff := cmp.Diff("failover net_failover virtio_net virtio_blk", spell(r.Load)); diff != "" {
		t.Error(diff)
	}
}
