//go:build !guest

package luks

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

func parse(raw []byte) (*Header, error) {
	return readHeader(headerSource{at: bytes.NewReader(raw), dataSize: imageSize})
}

// reseal makes the checksum of a LUKS2 copy right again.
func reseal(raw []byte, at int) {
	size := int(binary.BigEndian.Uint64(raw[at+8:]))
	if size < binarySize || size > len(raw)-at {
		return
	}
	clear(raw[at+checksumAt : at+checksumAt+checksumField])
	sum := sha256.Sum256(raw[at : at+size])
	copy(raw[at+checksumAt:], sum[:])
}

// bothCopies replaces a text in the JSON of both copies by one of any length, and reseals them.
func bothCopies(old, replacement string) func([]byte) []byte {
	return func(raw []byte) []byte {
		for _, at := range []int{0, 16384} {
			area := raw[at+binarySize : at+16384]
			text, _, _ := bytes.Cut(area, []byte{0})
			changed := bytes.Replace(text, []byte(old), []byte(replacement), 1)
			if bytes.Equal(changed, text) {
				panic("the capture does not hold " + old)
			}
			clear(area)
			copy(area, changed)
			reseal(raw, at)
		}
		return raw
	}
}

// edit replaces a text in the JSON of both copies of a LUKS2 header by one of any length.
func (img image) edit(t testing.TB, old, replacement string) {
	t.Helper()
	file, err := os.OpenFile(img.at(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	raw := make([]byte, 32768)
	if _, err := file.ReadAt(raw, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt(bothCopies(old, replacement)(raw), 0); err != nil {
		t.Fatal(err)
	}
}

func put32(at int, value uint32) func([]byte) []byte {
	return func(raw []byte) []byte { binary.BigEndian.PutUint32(raw[at:], value); return raw }
}

func cut(n int) func([]byte) []byte { return func(raw []byte) []byte { return raw[:n] } }

func flip(at ...int) func([]byte) []byte {
	return func(raw []byte) []byte {
		for _, i := range at {
			raw[i] ^= 1
		}
		return raw
	}
}

// badHeader is a capture with a change, and what is said of it.
type badHeader struct {
	name, capture string
	change        func([]byte) []byte
	code, want    string
}

const (
	one, two                = "luks1.img", "luks2.img"
	nothing, broken, beyond = "LUKS-NOT-LUKS", "LUKS-DAMAGED", "LUKS-UNSUPPORTED"
)

func unsound() []badHeader {
	return []badHeader{
		{"zeros", two, func(raw []byte) []byte { clear(raw); return raw }, nothing, "not a LUKS device"},
		{"nothing at all", two, cut(0), nothing, "not a LUKS device"},
		{"five bytes", two, cut(5), nothing, "not a LUKS device"},
		{"LUKS1 cut off", one, cut(500), broken, "cut off after 500 bytes"},
		{"LUKS2 cut off in its binary part", two, cut(600), broken, "cut off after 600 bytes"},
		{"LUKS2 cut off in its JSON", two, cut(9000), broken, "cut off after 9000 bytes"},
		{"both checksums wrong", two, flip(5000, 16384+5000), broken, "its checksum is wrong"},
		{"both copies damaged in their own way", two, func(raw []byte) []byte { raw[7] = 9; return flip(16384 + 5000)(raw) }, broken,
			"first copy: version 9 is neither 1 nor 2; second copy: its checksum is wrong"},
		{"a header size that overflows", two, func(raw []byte) []byte {
			for _, at := range []int{8, 16384 + 8} {
				binary.BigEndian.PutUint64(raw[at:], 1<<63)
			}
			return raw
		}, broken, "a header of 9223372036854775808 bytes"},
		{"a second copy in the first one's place", two, func(raw []byte) []byte { copy(raw, raw[16384:]); copy(raw, magicFirst); return raw[:16384] }, broken,
			"written for byte 16384 and lies at byte 0"},
		{"JSON over its area", two, func(raw []byte) []byte {
			for _, at := range []int{0, 16384} {
				area := raw[at+binarySize : at+16384]
				for i := bytes.IndexByte(area, 0); i < len(area); i++ {
					area[i] = ' '
				}
				reseal(raw, at)
			}
			return raw
		}, broken, "does not end within its area"},
		{"JSON that is none", two, bothCopies(`{"keyslots"`, `["keyslots"`), broken, "JSON is not valid"},
		{"a JSON area of another size", two, bothCopies(`"json_size":"12288"`, `"json_size":"12287"`), broken, "12287 by its config"},
		{"a number that is no string", two, bothCopies(`"iv_tweak":"0"`, `"iv_tweak":0`), broken, "JSON is not valid"},
		{"a number that overflows", two, bothCopies(`"offset":"32768"`, `"offset":"18446744073709551616"`), broken, "is no number"},
		{"a slot area whose end overflows", two, bothCopies(`"offset":"32768"`, `"offset":"18446744073709551104"`), broken, "outside the area"},
		{"a slot area in the header", two, bothCopies(`"offset":"32768"`, `"offset":"4096"`), broken, "slot 0 lies outside"},
		{"two slots in one place", two, bothCopies(`"offset":"290816"`, `"offset":"32768"`), broken, "overlap"},
		{"a slot area that is too small", two, bothCopies(`"size":"258048"`, `"size":"4096"`), broken, "slot 0 has an area of 4096 bytes"},
		{"a slot number that is none", two, bothCopies(`"0":{"type":"luks2"`, `"zero":{"type":"luks2"`), broken, "no number of an object"},
		{"a slot that is there twice", two, bothCopies(`"3":{"type":"luks2"`, `"0":{"type":"luks2"`), broken, "twice"},
		{"data over the slots", two, bothCopies(`"offset":"16777216"`, `"offset":"8388608"`), broken, "overlaps the key slots"},
		{"data beyond the device", two, bothCopies(`"offset":"16777216"`, `"offset":"33554432"`), broken, "the device has 20971520"},
		{"a length that overflows", two, bothCopies(`"size":"dynamic"`, `"size":"18446744073709551104"`), broken, "does not fit"},
		{"sectors of no known size", two, bothCopies(`"sector_size":4096`, `"sector_size":8192`), broken, "sectors of 8192 bytes"},
		{"argon2 of no passes", two, bothCopies(`"time":4`, `"time":0`), broken, "time 0"},
		{"argon2 of 256 threads", two, bothCopies(`"cpus":2`, `"cpus":256`), broken, "256 threads"},
		{"argon2 of more memory than 32 bits can say", two, bothCopies(`"memory":65536`, `"memory":4294967296`), broken, "4294967296 KiB"},
		{"a digest that everything matches", two, func(raw []byte) []byte {
			text, _, _ := bytes.Cut(raw[binarySize:], []byte{0})
			var m struct {
				Digests map[string]struct {
					Digest string `json:"digest"`
				} `json:"digests"`
			}
			if err := json.Unmarshal(text, &m); err != nil {
				panic(err)
			}
			return bothCopies(m.Digests["0"].Digest, "")(raw)
		}, broken, "a digest of 0 bytes"},
		{"a cipher that does not encrypt", two, bothCopies(`"encryption":"aes-xts-plain64","sector_size"`, `"encryption":"cipher_null-ecb","sector_size"`), beyond, "cipher_null"},
		{"a cipher that would rewrite the table", two, bothCopies(`"encryption":"aes-xts-plain64","sector_size"`, `"encryption":"aes-xts-plain64 - 0 8:0 0","sector_size"`), broken, "no name of a cipher"},
		{"a volume that is being encrypted anew", two, bothCopies(`"keyslots_size":"16744448"`, `"keyslots_size":"16744448","requirements":{"mandatory":["online-reencrypt"]}`), beyond, "online-reencrypt"},
		{"requirements as the format's text has them", two, bothCopies(`"keyslots_size":"16744448"`, `"keyslots_size":"16744448","requirements":["opal"]`), beyond, "opal"},
		{"authenticated encryption", two, bothCopies(`"sector_size":4096`, `"sector_size":4096,"integrity":{"type":"hmac(sha256)"}`), beyond, "dm-integrity"},
		{"a segment of another type", two, bothCopies(`"type":"crypt"`, `"type":"hw-opal"`), beyond, "hw-opal"},
		{"LUKS1 with a slot that is neither", one, put32(luks1Slots, 7), broken, "slot 0 is neither enabled nor disabled"},
		{"LUKS1 with a slot in the header", one, put32(luks1Slots+40, 1), broken, "the header and slot 0 overlap"},
		{"LUKS1 with a slot in the data", one, put32(luks1Slots+40, 4000), broken, "slot 0 reaches into the data"},
		{"LUKS1 with other stripes", one, put32(luks1Slots+44, 1), broken, "slot 0 has 1 stripes"},
		{"LUKS1 with a key of 4 GiB", one, put32(108, 0xffffffff), broken, "a volume key of 4294967295 bytes"},
		{"LUKS1 with no iterations", one, put32(luks1Slots+4, 0), broken, "slot 0 has 0 iterations"},
		{"LUKS1 with data beyond the device", one, put32(104, 0xffffffff), broken, "the device has 20971520"},
		{"LUKS1 detached and used as if it were not", one, put32(104, 0), broken, "detached header"},
		{"LUKS1 with an unknown hash", one, func(raw []byte) []byte { copy(raw[72:104], "whirlpool"); return raw }, beyond, `the hash "whirlpool"`},
		{"LUKS1 that is being encrypted anew", one, func(raw []byte) []byte { copy(raw, magicReencrypted); return raw }, beyond, "encryption anew was not finished"},
		{"LUKS1 with a UUID that is none", one, func(raw []byte) []byte { raw[168] = '/'; return raw }, broken, "is no UUID"},
	}
}

func TestHeadersThatAreNotSoundAreRefusedAndSayHow(t *testing.T) {
	for _, row := range slices.Concat(unsound(), crafted()) {
		t.Run(row.name, func(t *testing.T) {
			_, err := parse(row.change(capture(t, row.capture)))
			coded, ok := errors.AsType[interface {
				error
				Code() string
			}](err)
			if !ok || coded.Code() != row.code || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %s: %s", err, row.code, row.want)
			}
		})
	}
}
