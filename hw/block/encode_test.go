package block

import (
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestNamesAreEncodedAsUdevDoes(t *testing.T) {
	for _, row := range []struct{ name, in, encoded, linked string }{
		{"plain", "data0", "data0", "data0"},
		{"blanks", "a b  c", `a\x20b\x20\x20c`, "a_b_c"},
		{"blanks around", "  a ", `\x20\x20a\x20`, "a"},
		{"a slash", "c/d", `c\x2fd`, "c/d"},
		{"a backslash", `a\b`, `a\x5cb`, "a_b"},
		{"an escape already there", `a\x20b`, `a\x5cx20b`, `a\x20b`},
		{"UTF-8", "é", "é", "é"},
		{"a byte that is no UTF-8", "\xff", `\xff`, "_"},
		{"a replacement character", "\uFFFD", `\xef\xbf\xbd`, "___"},
		{"punctuation", "#+-.:=@_,!", `#+-.:=@_\x2c\x21`, "#+-.:=@___"},
		{"a tab inside", "a\tb", `a\x09b`, "a_b"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := encode(row.in); got != row.encoded {
				t.Errorf("encode: %q, want %q", got, row.encoded)
			}
			if got := link("", row.in); got != row.linked {
				t.Errorf("link: %q, want %q", got, row.linked)
			}
		})
	}
}

func FuzzEncode(f *testing.F) {
	f.Add("a b  c/d")
	f.Add("é\xff\\x20")
	f.Fuzz(func(t *testing.T, s string) {
		encoded := encode(s)
		if strings.ContainsAny(encoded, " /\x00\n") {
			t.Errorf("encode(%q) = %q", s, encoded)
		}
		if back, err := strconv.Unquote(`"` + strings.ReplaceAll(encoded, `"`, `\x22`) + `"`); err != nil || back != s {
			t.Errorf("encode(%q) = %q, which is %q, %v", s, encoded, back, err)
		}
		if l := link("x-", s); strings.ContainsAny(l, " \x00\n\t") || utf8.ValidString(s) && !utf8.ValidString(l) {
			t.Errorf("link(%q) = %q", s, l)
		}
	})
}

// The pages are those of the guest's SATA disk.
const (
	ataInquiry = "\x00\x00\x05\x02[\x00\x00\x02ATA     My  ATA disk    2.5+"
	ataPage80  = "\x00\x80\x00\x14ATA ser9            "
	ataPage83  = "\x00\x83\x00l\x02\x00\x00\x14ATA ser9            \x02\x01\x00DATA     My  ATA disk                            " +
		"ATA ser9            \x01\x03\x00\bP\x00\xc5\x00\x15\xeaq\xbb"
)

func TestSCSIPagesAreReadAsSgInqReadsThem(t *testing.T) {
	want := scsiIdentity{
		vendor: "ATA", product: "My_ATA_disk", serial: "ATA_ser9", vendorID: "ATA_ser9",
		t10: "ATA_My_ATA_disk_ATA_ser9", ata: "My_ATA_disk_ATA_ser9", naaReg: "5000c50015ea71bb",
	}
	if got := readSCSI([]byte(ataInquiry), []byte(ataPage80), []byte(ataPage83)); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := readSCSI(nil, []byte(ataPage83), []byte(ataPage80)); got != (scsiIdentity{}) {
		t.Errorf("pages that are not what they should be: %+v", got)
	}
	regext := "\x00\x83\x00\x14\x01\x03\x00\x10\x60\x01\x40\x55\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x03"
	if got := readSCSI(nil, nil, []byte(regext)); got.naaRegExt != "60014055000000010000000200000003" {
		t.Errorf("an extended name: %+v", got)
	}
	port := strings.Replace(regext, "\x01\x03\x00\x10", "\x01\x13\x00\x10", 1)
	if got := readSCSI(nil, nil, []byte(port)); got != (scsiIdentity{}) {
		t.Errorf("a designator of the port: %+v", got)
	}
}

func FuzzSCSI(f *testing.F) {
	f.Add([]byte(ataInquiry), []byte(ataPage80), []byte(ataPage83))
	f.Fuzz(func(t *testing.T, inquiry, page80, page83 []byte) {
		id := readSCSI(inquiry, page80, page83)
		for _, s := range []string{id.serial, id.t10, id.name, id.vendorID, id.eui, id.naaReg} {
			if strings.ContainsAny(s, " /\x00\n") {
				t.Errorf("an unclean identifier: %+v", id)
			}
		}
	})
}
