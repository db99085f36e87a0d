//go:build !guest

package luks

import (
	"bytes"
	"regexp"
	"strings"
)

// replaced puts another text in place of the whole JSON of both copies.
func replaced(change func(text string) string) func([]byte) []byte {
	return func(raw []byte) []byte {
		for _, at := range []int{0, 16384} {
			area := raw[at+binarySize : at+16384]
			text, _, _ := bytes.Cut(area, []byte{0})
			changed := change(string(text))
			clear(area)
			copy(area, changed)
			reseal(raw, at)
		}
		return raw
	}
}

// crafted are headers whose checksums are right and whose JSON was written to do harm.
func crafted() []badHeader {
	nested := func(what, end string, depth int) func([]byte) []byte {
		return bothCopies(`{"keyslots":`, `{"x":`+strings.Repeat(what, depth)+`1`+strings.Repeat(end, depth)+`,"keyslots":`)
	}
	swap := func(old, replacement string) func([]byte) []byte { return bothCopies(old, replacement) }
	whole := func(text string) func([]byte) []byte { return replaced(func(string) string { return text }) }
	return []badHeader{
		{"arrays nested a thousand deep", two, nested("[", "]", 1000), broken, "nested more than 32 deep"},
		{"objects nested a thousand deep", two, nested(`{"a":`, "}", 1000), broken, "nested more than 32 deep"},
		{"nesting that never ends", two, whole(strings.Repeat("[", 12000)), broken, "nested more than 32 deep"},
		{"a string that never ends", two, whole(`{"` + strings.Repeat("x", 12000)), broken, "JSON is not valid"},
		{"escapes that end in nothing", two, whole(`{"a":"\`), broken, "JSON is not valid"},
		{"nothing but a NUL", two, whole(""), broken, "JSON is not valid"},
		{"null", two, whole("null"), broken, "no config"},
		{"an array", two, whole("[]"), broken, "JSON is not valid"},
		{"two values", two, replaced(func(text string) string { return text + "{}" }), broken, "JSON is not valid"},
		{"no key slots at all but a list", two, whole(`{"keyslots":[],"config":{"json_size":"12288"}}`), broken, "no object"},
		{"key slots that are null", two, whole(`{"keyslots":null,"config":{"json_size":"12288"}}`), broken, "no object"},
		{"a config that is null", two, whole(`{"config":null}`), broken, "no config"},
		{"no segments", two, whole(`{"keyslots":{},"segments":{},"digests":{},"config":{"json_size":"12288","keyslots_size":"16744448"}}`), beyond, "0 segments"},
		{"a thousand key slots", two, replaced(func(text string) string {
			var slots strings.Builder
			for i := range 900 {
				slots.WriteString(`"` + string(rune('1'+i%9)) + strings.Repeat("0", i/200) + `":{},`)
			}
			return strings.Replace(text, `{"keyslots":{`, `{"keyslots":{`+slots.String(), 1)
		}), broken, "there twice, or is one of more than 32"},
		{"a number of 400 digits", two, swap(`"sector_size":4096`, `"sector_size":`+strings.Repeat("9", 400)), broken, "JSON is not valid"},
		{"a number with an exponent beyond every float", two, swap(`"sector_size":4096`, `"sector_size":1e400`), broken, "JSON is not valid"},
		{"a negative number", two, swap(`"sector_size":4096`, `"sector_size":-4096`), broken, "JSON is not valid"},
		{"a text for a number", two, swap(`"stripes":4000`, `"stripes":"4000"`), broken, "JSON is not valid"},
		{"a list for a text", two, swap(`"encryption":"aes-xts-plain64","sector_size"`, `"encryption":["aes-xts-plain64"],"sector_size"`), broken, "JSON is not valid"},
		{"a number for an object", two, swap(`"kdf":{"type"`, `"kdf":7,"x":{"type"`), broken, "JSON is not valid"},
		{"a salt that is no base64", two, swap(`"salt":"`, `"salt":"*`), broken, "JSON is not valid"},
		{"a negative slot size", two, swap(`"size":"258048"`, `"size":"-1"`), broken, "is no number"},
		{"key slots of 2^64 bytes", two, swap(`"keyslots_size":"16744448"`, `"keyslots_size":"18446744073709547520"`), broken, "an area of 18446744073709547520 bytes for key slots"},
		{"key slots beyond the device", two, swap(`"keyslots_size":"16744448"`, `"keyslots_size":"67108864"`), broken, "overlaps the key slots"},
		{"a slot beyond the device", two, swap(`"offset":"32768"`, `"offset":"67108864"`), broken, "slot 0 lies outside the area"},
		{"a slot and its neighbour by one byte", two, swap(`"offset":"290816"`, `"offset":"290815"`), broken, "overlap"},
		{"a slot whose size overflows with its offset", two, swap(`"size":"258048"`, `"size":"18446744073709551615"`), broken, "outside the area"},
		{"a key of a gigabyte", two, swap(`"key_size":64`, `"key_size":1073741824`), broken, "keys of 1073741824"},
		{"a key of minus one byte", two, swap(`"key_size":64`, `"key_size":-1`), broken, "keys of -1"},
		{"2^32 stripes", two, swap(`"stripes":4000`, `"stripes":4294967296`), broken, "4294967296 stripes"},
		{"argon2 of 2^32 passes", two, swap(`"time":4`, `"time":4294967296`), broken, "time 4294967296"},
		{"argon2 of 2^63 passes", two, swap(`"time":4`, `"time":9223372036854775808`), broken, "JSON is not valid"},
		{"argon2 of less than no memory", two, swap(`"memory":65536`, `"memory":-65536`), broken, "memory -65536 KiB"},
		{"a digest of 2^32-1 iterations", two, replaced(func(text string) string {
			return regexp.MustCompile(`("digests":.*"iterations":)\d+`).ReplaceAllString(text, "${1}4294967295")
		}), broken, "4294967295 iterations"},
	}
}
