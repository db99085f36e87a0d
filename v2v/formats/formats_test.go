package formats

import (
	"archive/tar"
	"errors"
	"strings"
	"testing"

	"initd/v2v/image"
	"initd/v2v/image/imagetest"
)

func TestChoice(t *testing.T) {
	plain := strings.Repeat("\x00", 2048)
	iso := strings.Repeat("\x00", 32769) + "CD001" + plain
	tar := strings.Repeat("\x00", 257) + "ustar\x0000" + plain
	for _, tc := range []struct {
		name, declared, data string
		want                 string // a format
		fault                image.Fault
		code                 string
	}{
		{name: "raw that is declared", declared: "raw", data: plain, want: "raw"},
		{name: "raw that is declared and begins like qcow2 stays raw", declared: "raw", data: "QFI\xfb\x00\x00\x00\x03" + plain, want: "raw"},
		{name: "raw that is declared and begins like a VMDK descriptor stays raw", declared: "raw", data: "# Disk DescriptorFile\nversion=1\n" + plain, want: "raw"},
		{name: "raw that nobody declared", data: plain, fault: image.Undeclared, code: "undeclared-raw"},
		{name: "an empty file that nobody declared", data: "", fault: image.Undeclared, code: "undeclared-raw"},
		{name: "raw by its alias, in capitals", declared: "IMG", data: plain, want: "raw"},
		{name: "an ISO alone needs a word", data: iso, fault: image.Undeclared, code: "undeclared-overlay"},
		{name: "a tar that is no OVA", data: tar, fault: image.Undeclared, code: "undeclared-overlay"},
		{name: "a tar with a header whose checksum is right is no disk by chance", data: tarOf("notes.txt"), fault: image.Unsupported, code: "tar"},
		{name: "a tar whose first file is of an appliance", data: tarOf("vm/", "vm/disk.vmdk"), want: "ova"},
		{name: "the description of an appliance", data: "\ufeff<?xml version='1.0'?>\n<Envelope xmlns='http://schemas.dmtf.org/ovf/envelope/1'>", fault: image.Unsupported, code: "ovf"},
		{name: "a dynamic VHD whose beginning is damaged", data: plain + "conectix" + strings.Repeat("\x00", 504), want: "vpc"},
		{name: "a dynamic VHD whose end is lost", data: "conectix" + plain, want: "vpc"},
		{name: "a VMDK descriptor without a version", data: "# Disk DescriptorFile\rversion=1\rCID=1", want: "vmdk"},
		{name: "lz4", data: "\x04\x22\x4d\x18" + plain, fault: image.Unsupported, code: "packed-lz4"},
		{name: "cloop", data: "#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n" + plain, fault: image.Unsupported, code: "cloop"},
		{name: "qcow2 that is an ISO too", data: "QFI\xfb\x00\x00\x00\x03" + iso[8:], fault: image.Undeclared, code: "polyglot"},
		{name: "LUKS that is a tar too", data: "LUKS\xba\xbe" + tar[6:], fault: image.Undeclared, code: "polyglot"},
		{name: "qcow version 1", data: "QFI\xfb\x00\x00\x00\x01" + plain, fault: image.Unsupported, code: "qcow1"},
		{name: "qcow version 4", data: "QFI\xfb\x00\x00\x00\x04" + plain, fault: image.Unsupported, code: "qcow-version"},
		{name: "QED", data: "QED\x00" + plain, fault: image.Unsupported, code: "qed"},
		{name: "Parallels", data: "WithoutFreeSpace" + plain, fault: image.Unsupported, code: "parallels"},
		{name: "Parallels, extended", data: "WithouFreSpacExt" + plain, fault: image.Unsupported, code: "parallels"},
		{name: "LUKS", data: "LUKS\xba\xbe\x00\x02" + plain, fault: image.Unsupported, code: "luks"},
		{name: "COWD", data: "COWD" + plain, fault: image.Unsupported, code: "vmdk-cowd"},
		{name: "seSparse", data: "\xbe\xba\xfe\xca\x00\x00\x00\x00" + plain, fault: image.Unsupported, code: "vmdk-sesparse"},
		{name: "dmg", data: plain + "koly" + strings.Repeat("\x00", 508), fault: image.Unsupported, code: "dmg"},
		{name: "gzip", data: "\x1f\x8b\x08" + plain, fault: image.Unsupported, code: "packed-gzip"},
		{name: "a declared format that the file is not", declared: "qcow2", data: plain, fault: image.NotThis, code: "declared-differs"},
		{name: "a declared format, and the file is another", declared: "qcow2", data: "LUKS\xba\xbe" + plain, fault: image.NotThis, code: "declared-differs"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, err := Choose(imagetest.Bytes{Label: "disk", Data: []byte(tc.data)}, tc.declared)
			var e *image.Error
			switch {
			case tc.want != "" && (err != nil || f.Name != tc.want):
				t.Errorf("got %q, %v; want %s", f.Name, err, tc.want)
			case tc.want == "" && (!errors.As(err, &e) || e.Fault != tc.fault || e.Code != tc.code):
				t.Errorf("got %q, %v; want %v %s", f.Name, err, tc.fault, tc.code)
			}
		})
	}
}

// tarOf is an archive of empty files; names that end in / are folders.
func tarOf(names ...string) string {
	var b strings.Builder
	w := tar.NewWriter(&b)
	for _, n := range names {
		_ = w.WriteHeader(&tar.Header{Name: n})
	}
	_ = w.Close()
	return b.String()
}

func TestAnUnknownNameListsTheKnownOnes(t *testing.T) {
	_, err := ByName("vmx")
	if err == nil || !strings.Contains(err.Error(), "qcow2") {
		t.Errorf("got %v", err)
	}
}
