package vhdx

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"initd/v2v/image/imagetest"
)

var mixed = imagetest.MixedDisk(21, 10<<20+3*imagetest.S)

// small is a disk of three blocks of 1 MiB, of which the first and the last are stored.
var small = imagetest.Disk{Name: "small", Size: 2<<20 + sector, Ranges: []imagetest.Range{{Off: 0, Len: 1 << 20, Fill: imagetest.Text}, {Off: 2 << 20, Len: sector, Fill: imagetest.Text}}}

func written(t testing.TB, d imagetest.Disk) []byte {
	t.Helper()
	return writing("1M").Written(t, d)
}

func put32(off int, v uint32) func([]byte) {
	return func(b []byte) { binary.LittleEndian.PutUint32(b[off:], v) }
}
func put64(off int, v uint64) func([]byte) {
	return func(b []byte) { binary.LittleEndian.PutUint64(b[off:], v) }
}

// regions changes both region tables, headers both headers, with the right checksums.
func regions(f func([]byte)) func([]byte) {
	return func(b []byte) {
		for _, at := range []int{regionAt1, regionAt2} {
			f(b[at : at+regionSize])
			put32(at+4, checksum(b[at:at+regionSize], 4))(b)
		}
	}
}

func headers(f func([]byte)) func([]byte) {
	return func(b []byte) {
		for _, at := range []int{headerAt1, headerAt2} {
			f(b[at : at+headerSize])
			put32(at+4, checksum(b[at:at+headerSize], 4))(b)
		}
	}
}

// item changes the value of the nth metadata item as they are written: parameters, size, page 83, logical, physical.
func item(n, off int, f func(int) func([]byte)) func([]byte) {
	return func(b []byte) {
		at := metaAt + int(binary.LittleEndian.Uint32(b[metaAt+32+32*n+16:]))
		f(at + off)(b)
	}
}

func as32(v uint32) func(int) func([]byte) { return func(at int) func([]byte) { return put32(at, v) } }
func as64(v uint64) func(int) func([]byte) { return func(at int) func([]byte) { return put64(at, v) } }

