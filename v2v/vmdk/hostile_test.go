package vmdk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/klauspost/compress/zlib"

	"initd/v2v/image"
	"initd/v2v/image/imagetest"
)

// dir is a source that has siblings out of memory.
type dir struct {
	imagetest.Bytes
	files map[string][]byte
}

func (d dir) Sibling(n string) (image.Source, error) {
	b, ok := d.files[n]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return imagetest.Bytes{Label: n, Data: b}, nil
}

func written(t testing.TB, opt image.Options, d imagetest.Disk) []byte {
	t.Helper()
	w := writing("")
	w.Options = opt
	return w.Written(t, d)
}

// small is a disk of five grains, of which the last is short.
var small = imagetest.Disk{Name: "small", Size: 4*writeUnit + 3*sector, Ranges: []imagetest.Range{{Off: 0, Len: 2 * writeUnit, Fill: imagetest.Text}, {Off: 4 * writeUnit, Len: 3 * sector, Fill: imagetest.Text}}}

// readAll opens a source and reads all of it.
func readAll(t *testing.T, src image.Source) error {
	t.Helper()
	r, err := Format().Open(t.Context(), src, image.OpenOptions{})
	if err != nil {
		return err
	}
	defer r.Close()
	for e, err := range r.Extents(0) {
		if err != nil {
			return err
		}
		if e.Kind == image.Data {
			if _, err := r.ReadAt(make([]byte, min(e.Length, 1<<20)), e.Offset); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
		}
	}
	return nil
}

