package sysfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"initd/tests/tree"
)

const vda = "sys/devices/pci0000:00/0000:00:04.0/virtio1/block/vda"

// virtioDisk is what a virtio disk with one partition looks like, cut down to what the tests read.
func virtioDisk() fstest.MapFS {
	file, link := tree.File, tree.Link
	return fstest.MapFS{
		vda + "/uevent":      file("MAJOR=254\nMINOR=0\nDEVNAME=vda\nDEVTYPE=disk\nDISKSEQ=9\n"),
		vda + "/size":        file("2097152\n"),
		vda + "/removable":   file("0\n"),
		vda + "/ro":          file("x\n"),
		vda + "/offset":      file("-3\n"),
		vda + "/subsystem":   link("../../../../../../class/block"),
		vda + "/vda1/uevent": file("MAJOR=254\nMINOR=1\nDEVNAME=vda1\nDEVTYPE=partition\nPARTN=1\n"),
		vda + "/vda1/escape": link("../../../../../../../../etc/passwd"),
		vda + "/absolute":    link("/etc/passwd"),
		"sys/devices/pci0000:00/0000:00:04.0/virtio1/uevent":    file("DRIVER=virtio_blk\n"),
		"sys/devices/pci0000:00/0000:00:04.0/virtio1/subsystem": link("../../../../bus/virtio"),
		"sys/devices/pci0000:00/0000:00:04.0/virtio1/driver":    link("../../../../bus/virtio/drivers/virtio_blk"),
		"sys/devices/pci0000:00/0000:00:04.0/uevent":            file("PCI_CLASS=10000\n"),
		"sys/devices/pci0000:00/0000:00:04.0/subsystem":         link("../../../bus/pci"),
		"sys/devices/pci0000:00/0000:00:04.0/vendor":            file("0x1af4\n"),
		"sys/bus/virtio/drivers/virtio_blk/bind":                file(""),
		"sys/bus/pci/devices/0000:00:04.0":                      link("../../../devices/pci0000:00/0000:00:04.0"),
		"sys/class/block/vda":                                   link("../../devices/pci0000:00/0000:00:04.0/virtio1/block/vda"),
	}
}

func both(t *testing.T, test func(t *testing.T, f *FS)) {
	t.Run("MapFS", func(t *testing.T) { test(t, New(virtioDisk())) })
	t.Run("directory", func(t *testing.T) {
		dir := tree.New(t)
		dir.Copy(t, virtioDisk())
		f, err := Open(string(dir))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		test(t, f)
	})
}

func TestAttributesAreTyped(t *testing.T) {
	both(t, func(t *testing.T, f *FS) {
		if got, err := f.Uint(vda + "/size"); err != nil || got != 2097152 {
			t.Errorf("Uint = %d, %v", got, err)
		}
		if got, err := f.Hex("sys/devices/pci0000:00/0000:00:04.0/vendor"); err != nil || got != 0x1af4 {
			t.Errorf("Hex = %#x, %v", got, err)
		}
		if got, err := f.Int(vda + "/offset"); err != nil || got != -3 {
			t.Errorf("Int = %d, %v", got, err)
		}
		if got, err := f.Bool(vda + "/removable"); err != nil || got {
			t.Errorf("Bool = %v, %v", got, err)
		}
		if _, err := f.Bool(vda + "/ro"); err == nil || !strings.Contains(err.Error(), `"x" is neither`) {
			t.Errorf("Bool of x: %v", err)
		}
		if _, err := f.Uint(vda + "/none"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Uint of nothing: %v", err)
		}
		if _, err := f.Bytes(vda+"/uevent", 8); err == nil || !strings.Contains(err.Error(), "longer than 8") {
			t.Errorf("Bytes over the limit: %v", err)
		}
	})
}

func TestALinkNeverLeadsOutOfTheRoot(t *testing.T) {
	both(t, func(t *testing.T, f *FS) {
		for _, name := range []string{vda + "/vda1/escape", vda + "/absolute", "../etc/passwd", "/etc/passwd", "sys/../../etc"} {
			if got, err := f.Real(name); err == nil {
				t.Errorf("Real(%s) = %s, want an error", name, got)
			}
			if got, err := f.Bytes(name, 100); err == nil {
				t.Errorf("Bytes(%s) = %q, want an error", name, got)
			}
		}
	})
}

// A MapFS would itself recurse for ever here, so only the real thing is asked.
func TestALinkToItselfIsAnError(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("loop", filepath.Join(dir, "loop")); err != nil {
		t.Fatal(err)
	}
	f, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := f.Real("loop"); err == nil || !strings.Contains(err.Error(), "too many links") {
		t.Errorf("Real = %q, %v", got, err)
	}
}

func TestADeviceKnowsItsPlace(t *testing.T) {
	both(t, func(t *testing.T, f *FS) {
		disk, err := f.Class("block", "vda")
		if err != nil {
			t.Fatal(err)
		}
		if disk.Path != vda {
			t.Errorf("path %s", disk.Path)
		}
		if got := disk.Subsystem(); got != "block" {
			t.Errorf("subsystem %q", got)
		}
		want := map[string]string{"MAJOR": "254", "MINOR": "0", "DEVNAME": "vda", "DEVTYPE": "disk", "DISKSEQ": "9"}
		if diff := cmp.Diff(want, disk.Uevent()); diff != "" {
			t.Error(diff)
		}
		parent, ok := disk.Parent()
		if !ok || parent.Name() != "virtio1" || parent.Driver() != "virtio_blk" {
			t.Errorf("parent %v", parent.Path)
		}
		if pci, ok := disk.Above("pci", ""); !ok || pci.Name() != "0000:00:04.0" {
			t.Errorf("pci device above: %v", pci.Path)
		}
		if got := disk.Inherited("vendor"); got != "0x1af4" {
			t.Errorf("inherited vendor %q", got)
		}
		if _, err := f.Class("pci", "0000:00:04.0"); err != nil {
			t.Errorf("by bus: %v", err)
		}
		if _, err := f.Class("block", "../../x"); err == nil {
			t.Error("a name with dots was looked up")
		}
		if _, err := f.Device("sys/bus"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a directory that is no device: %v", err)
		}
	})
}

func FuzzParseProperties(f *testing.F) {
	f.Add([]byte("MAJOR=254\nMINOR=0\nDEVNAME=vda\nDEVTYPE=disk\n"))
	f.Add([]byte("=x\n\nA\nB=\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		for key := range ParseProperties(content) {
			if key == "" {
				t.Error("an empty key")
			}
		}
	})
}
