package ova

import (
	"archive/tar"
	"bytes"
	"crypto/sha1" //nolint:gosec // a checksum of manifests
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"initd/v2v/image"
	"initd/v2v/image/imagetest"
	"initd/v2v/vmdk"
)

var content = imagetest.Disk{Name: "content", Size: 3<<20 + 3*imagetest.S, Ranges: imagetest.Mixed(9, 3<<20+3*imagetest.S)}

// disk is a streamOptimized file of the content.
func disk(t testing.TB) []byte {
	t.Helper()
	w := imagetest.Writing{Format: vmdk.Format(), Options: image.Options{"subformat": "streamOptimized"}, Name: "disk1.vmdk", Stream: true}
	b, err := os.ReadFile(w.Write(t, t.TempDir(), content))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type file struct {
	header tar.Header
	data   []byte
}

func plain(name string, data []byte) file {
	return file{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(data))}, data}
}

func archive(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := w.WriteHeader(&f.header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const fileLine, diskLine = `<File ovf:href="disk1.vmdk" ovf:id="file1"/>`, `<Disk ovf:capacity="3147264" ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>`

func ovf(files, disks string) []byte {
	return []byte(`<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
<References>` + files + `</References><DiskSection><Info>disks</Info>` + disks + `</DiskSection></Envelope>`)
}

func manifest(algorithm string, files ...file) file {
	var b strings.Builder
	for _, f := range files {
		sum := fmt.Sprintf("%x", sha256.Sum256(f.data))
		switch algorithm {
		case "SHA1":
			sum = fmt.Sprintf("%x", sha1.Sum(f.data)) //nolint:gosec // see above
		case "SHA512":
			sum = fmt.Sprintf("%x", sha512.Sum512(f.data))
		}
		fmt.Fprintf(&b, "%s(%s)= %s\n", algorithm, f.header.Name, sum)
	}
	return plain("vm.mf", []byte(b.String()))
}

func format() image.Format { return Format(vmdk.Format()) }

// both reads an archive from a file and from a pipe, and gives both errors. Without one the content is compared.
func both(t *testing.T, data []byte, opt image.OpenOptions) (seek, pipe error) {
	t.Helper()
	r, seek := format().Open(t.Context(), imagetest.Bytes{Label: "vm.ova", Data: data}, opt)
	if seek == nil {
		imagetest.Reader(t, r, content, content.Size)
		_ = r.Close()
	}
	s, pipe := format().OpenStream(t.Context(), bytes.NewReader(data), "vm.ova", opt)
	if pipe != nil {
		return seek, pipe
	}
	defer s.Close()
	got := make([]byte, content.Size)
	for {
		off, p, err := s.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return seek, err
		}
		copy(got[off:], p)
	}
	want := make([]byte, content.Size)
	_, _ = content.ReadAt(want, 0)
	if !bytes.Equal(got, want) {
		t.Error("the pipe gives another disk")
	}
	return seek, nil
}

func TestArchivesAreReadOrRefused(t *testing.T) {
	d := plain("disk1.vmdk", disk(t))
	o := plain("vm.ovf", ovf(fileLine, diskLine))
	other := plain("disk2.vmdk", d.data)
	two := plain("vm.ovf", ovf(fileLine+`<File ovf:href="disk2.vmdk" ovf:id="file2"/>`, diskLine+`<Disk ovf:capacity="3147264" ovf:diskId="vmdisk2" ovf:fileRef="file2"/>`))
	spaced := plain("my disk.vmdk", d.data)
	marked := plain("vm.mf", append([]byte("\ufeff"), manifest("SHA256", o, d).data...))
	link := func(kind byte) file {
		return file{tar.Header{Name: "x.vmdk", Linkname: "/etc/passwd", Typeflag: kind}, nil}
	}
	pax := d
	pax.header.Format = tar.FormatPAX
	pax.header.PAXRecords = map[string]string{"comment": "x"}
	gnu := d
	gnu.header.Format = tar.FormatGNU
	gnu.header.Name = "disk1.vmdk"
	changed := plain("disk1.vmdk", append([]byte(nil), d.data...))
	changed.data[len(changed.data)/2] ^= 1
	inFolder := func(f file) file {
		return plain("export/"+f.header.Name, f.data)
	}
	with := func(files, disks string) file { return plain("vm.ovf", ovf(files, disks)) }
	for _, tc := range []struct {
		name  string
		files []file
		disk  string
		seek  string
		pipe  string
	}{
		{"without a manifest", []file{o, d}, "", "", ""},
		{"a manifest in front", []file{o, manifest("SHA256", o, d), d}, "", "", ""},
		{"a manifest behind", []file{o, d, manifest("SHA512", o, d)}, "", "", ""},
		{"SHA1", []file{o, manifest("SHA1", o, d), d}, "", "", ""},
		{"a certificate", []file{o, manifest("SHA256", o, d), plain("vm.cert", []byte("x")), d}, "", "", ""},
		{"pax headers", []file{o, pax}, "", "", ""},
		{"GNU headers", []file{o, gnu}, "", "", ""},
		{"a name with ./", []file{o, plain("./disk1.vmdk", d.data)}, "", "", ""},
		{"a name as a URL has it", []file{with(`<File ovf:href="my%20disk.vmdk" ovf:id="file1"/>`, diskLine), spaced, manifest("SHA256", with(`<File ovf:href="my%20disk.vmdk" ovf:id="file1"/>`, diskLine), spaced)}, "", "", ""},
		{"a name as a URL has it, and the wrong length", []file{with(`<File ovf:href="my%20disk.vmdk" ovf:id="file1" ovf:size="77"/>`, diskLine), spaced}, "", "ova-size", "ova-size"},
		{"all in a folder", []file{inFolder(o), inFolder(d), inFolder(manifest("SHA256", o, d))}, "", "", ""},
		{"all in a folder, the manifest in front", []file{inFolder(o), inFolder(manifest("SHA256", o, d)), inFolder(d)}, "", "", ""},
		{"all in a folder, named from the archive's first", []file{inFolder(with(`<File ovf:href="export/disk1.vmdk" ovf:id="file1"/>`, diskLine)), inFolder(d)}, "", "", ""},
		{"all in a folder, a name as a URL has it", []file{inFolder(with(`<File ovf:href="my%20disk.vmdk" ovf:id="file1"/>`, diskLine)), inFolder(spaced)}, "", "", ""},
		{"all in a folder, the second of two disks, by its file", []file{inFolder(two), inFolder(d), inFolder(other)}, "disk2.vmdk", "", ""},
		{"all in a folder, the second of two disks, by its member", []file{inFolder(two), inFolder(d), inFolder(other)}, "export/disk2.vmdk", "", ""},
		{"all in a folder, a changed disk", []file{inFolder(o), inFolder(d), inFolder(manifest("SHA256", o, changed))}, "", "ova-digest", "ova-digest"},
		{"all in a folder, the wrong length in the description", []file{inFolder(with(`<File ovf:href="disk1.vmdk" ovf:id="file1" ovf:size="77"/>`, diskLine)), inFolder(d)}, "", "ova-size", "ova-size"},
		{"all in a folder, a manifest without the disk", []file{inFolder(o), inFolder(d), inFolder(manifest("SHA256", o))}, "", "ova-manifest-missing", "ova-manifest-missing"},
		{"all in a folder but the disk, which the manifest has", []file{inFolder(o), manifest("SHA256", o, d)}, "", "ova-manifest-file", "ova-no-file"},
		{"a byte order mark in the manifest", []file{o, d, marked}, "", "", ""},
		{"the right length in the description", []file{with(fmt.Sprintf(`<File ovf:href="disk1.vmdk" ovf:id="file1" ovf:size="%d"/>`, len(d.data)), diskLine), d}, "", "", ""},
		{"capacity in MiB, rounded up", []file{with(fileLine, `<Disk ovf:capacity="4" ovf:capacityAllocationUnits="byte * 2^20" ovf:diskId="a" ovf:fileRef="file1"/>`), d}, "", "", ""},
		{"the first of two disks", []file{two, d, other}, "vmdisk1", "", ""},
		{"the second of two disks, by its file", []file{two, d, other}, "disk2.vmdk", "", ""},
		{"two disks and none said", []file{two, d, other}, "", "ova-several-disks", "ova-several-disks"},
		{"a disk that is not there", []file{two, d, other}, "vmdisk3", "ova-disk", "ova-disk"},
		{"a changed disk", []file{o, manifest("SHA256", o, d), changed}, "", "ova-digest", "*"},
		{"a changed description", []file{o, manifest("SHA256", plain("vm.ovf", []byte("x")), d), d}, "", "ova-digest", "ova-digest"},
		{"a manifest of another disk, behind", []file{o, d, manifest("SHA256", o, changed)}, "", "ova-digest", "ova-digest"},
		{"a manifest without the disk", []file{o, d, manifest("SHA256", o)}, "", "ova-manifest-missing", "ova-manifest-missing"},
		{"an empty manifest", []file{o, d, plain("vm.mf", nil)}, "", "ova-manifest-missing", "ova-manifest-missing"},
		{"a manifest with a file that is not there", []file{o, d, manifest("SHA256", o, d, other)}, "", "ova-manifest-file", "ova-manifest-file"},
		{"a manifest that is none", []file{o, d, plain("vm.mf", []byte("hello\n"))}, "", "ova-manifest", "ova-manifest"},
		{"a manifest of MD5", []file{o, d, plain("vm.mf", []byte("MD5(vm.ovf)= 00\n"))}, "", "ova-manifest-algorithm", "ova-manifest-algorithm"},
		{"a symbolic link", []file{o, link(tar.TypeSymlink), d}, "", "ova-link", "ova-link"},
		{"a hard link", []file{o, link(tar.TypeLink), d}, "", "ova-link", "ova-link"},
		{"a device", []file{o, link(tar.TypeBlock), d}, "", "ova-device", "ova-device"},
		{"a pipe", []file{o, link(tar.TypeFifo), d}, "", "ova-device", "ova-device"},
		{"a name with ..", []file{o, plain("../disk1.vmdk", d.data)}, "", "ova-name", "ova-name"},
		{"a name with .. inside", []file{o, plain("a/../../disk1.vmdk", d.data)}, "", "ova-name", "ova-name"},
		{"an absolute name", []file{o, plain("/disk1.vmdk", d.data)}, "", "ova-name", "ova-name"},
		{"a name twice", []file{o, d, d}, "", "ova-twice", "ova-twice"},
		{"a name twice, said otherwise", []file{o, d, plain("./disk1.vmdk", d.data)}, "", "ova-twice", "ova-twice"},
		{"the disk in front of the description", []file{d, o}, "", "ova-order", "ova-order"},
		{"two descriptions", []file{o, plain("b.ovf", o.data), d}, "", "ova-order", "ova-order"},
		{"no disk's file", []file{o}, "", "ova-no-file", "ova-no-file"},
		{"no disk at all", []file{with("", ""), d}, "", "ova-no-disk", "ova-no-disk"},
		{"a description that is no XML", []file{plain("vm.ovf", []byte("hello")), d}, "", "ova-ovf", "ova-ovf"},
		{"a file elsewhere", []file{with(`<File ovf:href="http://192.0.2.1/disk1.vmdk" ovf:id="file1"/>`, diskLine), d}, "", "ova-name", "ova-name"},
		{"a file outside", []file{with(`<File ovf:href="../disk1.vmdk" ovf:id="file1"/>`, diskLine), d}, "", "ova-name", "ova-name"},
		{"gzip", []file{with(`<File ovf:href="disk1.vmdk" ovf:id="file1" ovf:compression="gzip"/>`, diskLine), d}, "", "ova-compression", "ova-compression"},
		{"chunks", []file{with(`<File ovf:href="disk1.vmdk" ovf:id="file1" ovf:chunkSize="1000"/>`, diskLine), d}, "", "ova-chunks", "ova-chunks"},
		{"the wrong length in the description", []file{with(`<File ovf:href="disk1.vmdk" ovf:id="file1" ovf:size="77"/>`, diskLine), d}, "", "ova-size", "ova-size"},
		{"another capacity", []file{with(fileLine, `<Disk ovf:capacity="9147264" ovf:diskId="a" ovf:fileRef="file1"/>`), d}, "", "ova-capacity", "ova-capacity"},
		{"a capacity that is too small", []file{with(fileLine, `<Disk ovf:capacity="512" ovf:diskId="a" ovf:fileRef="file1"/>`), d}, "", "ova-capacity", "ova-capacity"},
		{"a delta", []file{with(fileLine, `<Disk ovf:capacity="3147264" ovf:diskId="a" ovf:fileRef="file1" ovf:parentRef="b"/>`), d}, "", "ova-delta", "ova-delta"},
		{"a disk that is no VMDK", []file{o, plain("disk1.vmdk", bytes.Repeat([]byte("x"), 100<<10))}, "", "ova-disk-format", "ova-disk-format"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			seek, pipe := both(t, archive(t, tc.files...), image.OpenOptions{Disk: tc.disk})
			if got := imagetest.Code(seek); got != tc.seek {
				t.Errorf("from a file: %q (%v), want %q", got, seek, tc.seek)
			}
			if got := imagetest.Code(pipe); got != tc.pipe && (tc.pipe != "*" || pipe == nil) {
				t.Errorf("from a pipe: %q (%v), want %q", got, pipe, tc.pipe)
			}
		})
	}
}

