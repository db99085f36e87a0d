//go:build !guest

package kmod

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// fakeKernel records what a Loader asks for, and shows it below sys/module as the kernel does. It proves decisions;
// that modules load is what the guest test proves.
type fakeKernel struct {
	machine string
	mu      sync.Mutex
	calls   []string
	refuse  map[string]error
	hold    chan struct{} // closed: calls return
}

func (k *fakeKernel) add(how, file, parameters string) error {
	if k.hold != nil {
		<-k.hold
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	name := nameOf(file)
	k.calls = append(k.calls, strings.TrimSpace(how+" "+name+" "+parameters))
	if err := k.refuse[name]; err != nil {
		return err
	}
	return writeFiles(k.machine, map[string]string{"sys/module/" + name + "/initstate": "live\n", "sys/module/" + name + "/refcnt": "0\n"})
}

func (k *fakeKernel) finit(f *os.File, parameters string, compressed bool) error {
	if compressed {
		return k.add("compressed", f.Name(), parameters)
	}
	return k.add("file", f.Name(), parameters)
}

func (k *fakeKernel) init(image []byte, parameters string) error {
	_, name, _ := bytes.Cut(image, []byte(":"))
	return k.add("image", string(name), parameters)
}

func (k *fakeKernel) remove(name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls = append(k.calls, "remove "+name)
	if err := k.refuse[name]; err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(k.machine, "sys/module", name))
}