func TestDisksThatAreRefused(t *testing.T) {
	whole := written(t, small)
	const bat = batAt
	present := func(mib uint64) uint64 { return mib<<20 | statePresent }
	imagetest.Refusals(t, Format(), whole, []imagetest.Damage{
		{"as it was written", "", func([]byte) {}},
		{"no signature", "vhdx-magic", func(b []byte) { b[0] = 'x' }},
		{"the second header damaged", "", func(b []byte) { b[headerAt2+9] ^= 1 }},
		{"both headers damaged", "vhdx-headers", func(b []byte) { b[headerAt1+9] ^= 1; b[headerAt2+9] ^= 1 }},
		{"version 2", "vhdx-version", headers(func(h []byte) { h[66] = 2 })},
		{"a log over the metadata", "vhdx-overlap", headers(put64(72, 2*mib))},
		{"a log at an odd place", "vhdx-log", headers(put64(72, 1000))},
		{"one region table damaged", "", func(b []byte) { b[regionAt1+8] ^= 1 }},
		{"both region tables damaged", "vhdx-regions", func(b []byte) { b[regionAt1+8] ^= 1; b[regionAt2+8] ^= 1 }},
		{"2048 regions", "vhdx-regions", regions(put32(8, 2048))},
		{"no regions", "vhdx-regions", regions(put32(8, 0))},
		{"an unknown region that is required", "vhdx-unknown-region", regions(func(r []byte) {
			put32(8, 3)(r)
			r[16+64] = 9
			put64(16+64+16, 4*mib)(r)
			put32(16+64+24, mib)(r)
			put32(16+64+28, 1)(r)
		})},
		{"a region past the end", "vhdx-regions", regions(put64(16+16, 1<<40))},
		{"a region at an odd place", "vhdx-regions", regions(put64(16+16, 3*mib+512))},
		{"a region over the headers", "vhdx-regions", regions(put64(16+16, 0))},
		{"two regions over each other", "vhdx-overlap", regions(put64(16+16, metaAt))},
		{"the same region twice", "vhdx-regions", regions(func(r []byte) { put32(8, 3)(r); copy(r[16+64:], r[16:48]); put64(16+64+16, 4*mib)(r) })},
		{"no metadata", "vhdx-metadata", func(b []byte) { b[metaAt] = 'x' }},
		{"2048 items", "vhdx-metadata", func(b []byte) { binary.LittleEndian.PutUint16(b[metaAt+10:], 2048) }},
		{"no items", "vhdx-metadata", func(b []byte) { binary.LittleEndian.PutUint16(b[metaAt+10:], 0) }},
		{"an item outside its region", "vhdx-metadata", put32(metaAt+32+16, mib)},
		{"an item over the table", "vhdx-metadata", put32(metaAt+32+16, 32)},
		{"an item of another length", "vhdx-metadata", put32(metaAt+32+20, 4)},
		{"an item twice", "vhdx-metadata", func(b []byte) { copy(b[metaAt+32+32:metaAt+32+64], b[metaAt+32:metaAt+64]) }},
		{"an unknown item that is required", "vhdx-unknown-item", func(b []byte) { b[metaAt+32+64] ^= 1 }},
		{"an unknown item that is not", "", func(b []byte) { b[metaAt+32+64] ^= 1; put32(metaAt+32+64+24, 0)(b) }},
		{"a parent's locator", "vhdx-differencing", func(b []byte) { l := newIDs().locator; copy(b[metaAt+32+64:], l[:]) }},
		{"the flag of a parent", "vhdx-differencing", item(0, 4, as32(flagParent))},
		{"the flag of fixed blocks", "", item(0, 4, as32(flagKeepBlocks))},
		{"a block of 0", "vhdx-block", item(0, 0, as32(0))},
		{"a block of 3 MiB", "vhdx-block", item(0, 0, as32(3*mib))},
		{"a block of 512 MiB", "vhdx-block", item(0, 0, as32(512*mib))},
		{"an odd size", "vhdx-size", item(1, 0, as64(2<<20+1))},
		{"a size of 2^64-512", "vhdx-size", item(1, 0, as64(1<<64-512))},
		{"more than 64 TiB", "vhdx-size", item(1, 0, as64(64<<40+512))},
		{"more than the table has room for", "vhdx-bat", item(1, 0, as64(1<<40))},
		{"sectors of 4096 bytes", "vhdx-4096", item(3, 0, as32(4096))},
		{"sectors of 1000 bytes", "vhdx-sector", item(3, 0, as32(1000))},
		{"a partly present block", "vhdx-differencing", put64(bat, 4<<20|statePartial)},
		{"an unknown state", "vhdx-bat", put64(bat, 4)},
		{"a block of zeros", "", put64(bat, stateZero)},
		{"an unmapped block", "", put64(bat, stateUnmapped5)},
		{"a block past the end", "vhdx-block-place", put64(bat, present(1000))},
		{"a block far past the end", "vhdx-block-place", put64(bat, 1<<63|statePresent)},
		{"a block over the header section", "vhdx-block-place", put64(bat, present(0))},
		{"a block over the metadata", "vhdx-overlap", put64(bat, present(2))},
		{"a block over the log", "vhdx-overlap", put64(bat, present(1))},
		{"a block twice", "vhdx-overlap", func(b []byte) { copy(b[bat+8:bat+16], b[bat:bat+8]) }},
		{"a log that has to be replayed, and is empty", "vhdx-log", headers(func(h []byte) { h[48] = 1 })},
		{"a log of version 1 that has to be replayed", "vhdx-log-version", headers(func(h []byte) { h[48] = 1; h[64] = 1 })},
		{"a log past the end that has to be replayed", "vhdx-log", headers(func(h []byte) { h[48] = 1; put64(72, 1<<40)(h) })},
		{"a log of 4 GiB that has to be replayed", "vhdx-log", headers(func(h []byte) { h[48] = 1; put32(68, 0xfff00000)(h) })},
	}, 0, 7, 8, 65536, 200<<10, mib-1, mib, 2*mib, 3*mib, 4*mib, len(whole)-mib)
}

// change is what a log does: data (4 KiB) to an offset, or zeros for a length.
type change struct {
	at, zeros int64
	data      []byte
}

// logEntry makes an entry as [MS-VHDX] 2.3.1 says.
func logEntry(id guid, sequence uint64, tail uint32, flushed, last int64, changes ...change) []byte {
	le := binary.LittleEndian
	b := make([]byte, (logeSize+len(changes)*descSize+logUnit-1)/logUnit*logUnit)
	copy(b, logeMagic)
	le.PutUint32(b[12:], tail)
	le.PutUint64(b[16:], sequence)
	le.PutUint32(b[24:], uint32(len(changes)))
	copy(b[32:], id[:])
	le.PutUint64(b[48:], uint64(flushed))
	le.PutUint64(b[56:], uint64(last))
	for i, c := range changes {
		at := logeSize + i*descSize
		le.PutUint64(b[at+16:], uint64(c.at))
		le.PutUint64(b[at+24:], sequence)
		if c.data == nil {
			copy(b[at:], zeroMagic)
			le.PutUint64(b[at+8:], uint64(c.zeros))
			continue
		}
		copy(b[at:], descMagic)
		copy(b[at+4:at+8], c.data[logUnit-4:])
		copy(b[at+8:at+16], c.data[:8])
		s := append([]byte(nil), c.data...)
		copy(s, dataMagic)
		le.PutUint32(s[4:], uint32(sequence>>32))
		le.PutUint32(s[logUnit-4:], uint32(sequence))
		b = append(b, s...)
	}
	le.PutUint32(b[8:], uint32(len(b)))
	le.PutUint32(b[4:], checksum(b, 4))
	return b
}

