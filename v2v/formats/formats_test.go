package formats

import (
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

func TestAnUnknownNameListsTheKnownOnes(t *testing.T) {
	_, err := ByName("vmx")
	if err == nil || !strings.Contains(err.Error(), "qcow2") {
		t.Errorf("got %v", err)
	}
}