func writeFiles(dir string, files map[string]string) error {
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// loader is one over the excerpt, whose modules are empty files but for those that a test writes.
func loader(t *testing.T, cmdline string) (*Loader, *fakeKernel) {
	t.Helper()
	root, machine := t.TempDir(), t.TempDir()
	tree := filepath.Join(root, "lib/modules/6.12-cloud")
	if err := os.CopyFS(tree, os.DirFS("testdata/tree")); err != nil {
		t.Fatal(err)
	}
	for _, e := range excerpt(t).modules {
		if err := writeFiles(tree, map[string]string{e.Path: ""}); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeFiles(machine, map[string]string{
		"proc/cmdline": cmdline + "\n", "sys/module/compression": "xz\n",
		"sys/module/nvme/parameters/noacpi": "N\n", // built in
		"proc/filesystems":                  "nodev\tsysfs\n\text2\n\tbtrfs\n",
		"proc/crypto":                       "name         : cbc(aes)\ndriver       : cbc-aes-aesni\nmodule       : kernel\n",
	}); err != nil {
		t.Fatal(err)
	}
	k := &fakeKernel{machine: machine, refuse: map[string]error{}}
	l, err := openAt(root, "6.12-cloud", machine, k)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, k
}

func TestLoad(t *testing.T) {
	for _, test := range []struct {
		name    string
		cmdline string
		refuse  map[string]error
		asked   []string
		calls   []string
		fails   string // part of the error
	}{
		{name: "needs come first", asked: []string{"dm-crypt"}, calls: []string{"compressed dm_mod", "compressed dm_crypt"}},
		{name: "parameters come from the kernel command line", cmdline: `ro dm-crypt.max_read_size=4096 dm_mod.dm_numa_node=0 "dm_crypt.x=a b" -- dm_crypt.no=1`,
			asked: []string{"dm_crypt"}, calls: []string{"compressed dm_mod dm_numa_node=0", `compressed dm_crypt max_read_size=4096 x="a b"`}},
		{name: "what is built in is fine", asked: []string{"ecb", "fs-ext2", "nvme"}},
		{name: "what the kernel has and the tree does not is fine", asked: []string{"fs-sysfs", "crypto-cbc(aes)"},
			calls: nil},
		{name: "a blacklisted module is not loaded by its alias", cmdline: "modprobe.blacklist=virtio-net,x", asked: []string{"virtio:d00000001v00001AF4"}},
		{name: "a blacklisted module is loaded by its name", cmdline: "modprobe.blacklist=dm_crypt", asked: []string{"dm-crypt"},
			calls: []string{"compressed dm_mod", "compressed dm_crypt"}},
		{name: "a module that the kernel refuses to all is not tried for an alias", cmdline: "module_blacklist=crc32c_intel", asked: []string{"fs-xfs"},
			calls: []string{"compressed libcrc32c", "compressed xfs"}},
		{name: "another was first", refuse: map[string]error{"dm_mod": unix.EEXIST}, asked: []string{"dm-crypt"},
			calls: []string{"compressed dm_mod", "compressed dm_crypt"}},
		{name: "a wish that fails stops nothing", refuse: map[string]error{"crc32c_intel": unix.ENODEV}, asked: []string{"xfs"},
			calls: []string{"compressed crc32c_intel", "compressed libcrc32c", "compressed xfs"}},
		{name: "a need that fails stops what needs it", refuse: map[string]error{"dm_mod": unix.ENOEXEC}, asked: []string{"dm-crypt", "virtio_blk"},
			calls: []string{"compressed dm_mod", "compressed virtio_blk"}, fails: "load kernel module dm_mod (kernel/drivers/md/dm-mod.ko.xz): exec format error: it was not made for this kernel"},
		{name: "an accelerated cipher that this machine has no hardware for is served by the plain one", refuse: map[string]error{"aesni_intel": unix.ENODEV},
			asked: []string{"crypto-aes"}, calls: []string{"compressed cryptd", "compressed crypto_simd", "compressed gf128mul", "compressed aesni_intel"}},
		{name: "the same module by its own name is an error", refuse: map[string]error{"crc32c_intel": unix.ENODEV},
			asked: []string{"crc32c_intel"}, calls: []string{"compressed crc32c_intel"}, fails: "no hardware"},
		{name: "an unknown one is named and the rest is loaded", asked: []string{"zfs", "virtio_blk"}, calls: []string{"compressed virtio_blk"}, fails: "kernel module zfs: lib/modules/6.12-cloud has no module"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, k := loader(t, test.cmdline)
			k.refuse = test.refuse
			err := l.Load(t.Context(), test.asked...)
			if (err == nil) != (test.fails == "") || err != nil && !strings.Contains(err.Error(), test.fails) {
				t.Errorf("error %v, want one that says %q", err, test.fails)
			}
			if diff := cmp.Diff(test.calls, k.calls); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
			k.calls = nil
			if err == nil && test.refuse == nil {
				if err := l.Load(t.Context(), test.asked...); err != nil || len(k.calls) > 0 {
					t.Errorf("a second time: %v, %v", k.calls, err)
				}
			}
		})
	}
}

func TestAKernelThatUnpacksInAnotherWayGetsUnpackedModules(t *testing.T) {
	real, release := kernelTree(t)
	root, machine := t.TempDir(), t.TempDir()
	if err := writeFiles(machine, map[string]string{"sys/module/compression": "zstd\n"}); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(root, "lib/modules"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(root, "lib/modules", release, "kernel"), os.DirFS(filepath.Join(real, "lib/modules", release, "kernel/drivers/md"))); err != nil {
		t.Fatal(err)
	}
	if err := writeFiles(root, map[string]string{"lib/modules/" + release + "/modules.dep": "kernel/dm-crypt.ko.xz: kernel/dm-mod.ko.xz\nkernel/dm-mod.ko.xz:\n"}); err != nil {
		t.Fatal(err)
	}
	k := &imageKernel{}
	l, err := openAt(root, release, machine, k)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Load(t.Context(), "dm_crypt"); err != nil {
		t.Fatal(err)
	}
	if len(k.images) != 2 {
		t.Fatalf("%d modules were loaded", len(k.images))
	}
	for i, name := range []string{"dm_mod", "dm_crypt"} {
		// The name and the signature show that the file is whole, from front to end.
		if !bytes.Contains(k.images[i], []byte("name="+name+"\x00")) || !bytes.HasSuffix(k.images[i], []byte("~Module signature appended~\n")) {
			t.Errorf("%d bytes are not the signed module %s", len(k.images[i]), name)
		}
	}
}

type imageKernel struct {
	fakeKernel
	images [][]byte
}

func (k *imageKernel) init(image []byte, _ string) error {
	k.images = append(k.images, image)
	return nil
}

func TestManyLoadsOfOneModuleAreOneCall(t *testing.T) {
	l, k := loader(t, "")
	k.hold = make(chan struct{})
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if err := l.Load(t.Context(), "dm-crypt"); err != nil {
				t.Error(err)
			}
		})
	}
	close(k.hold)
	all.Wait()
	if diff := cmp.Diff([]string{"compressed dm_mod", "compressed dm_crypt"}, k.calls); diff != "" {
		t.Error(diff)
	}
}

