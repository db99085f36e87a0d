//go:build guest

package kmod

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// The test binary is also the modprobe that the guest's kernel calls.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "modprobe" {
		os.Exit(Modprobe(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func system(t *testing.T) *Loader {
	t.Helper()
	l, err := System("/")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func contains(t *testing.T, file, word string) bool {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Contains(strings.Fields(string(b)), word)
}

func TestAnEncryptedVolumesModulesLoadOnceForManyWhoAsk(t *testing.T) {
	l := system(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := l.Load(t.Context(), "dm-crypt", "crypto-xts(aes)", "fs-ext4"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, name := range []string{"dm_mod", "dm_crypt", "xts"} {
		if !l.present(name) {
			t.Errorf("%s is not in the kernel", name)
		}
	}
	if !contains(t, "/proc/misc", "device-mapper") {
		t.Error("the device mapper is not there")
	}
}

func TestAModuleThatIsLoadedElsewhereMeanwhileIsFine(t *testing.T) {
	l := system(t)
	m, err := l.index.Lookup("dm-crypt")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Load(t.Context(), "dm-crypt"); err != nil {
		t.Fatal(err)
	}
	// As if the look at /sys/module had come too early.
	if err := l.insertFile(m.Modules[0], ""); err != nil {
		t.Errorf("loading %s again: %v", m.Modules[0].Name, err)
	}
}

// modprobePath makes this binary the kernel's modprobe and returns its path.
func modprobePath(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "modprobe")
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	const sysctl = "/proc/sys/kernel/modprobe"
	before, err := os.ReadFile(sysctl)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(sysctl, []byte(path), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(sysctl, before, 0); err != nil {
			t.Error(err)
		}
	})
	return path
}

func TestTheKernelsOwnRequestBringsAFileSystem(t *testing.T) {
	modprobePath(t)
	if contains(t, "/proc/filesystems", "squashfs") {
		t.Fatal("squashfs is there before anybody asked: the test proves nothing")
	}
	fd, err := unix.Fsopen("squashfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		t.Fatalf("fsopen: %v", err)
	}
	unix.Close(fd)
	if !contains(t, "/proc/filesystems", "squashfs") {
		t.Error("squashfs was opened and is not listed")
	}
	if _, err := unix.Fsopen("nosuchfs", unix.FSOPEN_CLOEXEC); !errors.Is(err, unix.ENODEV) {
		t.Errorf("a file system that nobody has: %v", err)
	}
}

func TestModprobePassesParametersAndRemoves(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if status := Modprobe([]string{"-v", "loop", "max_loop=3"}, &stdout, &stderr); status != 0 {
		t.Fatalf("status %d: %s", status, &stderr)
	}
	if !strings.HasPrefix(stdout.String(), "insmod /lib/modules/") || !strings.HasSuffix(stdout.String(), " max_loop=3\n") {
		t.Errorf("-v printed %q", &stdout)
	}
	if !contains(t, "/sys/module/loop/parameters/max_loop", "3") {
		t.Error("the parameter did not reach the module")
	}
	if status := Modprobe([]string{"--first-time", "loop"}, &stdout, &stderr); status != 1 {
		t.Errorf("--first-time with a module that is there: status %d", status)
	}
	if status := Modprobe([]string{"-r", "loop"}, &stdout, &stderr); status != 0 {
		t.Errorf("-r: status %d: %s", status, &stderr)
	}
	if _, err := os.Stat("/sys/module/loop"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("loop after -r: %v", err)
	}
	stderr.Reset()
	if status := Modprobe([]string{"loop", "no_such_parameter_type=1", "max_loop=many"}, &stdout, &stderr); status != 1 || !strings.Contains(stderr.String(), "load kernel module loop") {
		t.Errorf("a bad value: status %d, %q", status, &stderr)
	}
}

func TestColdplugLoadsTheMachinesDrivers(t *testing.T) {
	l := system(t)
	aliases, err := Modaliases(l.sys.FS())
	if err != nil {
		t.Fatal(err)
	}
	if len(aliases) < 5 {
		t.Errorf("only %d devices have a modalias: %v", len(aliases), aliases)
	}
	if err := l.Coldplug(t.Context()); err != nil {
		t.Error(err)
	}
	known := 0
	for _, alias := range aliases {
		m, err := l.index.Lookup(alias)
		if err != nil {
			continue // a device that no module drives
		}
		known++
		if !slices.ContainsFunc(m.Modules, func(m Module) bool { return m.Builtin() || l.present(m.Name) }) {
			t.Errorf("none of %v is in the kernel for %s", m.Modules, alias)
		}
	}
	if known == 0 {
		t.Errorf("no module drives any of %v", aliases)
	}
}