func TestAnArchiveThatWasCutShort(t *testing.T) {
	d := plain("disk1.vmdk", disk(t))
	o := plain("vm.ovf", ovf(fileLine, diskLine))
	whole := archive(t, o, manifest("SHA256", o, d), d)
	for _, n := range []int{0, 100, 511, 512, 700, 1024, 2000, 5000, len(whole) / 2, len(whole) - 2000} {
		seek, pipe := both(t, whole[:n], image.OpenOptions{})
		if seek == nil || pipe == nil {
			t.Errorf("%d of %d bytes: from a file %v, from a pipe %v", n, len(whole), seek, pipe)
		}
	}
}

func TestTheListShowsWhatIsThere(t *testing.T) {
	d := plain("disk1.vmdk", disk(t))
	o := plain("vm.ovf", ovf(fileLine, diskLine+`<Disk ovf:capacity="16" ovf:capacityAllocationUnits="byte * 2^30" ovf:diskId="empty"/>`))
	a, err := List(t.Context(), imagetest.Bytes{Label: "vm.ova", Data: archive(t, o, manifest("SHA256", o, d), d)})
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Members) != 3 || len(a.Disks) != 2 || a.Disks[1].Capacity != 16<<30 || a.Disks[0].File != "disk1.vmdk" || len(a.Manifest) != 2 {
		t.Errorf("%+v", a)
	}
}