func TestACallThatTakesTooLongIsNamedAndGoesOn(t *testing.T) {
	l, k := loader(t, "")
	k.hold = make(chan struct{})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("the deadline of the unit"))
	err := l.Load(ctx, "virtio_blk")
	if err == nil || !strings.Contains(err.Error(), "load kernel module virtio_blk: the kernel is still at it: the deadline of the unit") {
		t.Errorf("got %v", err)
	}
	close(k.hold)
	if err := l.Load(t.Context(), "virtio_blk"); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"compressed virtio_blk"}, k.calls); diff != "" {
		t.Error(diff)
	}
}

func TestColdplugLoadsWhatDevicesAskForAndMindsRealFailuresOnly(t *testing.T) {
	l, k := loader(t, "modprobe.blacklist=virtio_blk")
	if err := writeFiles(k.machine, map[string]string{
		"sys/devices/pci0000:00/0000:00:1f.2/modalias":         "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01\n",
		"sys/devices/pci0000:00/0000:00:04.0/virtio1/modalias": "virtio:d00000002v00001AF4\n",
		"sys/devices/pci0000:00/0000:00:05.0/virtio2/modalias": "virtio:d00000001v00001AF4\n",
		"sys/devices/system/cpu/modalias":                      "crypto-aes\n",
		"sys/devices/pnp0/00:01/modalias":                      "acpi:PNP0B00:\n",
		"sys/devices/platform/none/modalias":                   "",
	}); err != nil {
		t.Fatal(err)
	}
	k.refuse = map[string]error{"aesni_intel": unix.ENODEV, "net_failover": unix.ENOMEM}
	err := l.Coldplug(t.Context())
	if err == nil || !errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.ENODEV) {
		t.Errorf("got %v", err)
	}
	want := []string{
		"compressed cryptd", "compressed crypto_simd", "compressed gf128mul", "compressed aesni_intel",
		"compressed scsi_common", "compressed scsi_mod", "compressed libata", "compressed libahci", "compressed ahci",
		"compressed failover", "compressed net_failover",
	}
	if diff := cmp.Diff(want, k.calls); diff != "" {
		t.Error(diff)
	}
}

func TestRemoveTakesWhatNobodyUsesAnyMore(t *testing.T) {
	l, k := loader(t, "")
	if err := l.Load(t.Context(), "virtio_net"); err != nil {
		t.Fatal(err)
	}
	if err := writeFiles(k.machine, map[string]string{"sys/module/failover/refcnt": "1\n"}); err != nil {
		t.Fatal(err)
	}
	k.calls = nil
	if err := l.Remove("virtio-net", "xfs"); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"remove virtio_net", "remove net_failover"}, k.calls); diff != "" {
		t.Error(diff)
	}
	k.refuse = map[string]error{"failover": unix.EWOULDBLOCK}
	if err := l.Remove("failover"); !errors.Is(err, unix.EWOULDBLOCK) || !strings.Contains(err.Error(), "in use") {
		t.Errorf("got %v", err)
	}
	if err := l.Remove("ecb"); err == nil || !strings.Contains(err.Error(), "built in") {
		t.Errorf("got %v", err)
	}
}

func TestWithoutATreeOnlyWhatIsInTheKernelIsKnown(t *testing.T) {
	machine := t.TempDir()
	if err := writeFiles(machine, map[string]string{"sys/module/nvme/parameters/noacpi": "N\n"}); err != nil {
		t.Fatal(err)
	}
	l, err := openAt(t.TempDir(), "6.1", machine, &fakeKernel{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Load(t.Context(), "nvme"); err != nil {
		t.Error(err)
	}
	var unknown *UnknownError
	if err := l.Load(t.Context(), "dm-crypt"); !errors.As(err, &unknown) || !unknown.NoTree || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
