//go:build !guest

package luks

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"strings"
	"testing"

	"initd/hw/secret"
)

// Whatever the bytes: no panic, memory in proportion, and a header that is accepted is within its bounds. A header is put
// together from its parts, because mutating 32 KiB of mostly zeros finds nothing.
func FuzzHeader(f *testing.F) {
	one, two := capture(f, "luks1.img"), capture(f, "luks2.img")
	text := func(raw []byte) []byte { text, _, _ := bytes.Cut(raw[binarySize:16384], []byte{0}); return text }
	f.Add(one[:luks1Size], []byte(nil), uint16(65535), false)
	f.Add(one[:luks1Size], []byte(nil), uint16(300), false)
	f.Add(two[:512], text(two), uint16(65535), false)
	f.Add(two[:512], text(two), uint16(16384), true)
	f.Add(two[:512], text(two), uint16(9000), false)
	f.Add(make([]byte, 512), text(two), uint16(65535), true)
	for _, row := range slices.Concat(unsound(), crafted()) {
		if raw := row.change(capture(f, row.capture)); len(raw) == 32768 {
			f.Add(raw[:512], text(raw), uint16(65535), false)
		}
	}
	f.Fuzz(func(t *testing.T, binaryPart, text []byte, length uint16, detached bool) {
		raw := assemble(binaryPart, text)
		raw = raw[:min(int(length), len(raw))]
		source := headerSource{at: bytes.NewReader(raw), dataSize: imageSize, detached: detached, foreign: nothingForeign}
		h, err := readHeader(source)
		if err != nil {
			return
		}
		if h.Length == 0 || h.Offset+h.Length > imageSize/SectorSize || checkCipher(h.Cipher) != nil || !validUUID(h.UUID) {
			t.Fatalf("accepted: %+v", h)
		}
		for _, s := range h.slots {
			if s.err == nil && (s.area.size > maxKeySize*stripes || s.keySize > maxKeySize || len(s.digest.want) < 20) {
				t.Fatalf("accepted: %+v", s)
			}
		}
	})
}

// assemble makes both copies of a LUKS2 header of the first's binary part and JSON, and makes their checksums right: else no
// change would ever be looked at.
func assemble(binaryPart, text []byte) []byte {
	raw := make([]byte, 32768)
	for _, at := range []int{0, 16384} {
		copy(raw[at:at+binarySize], binaryPart)
		copy(raw[at+binarySize:at+16384], text)
		if at > 0 {
			copy(raw[at:], magicSecond)
			binary.BigEndian.PutUint64(raw[at+256:], uint64(at))
		}
		reseal(raw, at)
	}
	return raw
}

func FuzzJSON(f *testing.F) {
	text := func(raw []byte) []byte { text, _, _ := bytes.Cut(raw[binarySize:16384], []byte{0}); return text }
	f.Add(text(capture(f, "luks2.img")))
	for _, row := range slices.Concat(unsound(), crafted()) {
		if raw := row.change(capture(f, row.capture)); len(raw) == 32768 {
			f.Add(text(raw))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) >= 16384-binarySize {
			return
		}
		area := make([]byte, 16384-binarySize)
		copy(area, text)
		h := &Header{Version: 2}
		_ = h.fromJSON(area, 16384, headerSource{dataSize: imageSize})
	})
}

// FuzzDerive goes on where FuzzHeader ends: a header that is accepted is unlocked, as long as that is little work. The device
// is zeros behind the header, so that no key fits.
func FuzzDerive(f *testing.F) {
	two := capture(f, "luks2.img")
	text := func(raw []byte) []byte { text, _, _ := bytes.Cut(raw[binarySize:16384], []byte{0}); return text }
	f.Add(two[:512], text(two))
	for _, change := range [][2]string{
		{`"type":"argon2id","time":4,"memory":65536`, `"type":"argon2id","time":1,"memory":8`},
		{`"type":"argon2id","time":4,"memory":65536,"cpus":2`, `"type":"argon2i","time":1,"memory":8,"cpus":255`},
		{`"hash":"sha256"`, `"hash":"whirlpool"`},
		{`"key_size":64`, `"key_size":1`},
	} {
		f.Add(two[:512], text(bothCopies(change[0], change[1])(capture(f, "luks2.img"))))
	}
	for _, row := range slices.Concat(unsound(), crafted()) {
		if raw := row.change(capture(f, row.capture)); len(raw) == 32768 {
			f.Add(raw[:512], text(raw))
		}
	}
	key, err := secret.Read(strings.NewReader(first), MaxKey)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, binaryPart, text []byte) {
		device := zeros{assemble(binaryPart, text)}
		source := headerSource{at: device, dataSize: imageSize, foreign: nothingForeign}
		h, err := readHeader(source)
		if err != nil || h.work() > 200_000 {
			return
		}
		_, err = h.unlock(t.Context(), device, []*secret.Buffer{key}, newMemory(4096), func(string) {})
		if f := failureOf(err); f.Kind == "" || f.Err().Error() != err.Error() {
			t.Errorf("got %v, which arrives as %v", err, f.Err())
		}
	})
}

// zeros is a device of imageSize with a start.
type zeros struct{ start []byte }

func (z zeros) ReadAt(b []byte, at int64) (int, error) {
	if at < 0 || at+int64(len(b)) > imageSize {
		return 0, io.EOF
	}
	clear(b)
	if at < int64(len(z.start)) {
		copy(b, z.start[at:])
	}
	return len(b), nil
}