func TestAllocationUnits(t *testing.T) {
	for s, want := range map[string]int64{"": 1, "byte": 1, "byte * 2^30": 1 << 30, "byte*2^20": 1 << 20, "byte * 1024": 1024, "byte * 10^9": 1e9, "MegaBytes": 1 << 20,
		"byte * 2^10 * 2^10": 1 << 20, "byte * 2^99": 0, "byte * 0": 0, "parsec": 0, "byte * 9^62": 0} {
		if got := allocationUnit(s); got != want {
			t.Errorf("allocationUnit(%q) = %d, want %d", s, got, want)
		}
	}
}

func FuzzOpen(f *testing.F) {
	d := plain("disk1.vmdk", disk(f))
	o := plain("vm.ovf", ovf(fileLine, diskLine))
	whole := archive(f, o, manifest("SHA256", o, d), d)
	f.Add(whole[:20<<10])
	f.Add(archive(f, o, plain("vm.cert", []byte("x"))))
	f.Fuzz(func(t *testing.T, data []byte) {
		imagetest.Hostile(t, "fuzz", format(), data, 0)
		s, err := format().OpenStream(t.Context(), bytes.NewReader(data), "fuzz", image.OpenOptions{})
		if err != nil {
			return
		}
		defer s.Close()
		for range 1000 {
			if _, _, err := s.Next(); err != nil {
				return
			}
		}
	})
}

func FuzzDescription(f *testing.F) {
	f.Add(ovf(fileLine, diskLine))
	f.Fuzz(func(t *testing.T, data []byte) {
		a := &Archive{img: "fuzz", ovf: "vm.ovf"}
		_ = a.describe(data)
		_, _ = a.parseManifest(data)
	})
}
