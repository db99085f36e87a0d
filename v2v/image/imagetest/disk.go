// Package imagetest is the conformance suite of the disk formats: what every reader and every writer has to do, with qemu-img as the
// other opinion. A format's tests call it with their format.
//
// It is for tests only, and knows no format.
package imagetest

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"initd/v2v/image"
)

// Fill says what a range of a Disk holds.
type Fill uint8

const (
	// Random does not compress, Text does, Zeros are zeros that are written.
	Random Fill = iota
	Text
	Zeros
)

// Range is a part of a Disk, in bytes.
type Range struct {
	Off, Len int64
	Fill     Fill
}

// Disk is the content of a guest's disk, computed and never stored, so that one of 2 TiB costs nothing. What no range covers is zeros.
type Disk struct {
	Name   string
	Size   int64
	Ranges []Range // ascending, without overlap
}

var _ io.ReaderAt = Disk{}

// ReadAt computes the content.
func (d Disk) ReadAt(p []byte, off int64) (int, error) {
	if off >= d.Size {
		return 0, io.EOF
	}
	var eof error
	if int64(len(p)) > d.Size-off {
		p, eof = p[:d.Size-off], io.EOF
	}
	clear(p)
	i, _ := slices.BinarySearchFunc(d.Ranges, off, func(r Range, off int64) int {
		if r.Off+r.Len <= off {
			return -1
		}
		return 1
	})
	for ; i < len(d.Ranges) && d.Ranges[i].Off < off+int64(len(p)); i++ {
		r := d.Ranges[i]
		from, to := max(r.Off, off), min(r.Off+r.Len, off+int64(len(p)))
		fill(p[from-off:to-off], from, r.Fill)
	}
	return len(p), eof
}

const words = "the quick brown fox jumps over the lazy dog and packs my box with five dozen liquor jugs; sphinx of black quartz, judge my vow. "

// fill writes what lies at an offset; each 4 KiB of the disk has a stream of its own.
func fill(p []byte, off int64, f Fill) {
	const page = 4096
	var buf [page]byte
	for len(p) > 0 {
		base := off / page * page
		switch f {
		case Random:
			g := rand.NewPCG(uint64(base), 0x9e3779b97f4a7c15)
			for i := 0; i < page; i += 8 {
				binary.LittleEndian.PutUint64(buf[i:], g.Uint64())
			}
		case Text:
			g := rand.NewPCG(uint64(base), 1)
			for i := 0; i < page; {
				at := int(g.Uint64() % uint64(len(words)-16))
				i += copy(buf[i:], words[at:at+8+int(g.Uint64()%8)])
			}
		case Zeros:
			clear(buf[:])
		}
		n := copy(p, buf[off-base:])
		p, off = p[n:], off+int64(n)
	}
}

// WriteRaw writes the disk as a sparse raw file.
func (d Disk) WriteRaw(t testing.TB, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(d.Size); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1<<20)
	for _, r := range d.Ranges {
		for at := r.Off; at < r.Off+r.Len; {
			p := buf[:min(int64(len(buf)), r.Off+r.Len-at)]
			fill(p, at, r.Fill)
			if _, err := f.WriteAt(p, at); err != nil {
				t.Fatal(err)
			}
			at += int64(len(p))
		}
	}
}

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
	// S is a sector, in bytes.
	S = image.Sector
)

// Patterns are the contents that a format has to carry, over the sizes at which tables and last units are odd. Large ones are sparse.
func Patterns() []Disk {
	disks := []Disk{
		{Name: "empty", Size: 0},
		{Name: "one sector of zeros", Size: S},
		{Name: "one sector", Size: S, Ranges: []Range{{0, S, Text}}},
		{Name: "one sector short of 64 KiB", Size: 64*kib - S, Ranges: []Range{{0, 64*kib - S, Random}}},
		{Name: "10 MiB and 3 sectors of zeros", Size: 10*mib + 3*S},
		{Name: "10 MiB and 3 sectors, random", Size: 10*mib + 3*S, Ranges: []Range{{0, 10*mib + 3*S, Random}}},
		{Name: "10 MiB and 3 sectors, text", Size: 10*mib + 3*S, Ranges: []Range{{0, 10*mib + 3*S, Text}}},
		{Name: "10 MiB and 3 sectors, mixed", Size: 10*mib + 3*S, Ranges: Mixed(1, 10*mib+3*S)},
		{Name: "zeros that are written", Size: 3 * mib, Ranges: []Range{{mib, mib, Zeros}}},
		{Name: "a hole at the end", Size: 10 * mib, Ranges: []Range{{0, mib, Random}, {mib, 64 * kib, Text}}},
		{Name: "a hole at the start", Size: 10 * mib, Ranges: []Range{{9 * mib, mib - 5*S, Text}, {10*mib - S, S, Random}}},
		{Name: "2 GiB and a sector", Size: 2*gib + S, Ranges: []Range{{0, 70 * kib, Text}, {gib - 4*kib, 8 * kib, Random}, {2*gib - 64*kib, 64*kib + S, Text}}},
		{Name: "2100 GiB with both ends", Size: 2100 * gib, Ranges: []Range{{0, mib, Text}, {2100*gib - mib, mib, Random}}},
	}
	islands := Disk{Name: "islands of 4 KiB", Size: 8 * mib}
	for off := int64(0); off < islands.Size; off += 36 * kib {
		islands.Ranges = append(islands.Ranges, Range{off, 4 * kib, Fill(off / (36 * kib) % 3)})
	}
	return append(disks, islands)
}

// MixedDisk is a disk of Mixed ranges.
func MixedDisk(seed uint64, size int64) Disk {
	return Disk{Name: "mixed", Size: size, Ranges: Mixed(seed, size)}
}

// Mixed are random ranges of which about 42 % are data, of any sector's length.
func Mixed(seed uint64, size int64) []Range {
	g := rand.New(rand.NewPCG(seed, 42))
	var ranges []Range
	for off := int64(0); off < size; {
		n := min(size-off, S*(1+g.Int64N(400)))
		switch g.IntN(100) {
		case 0:
			ranges = append(ranges, Range{off, n, Zeros})
		default:
			if g.IntN(100) < 42 {
				ranges = append(ranges, Range{off, n, Fill(g.IntN(2))})
			}
		}
		off += n
	}
	return ranges
}