// dirty puts entries into the log of an image, from an offset of it on, around its end.
func dirty(b []byte, id guid, at int, entries ...[]byte) []byte {
	b = append([]byte(nil), b...)
	for _, e := range entries {
		for _, c := range e {
			b[logAt+at%logLength] = c
			at++
		}
	}
	headers(func(h []byte) { copy(h[48:], id[:]) })(b)
	return b
}

func TestTheLogIsReplayed(t *testing.T) {
	whole := written(t, small)
	size := int64(len(whole))
	id := newGUID()
	page := func(c byte) []byte { return bytes.Repeat([]byte{c, c + 1}, logUnit/2) }
	data := int64(4 * mib) // of the first block
	content := make([]byte, small.Size)
	_, _ = small.ReadAt(content, 0)
	// with is the disk with changes at offsets of its first block.
	with := func(f func([]byte)) []byte {
		b := append([]byte(nil), content...)
		f(b)
		return b
	}
	second := func() []byte { // a page of the table that makes the second block present, behind the end of the file
		p := make([]byte, logUnit)
		copy(p, whole[batAt:batAt+logUnit])
		put64(8, uint64(size)|statePresent)(p)
		return p
	}()
	for _, tc := range []struct {
		name, code string
		image      []byte
		want       []byte
	}{
		{"one entry", "", dirty(whole, id, 0, logEntry(id, 5, 0, size, size, change{at: data, data: page(7)})), with(func(b []byte) { copy(b, page(7)) })},
		{"zeros", "", dirty(whole, id, 0, logEntry(id, 5, 0, size, size, change{at: data + 8192, zeros: 65536})), with(func(b []byte) { clear(b[8192 : 8192+65536]) })},
		{"data over zeros, and zeros over data", "", dirty(whole, id, 0,
			logEntry(id, 5, 0, size, size, change{at: data, zeros: 16384}, change{at: data + 4096, data: page(1)}, change{at: data + 8192, data: page(2)}),
			logEntry(id, 6, 0, size, size, change{at: data + 8192, zeros: 4096})),
			with(func(b []byte) { clear(b[:16384]); copy(b[4096:], page(1)) })},
		{"two entries, the later one counts", "", dirty(whole, id, 0, logEntry(id, 5, 0, size, size, change{at: data, data: page(7)}), logEntry(id, 6, 0, size, size, change{at: data, data: page(9)})),
			with(func(b []byte) { copy(b, page(9)) })},
		{"an entry around the end of the log", "", dirty(whole, id, logLength-4096, logEntry(id, 5, logLength-4096, size, size, change{at: data, data: page(7)})), with(func(b []byte) { copy(b, page(7)) })},
		{"entries before the tail are history", "", dirty(whole, id, 0, logEntry(id, 5, 0, size, size, change{at: data, data: page(7)}), logEntry(id, 6, 8192, size, size, change{at: data + 4096, data: page(9)})),
			with(func(b []byte) { copy(b[4096:], page(9)) })},
		{"an older sequence elsewhere", "", dirty(dirty(whole, id, 512<<10, logEntry(id, 3, 512<<10, size, size, change{at: data, data: page(1)})), id, 0, logEntry(id, 50, 0, size, size, change{at: data, data: page(7)})),
			with(func(b []byte) { copy(b, page(7)) })},
		{"an entry with a wrong checksum behind", "", func() []byte {
			bad := logEntry(id, 6, 0, size, size, change{at: data, data: page(9)})
			bad[100] ^= 1
			return dirty(whole, id, 0, logEntry(id, 5, 0, size, size, change{at: data, data: page(7)}), bad)
		}(), with(func(b []byte) { copy(b, page(7)) })},
		{"a torn sector of data", "vhdx-log", func() []byte {
			e := logEntry(id, 6, 0, size, size, change{at: data, data: page(9)})
			e[len(e)-1] ^= 1
			put32(4, checksum(e, 4))(e)
			return dirty(whole, id, 0, e)
		}(), nil},
		{"an entry of another log", "vhdx-log", dirty(whole, id, 0, logEntry(newGUID(), 5, 0, size, size, change{at: data, data: page(7)})), nil},
		{"a tail that is nowhere", "vhdx-log", dirty(whole, id, 0, logEntry(id, 5, 65536, size, size, change{at: data, data: page(7)})), nil},
		{"a file that was cut", "vhdx-truncated", dirty(whole, id, 0, logEntry(id, 5, 0, size+mib, size+mib, change{at: data, data: page(7)})), nil},
		{"a block behind the end, by the log", "", dirty(whole, id, 0, logEntry(id, 5, 0, size, size+mib, change{at: batAt, data: second}, change{at: size + 4096, data: page(3)})),
			with(func(b []byte) { copy(b[1<<20+4096:], page(3)) })},
		{"a change at an odd place", "vhdx-log", dirty(whole, id, 0, logEntry(id, 5, 0, size, size, change{at: data + 512, data: page(7)})), nil},
		{"zeros of an odd length", "vhdx-log", dirty(whole, id, 0, logEntry(id, 5, 0, size, size, change{at: data, zeros: 100})), nil},
		{"an entry that changes nothing", "", dirty(whole, id, 0, logEntry(id, 5, 0, size, size)), content},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := append([]byte(nil), tc.image...)
			r, err := imagetest.OpenBytes(t, Format(), tc.image)
			if imagetest.Code(err) != tc.code {
				t.Fatalf("got %q (%v), want %q", imagetest.Code(err), err, tc.code)
			}
			if err != nil {
				return
			}
			imagetest.Reader(t, r, bytes.NewReader(tc.want), small.Size)
			if !bytes.Equal(before, tc.image) {
				t.Error("the file was changed")
			}
			if len(r.Info().Warnings) == 0 {
				t.Error("nobody is told that the log was replayed")
			}
		})
	}
}

