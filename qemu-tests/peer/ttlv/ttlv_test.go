package ttlv

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The examples of KMIP 1.4, section 9.1.2.
func TestItemsEncodeAsTheSpecificationsExamples(t *testing.T) {
	cases := []struct {
		name string
		got  []byte
		want string
	}{
		{"an integer of 8", Int(0x420020, 8), "42 00 20 | 02 | 00 00 00 04 | 00 00 00 08 00 00 00 00"},
		{"an enumeration of 255", Enum(0x420020, 255), "42 00 20 | 05 | 00 00 00 04 | 00 00 00 FF 00 00 00 00"},
		{"the text Hello World", Text(0x420020, "Hello World"), "42 00 20 | 07 | 00 00 00 0B | 48 65 6C 6C 6F 20 57 6F 72 6C 64 00 00 00 00 00"},
		{"three bytes", Bytes(0x420020, []byte{1, 2, 3}), "42 00 20 | 08 | 00 00 00 03 | 01 02 03 00 00 00 00 00"},
		{"a date", Date(0x420020, 0x47DA67F8), "42 00 20 | 09 | 00 00 00 08 | 00 00 00 00 47 DA 67 F8"},
		{"a structure of an enumeration and an integer", Struct(0x420020, Enum(0x420004, 254), Int(0x420005, 255)),
			"42 00 20 | 01 | 00 00 00 20 | 42 00 04 | 05 | 00 00 00 04 | 00 00 00 FE 00 00 00 00 | 42 00 05 | 02 | 00 00 00 04 | 00 00 00 FF 00 00 00 00"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			want, err := hex.DecodeString(strings.NewReplacer(" ", "", "|", "").Replace(c.want))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, c.got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(Struct(RequestMessage, Struct(RequestHeader, Int(BatchCount, 1)), Text(UniqueIdentifier, "x")))
	f.Add([]byte{0x42, 0, 0x20, 2, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		items, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Decode(reencode(items))
		if err != nil {
			t.Fatalf("what was decoded does not encode: %v", err)
		}
		if diff := cmp.Diff(items, again); diff != "" {
			t.Error(diff)
		}
	})
}

func reencode(items []Item) []byte {
	var out []byte
	for _, i := range items {
		out = append(out, i.Encode()...)
	}
	return out
}
