package dm

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// answerOf lays targets out as the kernel does (retrieve_status, drivers/md/dm-ioctl.c).
func answerOf(targets ...Target) []byte {
	var data []byte
	for _, t := range targets {
		spec := make([]byte, sizeofSpec)
		binary.NativeEndian.PutUint64(spec[0:], t.Start)
		binary.NativeEndian.PutUint64(spec[8:], t.Length)
		copy(spec[24:], t.Type)
		text := append([]byte(t.Params), 0)
		for (len(data)+len(spec)+len(text))%8 != 0 {
			text = append(text, 0)
		}
		binary.NativeEndian.PutUint32(spec[20:], uint32(len(data)+len(spec)+len(text)))
		data = append(append(data, spec...), text...)
	}
	return data
}

func TestTablesAreReadAndShowNoKey(t *testing.T) {
	const key = "00112233445566778899aabbccddeeff"
	for _, row := range []struct {
		name     string
		in, want Target
	}{
		{
			"a key in the table is redacted",
			Target{0, 8, "crypt", "aes-xts-plain64 " + key + " 0 254:16 32768 1 allow_discards"},
			Target{0, 8, "crypt", "aes-xts-plain64 REDACTED 0 254:16 32768 1 allow_discards"},
		},
		{
			"a key by name is kept",
			Target{0, 8, "crypt", "aes-xts-plain64 :64:logon:initd:x 0 254:16 32768"},
			Target{0, 8, "crypt", "aes-xts-plain64 :64:logon:initd:x 0 254:16 32768"},
		},
		{
			"integrity keys are redacted",
			Target{0, 8, "integrity", "7:0 0 32 J 3 internal_hash:hmac(sha256):" + key + " journal_mac:hmac(sha256):" + key + " journal_sectors:8"},
			Target{0, 8, "integrity", "7:0 0 32 J 3 internal_hash:hmac(sha256):REDACTED journal_mac:hmac(sha256):REDACTED journal_sectors:8"},
		},
		{"a target without text", Target{0, 2048, "error", ""}, Target{0, 2048, "error", ""}},
		{"a linear target", Target{2048, 4096, "linear", "254:0 384"}, Target{2048, 4096, "linear", "254:0 384"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			first := Target{0, 1, "zero", ""}
			got, err := parseTargets(answerOf(first, row.in), 2)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]Target{first, row.want}, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestParseCrypt(t *testing.T) {
	for _, row := range []struct {
		name, in string
		want     Crypt
		err      string
	}{
		{
			name: "by a key in a keyring, with flags and a sector size",
			in:   "aes-xts-plain64 :64:logon:initd:6d6b-1 8 254:16 32768 3 allow_discards sector_size:4096 no_read_workqueue",
			want: Crypt{"aes-xts-plain64", ":64:logon:initd:6d6b-1", 8, "254:16", 32768, 4096, []string{"allow_discards", "no_read_workqueue"}},
		},
		{
			name: "a key that was not redacted yet is",
			in:   "aes-cbc-essiv:sha256 0011 0 /dev/vdb 4096",
			want: Crypt{"aes-cbc-essiv:sha256", Redacted, 0, "/dev/vdb", 4096, 512, nil},
		},
		{name: "cut off", in: "aes-xts-plain64 - 0 254:16", err: "4 words"},
		{name: "with fewer options than announced", in: "a - 0 1:1 0 2 x", err: `"2" options are announced, 1 are there`},
		{name: "with an offset that is no number", in: "a - 0 1:1 z", err: `offset "z"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := ParseCrypt(row.in)
			if row.err != "" {
				if err == nil || !strings.Contains(err.Error(), row.err) {
					t.Fatalf("got %v, want %s", err, row.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// The kernel is trusted, but the layout of its answer is ours to get right on every kernel.
func FuzzParseTargets(f *testing.F) {
	f.Add(answerOf(Target{0, 8, "crypt", "aes-xts-plain64 00ff 0 254:16 32768"}, Target{8, 8, "error", ""}), 2)
	f.Add(answerOf(Target{0, 8, "integrity", "7:0 0 32 J 1 internal_hash:hmac(sha256):00ff"}), 1)
	f.Add([]byte{}, 1)
	f.Fuzz(func(t *testing.T, data []byte, count int) {
		targets, err := parseTargets(data, count)
		if err == nil && len(targets) != max(count, 0) {
			t.Fatalf("%d targets, want %d", len(targets), count)
		}
		for _, target := range targets {
			if target.Type == "crypt" {
				if c, err := ParseCrypt(target.Params); err == nil && c.Key != Redacted && c.Key != "-" && c.Key[0] != ':' {
					t.Fatalf("the key %q is shown", c.Key)
				}
			}
			if target.Type == "linear" {
				_, _ = ParseLinear(target.Params)
			}
		}
	})
}

func TestParseDeps(t *testing.T) {
	data := make([]byte, 24)
	binary.NativeEndian.PutUint32(data, 2)
	binary.NativeEndian.PutUint64(data[8:], 254<<8|16)
	binary.NativeEndian.PutUint64(data[16:], 7<<8)
	got, err := parseDeps(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("[254:16 7:0]", strings.Join([]string{"[" + got[0].String(), got[1].String() + "]"}, " ")); diff != "" {
		t.Error(diff)
	}
	if _, err := parseDeps(data[:23]); err == nil {
		t.Error("a list that is cut off was read")
	}
}