func pipe(t *testing.T, b []byte) error {
	t.Helper()
	s, err := Format().OpenStream(t.Context(), bytes.NewReader(b), "pipe", image.OpenOptions{})
	if err != nil {
		return err
	}
	defer s.Close()
	for {
		if _, _, err := s.Next(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func put32(off int, v uint32) func([]byte) []byte {
	return func(b []byte) []byte { binary.LittleEndian.PutUint32(b[off:], v); return b }
}

func put64(off int, v uint64) func([]byte) []byte {
	return func(b []byte) []byte { binary.LittleEndian.PutUint64(b[off:], v); return b }
}

// text replaces the descriptor inside.
func text(old, with string) func([]byte) []byte {
	return func(b []byte) []byte {
		d := bytes.TrimRight(b[sector:21*sector], "\x00")
		d = []byte(strings.Replace(string(d), old, with, 1))
		clear(b[sector : 21*sector])
		copy(b[sector:], d)
		return b
	}
}

func TestSparseFilesThatAreRefused(t *testing.T) {
	whole := written(t, image.Options{"subformat": monolithicSparse}, small)
	gd := int(binary.LittleEndian.Uint64(whole[56:])) * sector
	gt := int(binary.LittleEndian.Uint32(whole[gd:])) * sector
	gte0 := binary.LittleEndian.Uint32(whole[gt:])
	for _, tc := range []struct {
		name   string
		code   string
		change func([]byte) []byte
	}{
		{"as it was written", "", func(b []byte) []byte { return b }},
		{"version 0", "vmdk-version", put32(4, 0)},
		{"version 4", "vmdk-version", put32(4, 4)},
		{"version 2 with zeroed grains", "", func(b []byte) []byte { return put32(8, 7)(put32(4, 2)(b)) }},
		{"version 3", "", put32(4, 3)},
		{"an unknown flag", "vmdk-flags", put32(8, 3|1<<18)},
		{"the highest flag", "vmdk-flags", put32(8, 3|1<<31)},
		{"compressed without markers", "vmdk-flags", put32(8, 3|1<<16)},
		{"markers without compression", "vmdk-flags", put32(8, 3|1<<17)},
		{"compressed by an unknown method", "vmdk-compression", func(b []byte) []byte { b[77] = 2; return put32(8, 3|3<<16)(b) }},
		{"a method without the flag", "vmdk-compression", func(b []byte) []byte { b[77] = 1; return b }},
		{"copied as a text", "vmdk-newline", func(b []byte) []byte { b[75] = '\n'; return b }},
		{"a grain of 0", "vmdk-grain", put64(20, 0)},
		{"a grain of 100 sectors", "vmdk-grain", put64(20, 100)},
		{"a grain of 4 sectors", "vmdk-grain", put64(20, 4)},
		{"a grain of 2^40 sectors", "vmdk-grain", put64(20, 1<<40)},
		{"no entries in a table", "vmdk-gtes", put32(44, 0)},
		{"513 entries in a table", "vmdk-gtes", put32(44, 513)},
		{"a capacity of 2^63 sectors", "vmdk-size", put64(12, 1<<63)},
		{"a capacity of 64 TiB with small tables", "vmdk-tables", func(b []byte) []byte { return put32(44, 1)(put64(12, 64<<40/sector)(b)) }},
		{"a capacity one sector too large", "", put64(12, uint64(small.Size/sector+1))},
		{"a capacity one sector too small", "vmdk-capacity", put64(12, uint64(small.Size/sector-1))},
		{"a capacity a grain too large", "vmdk-capacity", put64(12, uint64(small.Size/sector+128))},
		{"the directory past the end", "vmdk-gd", put64(56, 1<<31)},
		{"the directory past all files", "vmdk-gd", put64(56, 1<<60)},
		{"the directory at the end, in a file that is not compressed", "vmdk-gd", put64(56, gdAtEnd)},
		{"the directory at 0", "vmdk-gd", put64(56, 0)},
		{"a table past the end", "vmdk-gt", put32(gd, 1<<30)},
		{"a table over the header", "vmdk-overlap", put32(gd, 0+1)},
		{"a table over the directory", "vmdk-overlap", put32(gd, uint32(gd/sector))},
		{"the directory over the descriptor", "vmdk-overlap", put64(56, 5)},
		{"a grain past the end", "vmdk-grain-place", put32(gt, 1<<31)},
		{"a grain over the header", "vmdk-overlap", put32(gt, 1)},
		{"a grain over a table", "vmdk-overlap", put32(gt, uint32(gt/sector))},
		{"a grain that is used twice", "vmdk-overlap", put32(gt+4, gte0)},
		{"a grain that begins in another one", "vmdk-overlap", put32(gt+4, gte0+1)},
		{"a grain past the end of the disk", "vmdk-grain-place", put32(gt+4*5, gte0+128*8)},
		{"the descriptor past the end", "vmdk-descriptor", put64(28, 1<<40)},
		{"a descriptor of 2^40 sectors", "vmdk-descriptor", put64(36, 1<<40)},
		{"no descriptor", "vmdk-part", put64(28, 0)},
		{"a parent's CID", "vmdk-delta", text("parentCID=ffffffff", "parentCID=12345678")},
		{"a parent's name", "vmdk-delta", text("parentCID=ffffffff", "parentCID=ffffffff\nparentFileNameHint=\"/etc/passwd\"")},
		{"a second parent's CID", "vmdk-descriptor", text("parentCID=ffffffff", "parentCID=ffffffff\nparentCID=12345678")},
		{"a descriptor of version 4", "vmdk-version", text("version=1", "version=4")},
		{"a descriptor without version", "vmdk-descriptor", text("version=1", "")},
		{"a descriptor in CR LF and capitals", "", func(b []byte) []byte {
			return text("parentCID=ffffffff\n", "PARENTCID=FFFFFFFF\r\n")(text("version=1\n", "Version = 1\r\n")(b))
		}},
		{"an extent that is another file", "vmdk-embedded-extents", text(`SPARSE "disk.vmdk"`, `FLAT "/etc/passwd" 0`)},
		{"a further extent", "vmdk-embedded-extents", text("\n# The Disk", "RW 1 FLAT \"/etc/passwd\" 0\n# The Disk")},
		{"capacity 0 and a file outside", "vmdk-embedded-extents", func(b []byte) []byte {
			return put64(12, 0)(text(`createType="monolithicSparse"`, `createType="monolithicFlat"`)(text(`SPARSE "disk.vmdk"`, `FLAT "/etc/passwd" 0`)(b)))
		}},
		{"capacity 0 and its own name", "vmdk-embedded-extents", put64(12, 0)},
		{"a line that is nothing", "vmdk-descriptor", text("version=1", "version=1\nhello")},
		{"an extent of -1 sectors", "vmdk-descriptor", text("RW 515", "RW -1")},
		{"an extent with one quote", "vmdk-descriptor", text(`"disk.vmdk"`, `"disk.vmdk`)},
		{"a name that the file had elsewhere", "", text(`"disk.vmdk"`, `"/vmfs/volumes/x/y.vmdk"`)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := tc.change(append([]byte(nil), whole...))
			if err := readAll(t, imagetest.Bytes{Label: "disk.vmdk", Data: b}); imagetest.Code(err) != tc.code {
				t.Errorf("got %q (%v), want %q", imagetest.Code(err), err, tc.code)
			}
		})
	}
	for _, n := range []int{0, 3, 511, 512, 513, 5 * sector, gd, gt, gt + 100, int(gte0) * sector, len(whole) - 128*sector - 1} {
		if err := readAll(t, imagetest.Bytes{Label: "disk.vmdk", Data: whole[:n]}); err == nil {
			t.Errorf("cut at %d of %d: it is read", n, len(whole))
		}
	}
}

func TestRedundantTablesThatDifferAreAWarning(t *testing.T) {
	b := written(t, image.Options{"subformat": monolithicSparse}, small)
	rgd := int(binary.LittleEndian.Uint64(b[48:])) * sector
	rgt := int(binary.LittleEndian.Uint32(b[rgd:])) * sector
	for name, change := range map[string]func([]byte) []byte{"another table": put32(rgt, 77), "no table": put32(rgd, 0), "a table past the end": put32(rgd, 1<<30), "no directory": put64(48, 1<<40)} {
		r, err := Format().Open(t.Context(), imagetest.Bytes{Label: "disk.vmdk", Data: change(append([]byte(nil), b...))}, image.OpenOptions{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if w := r.Info().Warnings; len(w) != 1 {
			t.Errorf("%s: warnings %q", name, w)
		}
	}
	b[72] = 1
	r, err := Format().Open(t.Context(), imagetest.Bytes{Label: "disk.vmdk", Data: b}, image.OpenOptions{})
	if err != nil || len(r.Info().Warnings) != 1 {
		t.Errorf("unclean shutdown: %v", err)
	}
}

func TestDescriptors(t *testing.T) {
	sparse := func(n int64) []byte {
		return written(t, image.Options{"subformat": monolithicSparse}, imagetest.Disk{Size: n})
	}
	head := "# Disk DescriptorFile\r\nversion=1\r\nencoding=\"windows-1252\"\r\nCID=12345678\r\nparentCID=ffffffff\r\n"
	files := map[string][]byte{"a.bin": make([]byte, 10*sector), "s.vmdk": sparse(128 * sector), "dür.vmdk": make([]byte, sector), "cowd": append([]byte("COWD"), make([]byte, 1020)...),
		"se": append([]byte(magicSESparse), make([]byte, 1020)...), "with space.bin": make([]byte, sector)}
	for _, tc := range []struct{ name, lines, code string }{
		{"one flat extent", "createType=\"monolithicFlat\"\r\nRW 10 FLAT \"a.bin\" 0\r\n", ""},
		{"small letters", "createtype=\"custom\"\nrw 10 flat \"a.bin\" 0\n", ""},
		{"tabs between the words", "RW\t10 \tFLAT\t\"a.bin\"\t0\n", ""},
		{"an extent of ESXi", "createType=\"vmfs\"\nRW 10 VMFS \"a.bin\"\n", ""},
		{"a name with a space", "RW 1 FLAT \"with space.bin\" 0\n", ""},
		{"a name in windows-1252", "RW 1 FLAT \"d\xfcr.vmdk\" 0\n", ""},
		{"read-only", "RDONLY 10 FLAT \"a.bin\" 0\n", ""},
		{"two parts of a file", "RW 5 FLAT \"a.bin\" 0\nRW 5 FLAT \"a.bin\" 5\n", ""},
		{"zeros between", "RW 5 FLAT \"a.bin\" 0\nRW 100 ZERO\nRW 128 SPARSE \"s.vmdk\"\n", ""},
		{"the same part twice", "RW 5 FLAT \"a.bin\" 0\nRW 5 FLAT \"a.bin\" 4\n", "vmdk-overlap"},
		{"the same sparse extent twice", "RW 128 SPARSE \"s.vmdk\"\nRW 128 SPARSE \"s.vmdk\"\n", "vmdk-overlap"},
		{"a file that is too short", "RW 11 FLAT \"a.bin\" 0\n", "vmdk-extent-short"},
		{"an offset past the end", "RW 5 FLAT \"a.bin\" 9999999999\n", "vmdk-extent-short"},
		{"an absolute name", "RW 1 FLAT \"/etc/passwd\" 0\n", "vmdk-extent-outside"},
		{"a name with ..", "RW 1 FLAT \"../x\" 0\n", "vmdk-extent-outside"},
		{"a name of Windows", "RW 1 FLAT \"C:\\x\" 0\n", "vmdk-extent-outside"},
		{"json:", "RW 1 FLAT \"json:{}\" 0\n", "vmdk-extent-outside"},
		{"a protocol", "RW 1 FLAT \"nbd:unix:x\" 0\n", "vmdk-extent-outside"},
		{"the descriptor itself", "RW 1 FLAT \"disk.vmdk\" 0\n", "vmdk-extent-self"},
		{"no access", "NOACCESS 10 FLAT \"a.bin\" 0\n", "vmdk-noaccess"},
		{"a delta's type", "createType=\"vmfsSparse\"\nRW 10 VMFSSPARSE \"a.bin\"\n", "vmdk-delta"},
		{"a delta's extent", "createType=\"custom\"\nRW 10 VMFSSPARSE \"a.bin\"\n", "vmdk-delta"},
		{"seSparse by its extent", "RW 10 SESPARSE \"a.bin\"\n", "vmdk-delta"},
		{"a raw device", "createType=\"fullDevice\"\nRW 10 FLAT \"a.bin\" 0\n", "vmdk-raw-device"},
		{"a raw device mapping", "RW 10 VMFSRDM \"a.bin\"\n", "vmdk-raw-device"},
		{"an unknown extent", "RW 10 HOLO \"a.bin\"\n", "vmdk-extent-type"},
		{"COWD in a sparse extent", "RW 2 SPARSE \"cowd\"\n", "vmdk-cowd"},
		{"seSparse in a sparse extent", "RW 2 SPARSE \"se\"\n", "vmdk-sesparse"},
		{"a sparse extent that is none", "RW 10 SPARSE \"a.bin\"\n", "vmdk-magic"},
		{"a sparse extent of another size", "RW 600 SPARSE \"s.vmdk\"\n", "vmdk-capacity"},
		{"no extent", "createType=\"monolithicFlat\"\n", "vmdk-descriptor"},
		{"more than 64 TiB", "RW 137438953472 ZERO\nRW 1 ZERO\n", "vmdk-size"},
		{"too many extents", strings.Repeat("RW 1 ZERO\n", maxExtents+1), "vmdk-descriptor"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := readAll(t, dir{imagetest.Bytes{Label: "disk.vmdk", Data: []byte(head + tc.lines)}, files})
			if imagetest.Code(err) != tc.code {
				t.Errorf("got %q (%v), want %q", imagetest.Code(err), err, tc.code)
			}
		})
	}
	if err := readAll(t, dir{imagetest.Bytes{Label: "disk.vmdk", Data: []byte(head + "RW 1 FLAT \"gone.bin\" 0\n")}, files}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is missing: %v", err)
	}
	if err := readAll(t, imagetest.Bytes{Label: "disk.vmdk", Data: []byte(head + "RW 1 FLAT \"a.bin\" 0\n")}); imagetest.Code(err) != "sibling-alone" {
		t.Errorf("an uploaded file with a further one: %v", err)
	}
}

// zlibOf compresses.
func zlibOf(b []byte) []byte {
	var out bytes.Buffer
	w := zlib.NewWriter(&out)
	_, _ = w.Write(b)
	_ = w.Close()
	return out.Bytes()
}

// grainAt replaces the data of the stored grain at a byte of the file; they must not be longer than its room.
func grainAt(off int, data []byte) func([]byte) []byte {
	return func(b []byte) []byte {
		binary.LittleEndian.PutUint32(b[off+8:], uint32(len(data)))
		copy(b[off+12:], data)
		return b
	}
}

func TestStreamsThatAreRefused(t *testing.T) {
	for _, footer := range []string{"on", "off"} {
		whole := written(t, image.Options{"subformat": streamOptimized, "footer": footer}, small)
		first := writeGrain * sector
		if footer == "off" {
			first = int(binary.LittleEndian.Uint64(whole[64:])) * sector
		}
		size := int(binary.LittleEndian.Uint32(whole[first+8:]))
		second := first + (size+grainHead+sector-1)/sector*sector
		end := len(whole)
		type row struct {
			name       string
			seek, pipe string
			change     func([]byte) []byte
		}
		rows := []row{
			{"as it was written", "", "", func(b []byte) []byte { return b }},
			{"another LBA", "vmdk-grain-marker", "*", put64(first, 128)},
			{"an LBA past the end", "vmdk-grain-marker", "vmdk-grain-marker", put64(first, 1<<50)},
			{"a grain of 4 GiB", "vmdk-grain-marker", "vmdk-grain-marker", put32(first+8, 1<<32-1)},
			{"a grain just over two grains", "vmdk-grain-marker", "vmdk-grain-marker", put32(first+8, 2*writeUnit-grainHead+1)},
			{"a grain that reaches into the next", "vmdk-grain-marker", "*", put32(first+8, uint32(second-first))},
			{"a bomb", "vmdk-grain-data", "vmdk-grain-data", grainAt(first, zlibOf(make([]byte, 64<<10+1)))},
			{"a short grain in the middle", "vmdk-grain-data", "vmdk-grain-data", grainAt(first, zlibOf(make([]byte, 64<<10-1)))},
			{"damaged data", "vmdk-grain-data", "vmdk-grain-data", func(b []byte) []byte { b[first+40] ^= 0xff; return b }},
			{"cut in the middle of a grain", "*", "vmdk-truncated", func(b []byte) []byte { return b[:first+sector] }},
			{"bytes after the end", "*", "vmdk-after-end", func(b []byte) []byte { return append(b, bytes.Repeat([]byte{1}, sector)...) }},
			{"version 4", "vmdk-version", "vmdk-version", put32(4, 4)},
		}
		if footer == "on" {
			rows = append(rows,
				row{"no end-of-stream marker", "vmdk-footer", "vmdk-truncated", func(b []byte) []byte { return b[:end-sector] }},
				row{"an end-of-stream marker that is none", "vmdk-eos", "*", put32(end-sector+100, 7)},
				row{"no footer", "vmdk-footer", "*", func(b []byte) []byte { return append(b[:end-3*sector], make([]byte, sector)...) }},
				row{"a footer of another capacity", "vmdk-footer", "vmdk-footer", put64(end-2*sector+12, uint64(small.Size/sector)+1)},
				row{"a footer of another grain", "vmdk-footer", "vmdk-footer", put64(end-2*sector+20, 64)},
				row{"a footer of other flags", "vmdk-footer", "vmdk-footer", put32(end-2*sector+8, 3<<16|3)},
				row{"a footer without a directory", "vmdk-footer", "vmdk-footer", put64(end-2*sector+56, gdAtEnd)},
				row{"a footer with another directory", "*", "vmdk-footer", put64(end-2*sector+56, 3)},
				row{"a directory without its table", "", "vmdk-gt", put32(end-4*sector, 0)},
				row{"a header that says where the directory is, too", "", "*", func(b []byte) []byte { return put64(56, uint64(end/sector-4))(b) }},
				row{"cut between two grains", "vmdk-footer", "vmdk-truncated", func(b []byte) []byte { return b[:second] }},
				row{"bytes after the end, zeros", "vmdk-footer", "vmdk-after-end", func(b []byte) []byte { return append(b, make([]byte, sector)...) }},
				row{"an unknown marker", "", "vmdk-marker", put32(end-5*sector+12, 9)},
			)
		} else {
			rows = append(rows,
				row{"qemu-img's end: none", "", "", func(b []byte) []byte { return b[:end-sector] }},
				row{"cut between two grains", "vmdk-grain-place", "vmdk-truncated", func(b []byte) []byte { return b[:second] }},
				row{"a table that does not list a grain", "", "*", put32(int(binary.LittleEndian.Uint32(whole[21*sector:]))*sector, 0)},
			)
		}
		for _, tc := range rows {
			t.Run("footer="+footer+" "+tc.name, func(t *testing.T) {
				b := tc.change(append([]byte(nil), whole...))
				if err := readAll(t, imagetest.Bytes{Label: "disk.vmdk", Data: b}); imagetest.Code(err) != tc.seek && (tc.seek != "*" || err == nil) {
					t.Errorf("from a file: %q (%v), want %q", imagetest.Code(err), err, tc.seek)
				}
				if err := pipe(t, b); imagetest.Code(err) != tc.pipe && (tc.pipe != "*" || err == nil) {
					t.Errorf("from a pipe: %q (%v), want %q", imagetest.Code(err), err, tc.pipe)
				}
			})
		}
	}
}

// TestForeignDialects puts together what others write, by their documents and sources.
func TestForeignDialects(t *testing.T) {
	whole := written(t, image.Options{"subformat": streamOptimized, "footer": "on"}, small)
	end := len(whole)
	v1 := func(b []byte) []byte { // VirtualBox: version 1 in both
		b = put32(4, 1)(append([]byte(nil), b...))
		return put32(end-2*sector+4, 1)(b)
	}
	// vSphere puts markers of type 4 between the grains; offsets behind move by a sector, so here it stands behind the last table.
	progress := func(b []byte) []byte {
		at := end - 5*sector
		out := append([]byte(nil), b[:at]...)
		out = append(out, marker{value: 3, kind: markerProgress}.encode()...)
		out = append(out, b[at:]...)
		n := len(out)
		return put64(n-2*sector+56, binary.LittleEndian.Uint64(out[n-2*sector+56:])+1)(out)
	}
	// With the tables in front nothing moves behind the last grain.
	front := written(t, image.Options{"subformat": streamOptimized, "footer": "off"}, small)
	after := append(append(append([]byte(nil), front[:len(front)-sector]...), marker{value: 3, kind: markerProgress}.encode()...), make([]byte, sector)...)
	for name, b := range map[string][]byte{"version 1 and a footer": v1(whole), "a marker of type 4": progress(whole), "a marker of type 4 behind the last grain": after} {
		t.Run(name, func(t *testing.T) {
			r, err := Format().Open(t.Context(), imagetest.Bytes{Label: "disk.vmdk", Data: b}, image.OpenOptions{})
			if err != nil {
				t.Fatal(err)
			}
			imagetest.Reader(t, r, small, small.Size)
			streamed(t, b, small)
		})
	}
}

func fields() []imagetest.Field {
	le := binary.LittleEndian
	return []imagetest.Field{{Name: "version", Offset: 4, Bytes: 4, Order: le}, {Name: "flags", Offset: 8, Bytes: 4, Order: le}, {Name: "capacity", Offset: 12, Bytes: 8, Order: le}, {Name: "grain", Offset: 20, Bytes: 8, Order: le},
		{Name: "descriptorOffset", Offset: 28, Bytes: 8, Order: le}, {Name: "descriptorSize", Offset: 36, Bytes: 8, Order: le}, {Name: "numGTEsPerGT", Offset: 44, Bytes: 4, Order: le}, {Name: "rgdOffset", Offset: 48, Bytes: 8, Order: le},
		{Name: "gdOffset", Offset: 56, Bytes: 8, Order: le}, {Name: "overHead", Offset: 64, Bytes: 8, Order: le}, {Name: "compressAlgorithm", Offset: 77, Bytes: 2, Order: le}}
}

func TestMutations(t *testing.T) {
	for _, o := range []image.Options{{"subformat": monolithicSparse}, {"subformat": streamOptimized}, {"subformat": streamOptimized, "footer": "on"}} {
		whole := written(t, o, small)
		imagetest.Mutations(t, Format(), whole, fields(), []int64{sector, 21 * sector, 22 * sector, 26 * sector, 128 * sector}, 128<<20)
		for _, f := range fields() {
			for _, v := range []uint64{0, 1, 1<<32 - 1, 1<<63 - 1, 1<<64 - 1} {
				b := append([]byte(nil), whole...)
				for i := range f.Bytes {
					b[f.Offset+int64(i)] = byte(v >> (8 * i))
				}
				_ = pipe(t, b)
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	for _, o := range []image.Options{{"subformat": monolithicSparse}, {"subformat": streamOptimized}, {"subformat": streamOptimized, "footer": "on"}} {
		f.Add(written(f, o, imagetest.Disk{Size: 3 * sector, Ranges: []imagetest.Range{{Off: 0, Len: sector, Fill: imagetest.Text}}}))
	}
	f.Add([]byte("# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\nRW 1 FLAT \"x\" 0\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		imagetest.Hostile(t, "fuzz", Format(), data, 0)
		s, err := Format().OpenStream(t.Context(), bytes.NewReader(data), "fuzz", image.OpenOptions{})
		if err != nil {
			return
		}
		defer s.Close()
		for range 100 {
			if _, _, err := s.Next(); err != nil {
				return
			}
		}
	})
}

func FuzzDescriptor(f *testing.F) {
	f.Add([]byte("version=1\nCID=1\nparentCID=ffffffff\nRW 1 FLAT \"x\" 0\nddb.adapterType = \"ide\"\n"))
	f.Add(describe(settings{subformat: splitFlat, adapter: "ide", hardware: "4"}, newID(), 1<<30).text([]extentLine{{access: "RW", kind: "FLAT", file: "ü", sectors: 9}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := parseDescriptor("fuzz", data)
		if err != nil {
			return
		}
		for _, e := range d.extents {
			again, ok, err := parseExtent(fmt.Sprintf("%s %d %s %q %d", e.access, e.sectors, e.kind, "x", e.offset))
			if !ok || err != nil || again.sectors != e.sectors || again.offset != e.offset {
				t.Errorf("%+v does not survive: %v", e, err)
			}
		}
	})
}
