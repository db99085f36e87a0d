package inflate

import (
	"bytes"
	"compress/flate"
	"errors"
	"hash/adler32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

func pack(t testing.TB, data []byte, level int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, level)
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// sources is real text: that of the packages of v2v.
func sources(t testing.TB) []byte {
	t.Helper()
	files, err := filepath.Glob("../*/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no sources beside this package (%v)", err)
	}
	var text []byte
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, b...)
	}
	return text
}

// samples are data of every sort: real text, random, runs of few and many bytes, and mixtures.
func samples(t testing.TB) [][]byte {
	t.Helper()
	text := sources(t)
	g := rand.New(rand.NewPCG(1, 2))
	all := [][]byte{{}, {7}, text, text[:65536], make([]byte, 65536), bytes.Repeat([]byte("ab"), 40000), bytes.Repeat([]byte("abcdefg"), 9000)}
	for n := range 40 {
		p := make([]byte, 1+g.IntN(100000))
		for i := range p {
			switch n % 4 {
			case 0:
				p[i] = byte(g.Uint32())
			case 1:
				p[i] = byte(g.Uint32()) & 3
			case 2:
				p[i] = text[(i*7+n)%len(text)]
			default:
				p[i] = byte(g.NormFloat64() * 20)
			}
		}
		all = append(all, p, append(p[:len(p)/2:len(p)/2], text[n*100:n*100+5000]...))
	}
	return all
}

func TestWhatTheStandardLibraryPacksIsDecoded(t *testing.T) {
	for i, want := range samples(t) {
		for _, level := range []int{flate.HuffmanOnly, 0, 1, 6, 9} {
			packed := pack(t, want, level)
			got := make([]byte, len(want))
			n, used, done, err := Decode(got, append(packed[:len(packed):len(packed)], "junk behind the end, a sector of it"...))
			if err != nil || n != len(want) || !done || used != len(packed) || !bytes.Equal(got, want) {
				t.Fatalf("sample %d, level %d: %d of %d bytes, %d of %d read, done %v, %v", i, level, n, len(want), used, len(packed), done, err)
			}
			// A buffer that is too small is filled, one that is too large is not.
			if len(want) > 0 {
				if n, _, done, err := Decode(got[:len(want)-1], packed); err != nil || n != len(want)-1 || done {
					t.Fatalf("sample %d, level %d, a byte less: %d, done %v, %v", i, level, n, done, err)
				}
			}
			if n, _, done, err := Decode(make([]byte, len(want)+1000), packed); err != nil || n != len(want) || !done {
				t.Fatalf("sample %d, level %d, more room: %d, done %v, %v", i, level, n, done, err)
			}
			for _, cut := range []int{0, 1, len(packed) / 2, len(packed) - 1} {
				if _, _, done, err := Decode(make([]byte, len(want)+300), packed[:cut]); err == nil || done {
					t.Fatalf("sample %d, level %d: cut at %d of %d it decodes", i, level, cut, len(packed))
				}
			}
		}
	}
}

func TestADistanceToBeforeTheBeginningIsRefused(t *testing.T) {
	text := sources(t)
	for _, begin := range []int{0, 1, 3, 500} {
		// The stream goes on after some bytes of its own with what only its dictionary has.
		var b bytes.Buffer
		w, err := flate.NewWriterDict(&b, 9, text[:32768])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(append(bytes.Repeat([]byte{0xee}, begin), text[10000:20000]...)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		n, _, done, err := Decode(make([]byte, 20000), b.Bytes())
		if !errors.Is(err, ErrCorrupt) || done || n < begin || n > begin+300 {
			t.Errorf("%d bytes before it: decoded %d, done %v, %v", begin, n, done, err)
		}
	}
}

func TestTheChecksumIsThatOfTheStandardLibrary(t *testing.T) {
	all := append(samples(t), bytes.Repeat([]byte{255}, 3<<20+77))
	for i, p := range all {
		for _, from := range []int{0, 1, 7, 119, 120, 121} {
			from = min(from, len(p))
			if got, want := Adler32(p[from:]), adler32.Checksum(p[from:]); got != want {
				t.Errorf("sample %d from %d: got %08x, want %08x", i, from, got, want)
			}
			if got, want := Adler32(p[:from]), adler32.Checksum(p[:from]); got != want {
				t.Errorf("sample %d up to %d: got %08x, want %08x", i, from, got, want)
			}
		}
	}
}

// FuzzDecode holds the decoder against the standard library's.
func FuzzDecode(f *testing.F) {
	for i, s := range samples(f) {
		f.Add(pack(f, s[:min(len(s), 5000)], i%10), uint16(len(s)))
	}
	f.Fuzz(func(t *testing.T, src []byte, size uint16) {
		want := make([]byte, size)
		r := flate.NewReader(bytes.NewReader(src))
		wn, werr := io.ReadFull(r, want)
		got := make([]byte, size)
		n, used, done, err := Decode(got, src)
		if used < 0 || used > len(src) || n > int(size) {
			t.Fatalf("%d bytes written, %d of %d read", n, used, len(src))
		}
		switch {
		case werr == nil && size > 0:
			// The library had enough: so must we, though what follows may be damaged.
			if n != int(size) || !bytes.Equal(got, want) {
				t.Fatalf("got %d bytes, %v; the standard library has all %d", n, err, size)
			}
		case errors.Is(werr, io.EOF) || errors.Is(werr, io.ErrUnexpectedEOF) && err == nil:
			if err == nil && done && (n != wn || !bytes.Equal(got[:n], want[:wn])) {
				t.Fatalf("got %d bytes, the standard library %d", n, wn)
			}
		default:
			if err == nil && n == int(size) && size > 0 {
				t.Fatalf("all %d bytes came, and the standard library says %v", size, werr)
			}
		}
	})
}

// BenchmarkDecode takes one block after the other: of the same one again and again a processor learns what its branches do, and is twice as fast.
func BenchmarkDecode(b *testing.B) {
	const size = 65536
	text := sources(b)
	var packed [][]byte
	for len(text) >= size {
		packed = append(packed, pack(b, text[:size], 6))
		text = text[size:]
	}
	out := make([]byte, size)
	b.Run("ours", func(b *testing.B) {
		b.SetBytes(int64(len(packed)) * size)
		for b.Loop() {
			for _, p := range packed {
				if n, _, _, err := Decode(out, p); n != size || err != nil {
					b.Fatal(n, err)
				}
			}
		}
	})
	b.Run("std", func(b *testing.B) {
		b.SetBytes(int64(len(packed)) * size)
		r := flate.NewReader(nil)
		for b.Loop() {
			for _, p := range packed {
				if err := r.(flate.Resetter).Reset(bytes.NewReader(p), nil); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(r, out); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}

func BenchmarkAdler32(b *testing.B) {
	p := sources(b)[:65536]
	for name, sum := range map[string]func([]byte) uint32{"ours": Adler32, "std": adler32.Checksum} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				sum(p)
			}
		})
	}
}
