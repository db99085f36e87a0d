package convert

import (
	"archive/tar"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"initd/v2v/image"
	"initd/v2v/image/imagetest"
	"initd/v2v/vmdk"
)

// Two full disks of one size have the same map: nothing but the user's word tells which one was begun with.
func TestAnotherDiskOfTheApplianceBeginsAgain(t *testing.T) {
	src, dst := filepath.Join(t.TempDir(), "vm.ova"), filepath.Join(t.TempDir(), "dst")
	appliance(t, src, imagetest.Text, imagetest.Random)
	req := Request{Source: src, Target: dst, TargetFormat: "raw", Resume: true, Workers: 1, Opening: image.OpenOptions{Disk: "vmdisk0"}}
	unfinished(t, req)
	req.Opening.Disk = "vmdisk1"
	if out := mustRun(t, req); out.Resumed != 0 {
		t.Errorf("it went on at %d", out.Resumed)
	}
	want := filepath.Join(t.TempDir(), "want")
	full(imagetest.Random).WriteRaw(t, want)
	imagetest.Compare(t, "raw", want, "raw", dst)
}

func full(f imagetest.Fill) imagetest.Disk {
	return imagetest.Disk{Name: "full", Size: 16 << 20, Ranges: []imagetest.Range{{Off: 0, Len: 16 << 20, Fill: f}}}
}

// appliance makes an OVA with a full disk of each content.
func appliance(t *testing.T, path string, fills ...imagetest.Fill) {
	t.Helper()
	var files, disks strings.Builder
	var members [][]byte
	for i, f := range fills {
		w := imagetest.Writing{Format: vmdk.Format(), Options: image.Options{"subformat": "streamOptimized"}, Name: "disk.vmdk"}
		b, err := os.ReadFile(w.Write(t, t.TempDir(), full(f)))
		if err != nil {
			t.Fatal(err)
		}
		members = append(members, b)
		fmt.Fprintf(&files, `<File ovf:href="disk%d.vmdk" ovf:id="file%d"/>`, i, i)
		fmt.Fprintf(&disks, `<Disk ovf:capacity="%d" ovf:diskId="vmdisk%d" ovf:fileRef="file%d"`+
			` ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>`, full(f).Size, i, i)
	}
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	w := tar.NewWriter(out)
	add := func(name string, b []byte) {
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(b))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	add("vm.ovf", []byte(`<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
<References>`+files.String()+`</References><DiskSection><Info>disks</Info>`+disks.String()+`</DiskSection></Envelope>`))
	for i, b := range members {
		add(fmt.Sprintf("disk%d.vmdk", i), b)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}