// TestTheLogIsReplayedAsQemuDoes lets qemu-img repair a copy of an image with a full log, and compares.
func TestTheLogIsReplayedAsQemuDoes(t *testing.T) {
	whole := written(t, small)
	size := int64(len(whole))
	id := newGUID()
	page := bytes.Repeat([]byte{0x5a}, logUnit)
	b := dirty(whole, id, 0, logEntry(id, 5, 0, size, size, change{at: 4 * mib, data: page}, change{at: 4*mib + 65536, zeros: 8192}))
	path := filepath.Join(t.TempDir(), "disk.vhdx")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := imagetest.OpenBytes(t, Format(), b)
	if err != nil {
		t.Fatal(err)
	}
	imagetest.QemuImg(t, "check", "-r", "all", "-f", "vhdx", path)
	raw := path + ".raw"
	imagetest.QemuImg(t, "convert", "-f", "vhdx", "-O", "raw", path, raw)
	f, err := os.Open(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	imagetest.Reader(t, r, f, small.Size)
}

func TestWhatQemuImgWritesIsRead(t *testing.T) {
	writing("1M").ReadsQemus(t, mixed, nil, "subformat=dynamic", "block_size=1M", "block_size=256M", "subformat=fixed")
}

// TestSevenZipReadsWhatIsWritten has a disk of whole MiB: 7-Zip opens no other.
func TestSevenZipReadsWhatIsWritten(t *testing.T) {
	mixed := imagetest.MixedDisk(21, 10<<20)
	for _, s := range []string{"", "1M", "256M"} {
		writing(s).SevenZip(t, "vhdx", mixed)
	}
}

func FuzzOpen(f *testing.F) {
	whole := written(f, small)
	at := func(off int) []byte { return whole[off : off+4096] }
	// What is fuzzed are the first 4 KiB of each part; the rest is as it was written, and checksums are renewed.
	f.Add(at(headerAt2), at(regionAt1), at(metaAt), at(batAt), make([]byte, 8192))
	id := newGUID()
	h := append([]byte(nil), at(headerAt2)...)
	copy(h[48:], id[:])
	f.Add(h, at(regionAt1), at(metaAt), at(batAt), logEntry(id, 5, 0, int64(len(whole)), int64(len(whole)), change{at: 4 * mib, zeros: 4096}, change{at: batAt, data: make([]byte, logUnit)}))
	f.Fuzz(func(t *testing.T, header, region, meta, bat, log []byte) {
		b := append([]byte(nil), whole...)
		copy(b[logAt:metaAt], log)
		if len(log) > logeSize && binary.LittleEndian.Uint32(log[8:]) <= uint32(len(log)) {
			if n := int(binary.LittleEndian.Uint32(log[8:])); n >= logeSize {
				put32(logAt+4, checksum(b[logAt:logAt+min(n, logLength)], 4))(b)
			}
		}
		copy(b[metaAt:metaAt+4096], meta)
		copy(b[batAt:batAt+4096], bat)
		headers(func(p []byte) { copy(p, header) })(b)
		regions(func(p []byte) { copy(p[:4096], region) })(b)
		imagetest.Hostile(t, "fuzz", Format(), b, 0)
	})
}
