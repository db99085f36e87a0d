//go:build !guest

package kmod

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// kernelTree returns the folder that holds lib/modules/RELEASE of the kernel that the test machines boot.
func kernelTree(t *testing.T) (root, release string) {
	t.Helper()
	root, err := filepath.Abs("../../out/cache/kernel")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(root, "version"))
	if err != nil {
		t.Fatalf("%v; run make kernel", err)
	}
	return root, strings.TrimSpace(string(b))
}

// oracleTree is the kernel's tree for Debian's modprobe. That one follows only the first softdep line of a module, and
// none of what is built in; here each module gets one line with all of them, so that both programs read the same.
func oracleTree(t *testing.T) (root, release string, x *Index) {
	t.Helper()
	real, release := kernelTree(t)
	from := filepath.Join(real, "lib/modules", release)
	x, err := Open(os.DirFS(from), release)
	if err != nil {
		t.Fatal(err)
	}
	root = t.TempDir()
	to := filepath.Join(root, "lib/modules", release)
	if err := os.MkdirAll(to, 0o755); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == "modules.softdep" {
			continue
		}
		if err := os.Symlink(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	var soft strings.Builder
	for _, name := range slices.Sorted(maps.Keys(x.soft)) {
		writeSoftdep(&soft, x.soft[name])
	}
	if err := os.WriteFile(filepath.Join(to, "modules.softdep"), []byte(soft.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return root, release, x
}

// oracle runs Debian's modprobe without any configuration of this machine.
func oracle(t *testing.T, args ...string) (string, error) {
	t.Helper()
	program, err := exec.LookPath("/sbin/modprobe")
	if err != nil {
		t.Fatal("no modprobe: install the package kmod")
	}
	out, err := exec.Command(program, append([]string{"-C", "/dev/null"}, args...)...).Output()
	return string(out), err
}

// shown reads what modprobe -D prints: module names by the files, each once.
func shown(out string) (files, builtin []string) {
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		list := &files
		if f[0] == "builtin" {
			list = &builtin
		}
		if name := nameOf(f[1]); !slices.Contains(*list, name) {
			*list = append(*list, name)
		}
	}
	return files, builtin
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }

func TestEveryModuleResolvesToTheSetThatDebiansModprobeShows(t *testing.T) {
	root, release, x := oracleTree(t)
	if len(x.files) < 500 {
		t.Fatalf("the kernel has only %d modules: the tree is not whole", len(x.files))
	}
	for _, name := range x.files {
		out, err := oracle(t, "-D", "-d", root, "-S", release, name)
		if err != nil {
			t.Fatalf("modprobe -D %s: %v", name, err)
		}
		want, _ := shown(out)
		r, err := x.Resolve(name)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range r.Load {
			got = append(got, s.Name)
		}
		if diff := cmp.Diff(sorted(want), sorted(got)); diff != "" {
			t.Errorf("%s: (-modprobe +Resolve)\n%s", name, diff)
		}
		checkOrder(t, x, name, r)
	}
}

// checkOrder wants every module once, after all that it needs, and after what it wishes to come first unless that needs
// it in turn.
func checkOrder(t *testing.T, x *Index, asked string, r Resolution) {
	t.Helper()
	at := map[string]int{}
	for i, s := range r.Load {
		if _, twice := at[s.Name]; twice {
			t.Errorf("%s: %s is loaded twice", asked, s.Name)
		}
		at[s.Name] = i
	}
	for i, s := range r.Load {
		for _, need := range x.modules[s.Name].needs {
			if j, ok := at[need]; !ok || j > i {
				t.Errorf("%s: %s comes before %s, which it needs", asked, s.Name, need)
			}
		}
		for _, wish := range x.soft[s.Name].pre {
			m, err := x.Lookup(wish)
			if err != nil {
				continue
			}
			for _, w := range m.Modules {
				if !w.Builtin() && at[w.Name] > i && !slices.Contains(x.modules[w.Name].needs, s.Name) {
					t.Errorf("%s: %s comes before %s, which it would like to come first", asked, s.Name, w.Name)
				}
			}
		}
	}
}

func TestAllModulesAtOnceComeInAnOrderThatLoads(t *testing.T) {
	_, _, x := oracleTree(t)
	r, err := x.Resolve(x.files...)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Load) != len(x.files) {
		t.Errorf("%d of %d modules are in the order", len(r.Load), len(x.files))
	}
	checkOrder(t, x, "all", r)
}

// Names as the kernel, udev and people write them: real devices, ciphers, file systems, symbols, near misses.
func names(x *Index) []string {
	list := []string{
		"crypto-xts", "crypto-aes", "crypto-sha256", "crypto-crc32c", "xts", "fs-xfs", "fs-ext4", "fs-btrfs", "ext4", "dm-crypt", "dm_crypt",
		"aesni-intel", "aesni_intel", "crypto-ecb", "symbol:dm_register_target", "net-pf-38", "char-major-10-237", "devname:loop-control",
		"virtio:d00000002v00001AF4", "virtio:d00000001v00001AF4", "pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00",
		"pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01", "pci:v0000144Dd0000A808sv0000144Dd0000A801bc01sc08i02",
		"scsi:t-0x00", "nvme", "nvme-tcp", "iscsi_tcp", "no-such-module", "crypto-nonesuch", "pci:v0000FFFFd0000FFFFsv0sd0bc00sc00i00", "",
	}
	for _, a := range x.aliases.all() {
		if !wild(a.pattern) {
			list = append(list, a.pattern)
		}
	}
	// What matches a pattern: the pattern itself with its stars filled in.
	for i, a := range x.aliases.wild {
		if i%7 == 0 && !strings.Contains(a.pattern, "[") {
			list = append(list, strings.NewReplacer("*", "0A", "?", "1").Replace(a.pattern))
		}
	}
	return list
}

func TestAliasesStandForTheModulesThatDebiansModprobeNames(t *testing.T) {
	root, release, x := oracleTree(t)
	asked := 0
	for i, name := range names(x) {
		if name == "" || i > 60 && i%5 != 0 {
			continue
		}
		asked++
		out, err := oracle(t, "-q", "-R", "-d", root, "-S", release, "--", name)
		var want []string // modprobe names a module once for each pattern that matches
		for _, name := range strings.Fields(out) {
			if !slices.Contains(want, name) {
				want = append(want, name)
			}
		}
		m, lookupErr := x.Lookup(name)
		var got []string
		for _, module := range m.Modules {
			// What is built in stands beside modules here, and only in their place there.
			if !module.Builtin() || len(got) == 0 {
				got = append(got, module.Name)
			}
		}
		if (err == nil) != (lookupErr == nil) {
			t.Errorf("%s: modprobe says %v, Lookup says %v", name, err, lookupErr)
		}
		if diff := cmp.Diff(want, got); err == nil && diff != "" {
			t.Errorf("%s: (-modprobe +Lookup)\n%s", name, diff)
		}
	}
	if asked < 100 {
		t.Errorf("only %d names were asked", asked)
	}
}

func TestASubsetAnswersAsTheWholeDoes(t *testing.T) {
	_, _, x := oracleTree(t)
	asked := []string{"dm-crypt", "crypto-xts(aes)", "fs-xfs", "fs-ext4", "virtio_net", "nvme-tcp", "fs-btrfs"}
	whole, err := x.Closure(asked...)
	if err != nil {
		t.Fatal(err)
	}
	var keep []Module
	for _, s := range whole.Load {
		keep = append(keep, Module{Name: s.Name, Path: strings.TrimSuffix(s.Path, ".xz")})
	}
	files, err := x.Subset(keep)
	if err != nil {
		t.Fatal(err)
	}
	tree := mapTree(files)
	pruned, err := Open(tree, x.Release())
	if err != nil {
		t.Fatal(err)
	}
	got, err := pruned.Closure(asked...)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole.Load {
		whole.Load[i].Path = strings.TrimSuffix(whole.Load[i].Path, ".xz")
	}
	if diff := cmp.Diff(whole, got); diff != "" {
		t.Errorf("(-whole +subset)\n%s", diff)
	}
	again, err := pruned.Subset(keep)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(files, again); diff != "" {
		t.Errorf("a subset of the subset differs:\n%s", diff)
	}
	unknown := (*UnknownError)(nil)
	if _, err := pruned.Resolve("nfsd"); !errors.As(err, &unknown) || unknown.Name != "nfsd" {
		t.Errorf("a module that was left out: %v", err)
	}
}

func TestATreeWithoutModulesDepIsAnError(t *testing.T) {
	if _, err := Open(mapTree(nil), "6.1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
