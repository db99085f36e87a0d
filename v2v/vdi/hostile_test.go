package vdi

import (
	"encoding/binary"
	"strconv"
	"testing"

	"initd/v2v/image/imagetest"
)

var mixed = imagetest.MixedDisk(21, 10<<20+3*imagetest.S)

func written(t testing.TB, subformat string, d imagetest.Disk) []byte {
	t.Helper()
	return writing(subformat).Written(t, d)
}

func put32(off int, v uint32) func([]byte) {
	return func(b []byte) { binary.LittleEndian.PutUint32(b[off:], v) }
}
func put64(off int, v uint64) func([]byte) {
	return func(b []byte) { binary.LittleEndian.PutUint64(b[off:], v) }
}

func TestDisksThatAreRefused(t *testing.T) {
	whole := written(t, "dynamic", imagetest.Disk{Size: 3<<20 + sector, Ranges: []imagetest.Range{{Off: 0, Len: 2<<20 + sector, Fill: imagetest.Text}}})
	imagetest.Refusals(t, Format(), whole, []imagetest.Damage{
		{"as it was written", "", func([]byte) {}},
		{"no signature", "vdi-magic", put32(64, 7)},
		{"version 1.2", "vdi-version", put32(68, 0x10002)},
		{"a header of 4 bytes", "vdi-header", put32(72, 4)},
		{"a differencing image", "vdi-differencing", put32(76, typeDiff)},
		{"an undo image", "vdi-differencing", put32(76, typeUndo)},
		{"type 9", "vdi-type", put32(76, 9)},
		{"a linked image", "vdi-differencing", func(b []byte) { b[424] = 1 }},
		{"a parent", "vdi-differencing", func(b []byte) { b[440] = 1 }},
		{"sectors of 4096 bytes", "vdi-sector", put32(360, 4096)},
		{"an odd size", "vdi-size", put64(368, 3<<20+1)},
		{"a size of 2^63", "vdi-blocks", put64(368, 1<<63)},
		{"a size that wraps", "vdi-blocks", put64(368, 1<<64-512)},
		{"a block of 0", "vdi-block", put32(376, 0)},
		{"a block of 3 MiB", "vdi-block", put32(376, 3<<20)},
		{"bytes before each block", "vdi-extra", put32(380, 512)},
		{"2^32-1 blocks", "vdi-blocks", put32(384, 1<<32-1)},
		{"fewer blocks than the size has", "vdi-blocks", put32(384, 2)},
		{"more blocks allocated than there are", "vdi-allocated", put32(388, 5)},
		{"a wrong count of allocated blocks", "", put32(388, 1)},
		{"the map at an odd place", "vdi-offset", put32(340, 513)},
		{"the map past the end", "vdi-map", put32(340, 1<<31)},
		{"the map over the header", "vdi-map", put32(340, 0)},
		{"the data over the header", "vdi-overlap", put32(344, 0)},
		{"the data over the map", "vdi-overlap", put32(344, 512)},
		{"a block past the end", "vdi-block-place", put32(512, 3)},
		{"a block past all blocks", "vdi-block-place", put32(512, 1<<30)},
		{"a block twice", "vdi-overlap", put32(512, 1)},
		{"a block of zeros", "", put32(512, blockZero)},
	}, 0, 100, 511, 512, 520, 1<<20, len(whole)-1<<20)
}

func TestWhatIsWrittenIsWhatVirtualBoxWants(t *testing.T) {
	b := written(t, "dynamic", mixed)
	h := decode(b)
	if h.uuid == ([16]byte{}) || h.modify == ([16]byte{}) || h.link != ([16]byte{}) || h.parent != ([16]byte{}) {
		t.Errorf("UUIDs: %+v", h)
	}
	if int64(h.allocated) != (int64(len(b))-int64(h.dataOffset))/writeBlock {
		t.Errorf("%d blocks are said to be allocated, in a file of %d bytes", h.allocated, len(b))
	}
}

func TestWhatQemuImgWritesIsRead(t *testing.T) {
	writing("dynamic").ReadsQemus(t, mixed, nil, "static=off", "static=on")
}

func TestSevenZipReadsWhatIsWritten(t *testing.T) {
	for _, s := range []string{"dynamic", "static"} {
		writing(s).SevenZip(t, "vdi", mixed)
	}
}

func TestMutations(t *testing.T) {
	whole := written(t, "dynamic", imagetest.Disk{Size: 1 << 20, Ranges: []imagetest.Range{{Off: 0, Len: 4096, Fill: imagetest.Text}}})
	var fields []imagetest.Field
	for _, f := range []struct{ off, n int64 }{{64, 4}, {68, 4}, {72, 4}, {76, 4}, {340, 4}, {344, 4}, {360, 4}, {368, 8}, {376, 4}, {380, 4}, {384, 4}, {388, 4}, {512, 4}} {
		fields = append(fields, imagetest.Field{Name: strconv.FormatInt(f.off, 10), Offset: f.off, Bytes: int(f.n), Order: binary.LittleEndian})
	}
	imagetest.Mutations(t, Format(), whole, fields, []int64{512, 516, 1 << 20}, 64<<20)
}

func FuzzOpen(f *testing.F) {
	whole := written(f, "dynamic", imagetest.Disk{Size: 4096, Ranges: []imagetest.Range{{Off: 0, Len: sector, Fill: imagetest.Text}}})
	put32(344, 1024)(whole)
	put32(376, 4096)(whole)
	f.Add(whole[:1024+4096])
	f.Fuzz(func(t *testing.T, data []byte) { imagetest.Hostile(t, "fuzz", Format(), data, 0) })
}
