package qcow2

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"initd/v2v/image"
	"initd/v2v/image/imagetest"
)

// small makes an image with qemu-img whose first clusters hold data, and gives its bytes.
func small(t testing.TB, args ...string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "q")
	imagetest.QemuImg(t, append(append([]string{"create", "-q", "-f", "qcow2"}, args...), path, "1M")...)
	imagetest.QemuIO(t, "-f", "qcow2", "-c", "write -P 1 0 128k", "-c", "write -P 2 512k 64k", path)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func compressedImage(t testing.TB, args ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	d := imagetest.Disk{Size: 1 << 20, Ranges: []imagetest.Range{{Off: 0, Len: 300 << 10, Fill: imagetest.Text}, {Off: 600 << 10, Len: 100 << 10, Fill: imagetest.Random}}}
	d.WriteRaw(t, filepath.Join(dir, "raw"))
	imagetest.QemuImg(t, append(append([]string{"convert", "-c", "-f", "raw", "-O", "qcow2"}, args...), filepath.Join(dir, "raw"), filepath.Join(dir, "q"))...)
	b, err := os.ReadFile(filepath.Join(dir, "q"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRefusals(t *testing.T) {
	be := binary.BigEndian
	put64 := func(off int64, v uint64) func([]byte) []byte {
		return func(b []byte) []byte { be.PutUint64(b[off:], v); return b }
	}
	put32 := func(off int64, v uint32) func([]byte) []byte {
		return func(b []byte) []byte { be.PutUint32(b[off:], v); return b }
	}
	l2 := func(b []byte) int64 { return int64(be.Uint64(b[be.Uint64(b[40:]):]) & offsetMask) }
	entry := func(i int64, change func(uint64) uint64) func([]byte) []byte {
		return func(b []byte) []byte {
			at := l2(b) + i*8
			be.PutUint64(b[at:], change(be.Uint64(b[at:])))
			return b
		}
	}
	set := func(v uint64) func(uint64) uint64 { return func(uint64) uint64 { return v } }
	for _, tc := range []struct {
		name   string
		image  []byte
		change func([]byte) []byte
		fault  image.Fault
		code   string
	}{
		{"version 1", small(t), put32(4, 1), image.Unsupported, "qcow2-version"},
		{"version 4", small(t), put32(4, 4), image.Unsupported, "qcow2-version"},
		{"a backing file", small(t), put64(8, 1000), image.Refused, "qcow2-backing-file"},
		{"a backing file whose name lies far away", small(t), put64(8, 1<<60), image.Refused, "qcow2-backing-file"},
		{"clusters of 256 bytes", small(t), put32(20, 8), image.Corrupt, "qcow2-cluster-bits"},
		{"clusters of 4 MiB", small(t), put32(20, 22), image.Corrupt, "qcow2-cluster-bits"},
		{"a shift that wraps", small(t), put32(20, 64), image.Corrupt, "qcow2-cluster-bits"},
		{"an immense size", small(t), put64(24, 1<<63), image.TooLarge, "qcow2-size"},
		{"a size beyond the L1 table", small(t), put64(24, 1<<40), image.Corrupt, "qcow2-l1-short"},
		{"a size beyond any L1 table", small(t), put64(24, 1<<60), image.TooLarge, "qcow2-l1-size"},
		{"encryption", small(t), put32(32, 1), image.Unsupported, "qcow2-encrypted"},
		{"LUKS", small(t), put32(32, 2), image.Unsupported, "qcow2-encrypted"},
		{"an immense L1 table", small(t), put32(36, 0xffffffff), image.TooLarge, "qcow2-l1-size"},
		{"no L1 entries", small(t), put32(36, 0), image.Corrupt, "qcow2-l1-short"},
		{"an L1 table past the end", small(t), put64(40, 1<<40), image.Corrupt, "qcow2-l1-offset"},
		{"an L1 table inside a cluster", small(t), put64(40, 0x30200), image.Corrupt, "qcow2-l1-offset"},
		{"an L1 table over the header", small(t), put64(40, 0), image.Corrupt, "qcow2-l1-offset"},
		{"an L1 table over the refcount table", small(t), func(b []byte) []byte { be.PutUint64(b[40:], be.Uint64(b[48:])); return b }, image.Corrupt, "qcow2-overlap"},
		{"no refcount table", small(t), put32(56, 0), image.Corrupt, "qcow2-refcount-table"},
		{"a refcount table past the end", small(t), put64(48, 1<<40), image.Corrupt, "qcow2-refcount-table"},
		{"an immense refcount table", small(t), put32(56, 1<<20), image.TooLarge, "qcow2-refcount-table-size"},
		{"more snapshots than QEMU allows", small(t), put32(60, 65537), image.Corrupt, "qcow2-snapshot-count"},
		{"a snapshot", small(t), put32(60, 1), image.Refused, "qcow2-snapshots"},
		{"the dirty bit", small(t), put64(72, 1), image.Corrupt, "qcow2-dirty"},
		{"the corrupt bit", small(t), put64(72, 2), image.Corrupt, "qcow2-marked-corrupt"},
		{"an external data file", small(t), put64(72, 4), image.Refused, "qcow2-data-file"},
		{"an unknown incompatible feature", small(t), put64(72, 1<<5), image.Unsupported, "qcow2-incompatible-feature"},
		{"the compression bit alone", small(t), put64(72, 8), image.Corrupt, "qcow2-compression-bit"},
		{"the compression type alone", small(t), func(b []byte) []byte { b[104] = 1; return b }, image.Corrupt, "qcow2-compression-bit"},
		{"an unknown compression type", small(t), func(b []byte) []byte { b[104] = 2; return b }, image.Unsupported, "qcow2-compression-type"},
		{"extended L2 in small clusters", small(t, "-o", "cluster_size=4k"), put64(72, 16), image.Corrupt, "qcow2-extended-cluster"},
		{"refcounts of 128 bits", small(t), put32(96, 7), image.Corrupt, "qcow2-refcount-order"},
		{"a header of 100 bytes", small(t), put32(100, 100), image.Corrupt, "qcow2-header-length"},
		{"a header of odd length", small(t), put32(100, 113), image.Corrupt, "qcow2-header-length"},
		{"a header longer than a cluster", small(t), put32(100, 1<<20), image.Corrupt, "qcow2-header-length"},
		{"an extension longer than the cluster", small(t), put32(116, 0xffffff00), image.Corrupt, "qcow2-extension"},
		{"the name of a data file", small(t), put32(112, extensionDataFile), image.Refused, "qcow2-data-file"},
		{"a LUKS header", small(t), put32(112, extensionLUKS), image.Unsupported, "qcow2-encrypted"},
		{"a bitmaps extension of the wrong length", small(t), put32(112, extensionBitmaps), image.Corrupt, "qcow2-extension"},
		{"an L2 table past the end", small(t), func(b []byte) []byte { be.PutUint64(b[be.Uint64(b[40:]):], 1<<40|copied); return b }, image.Corrupt, "qcow2-l2-offset"},
		{"reserved bits in L1", small(t), func(b []byte) []byte { b[be.Uint64(b[40:])+7] |= 1; return b }, image.Corrupt, "qcow2-reserved-bits"},
		{"an L2 table on the L1 table", small(t), func(b []byte) []byte { be.PutUint64(b[be.Uint64(b[40:]):], be.Uint64(b[40:])|copied); return b }, image.Corrupt, "qcow2-overlap"},
		{"data past the end", small(t), entry(0, set(1<<40|copied)), image.Corrupt, "qcow2-data-offset"},
		{"data inside a cluster", small(t), entry(0, func(e uint64) uint64 { return e + 512 }), image.Corrupt, "qcow2-data-offset"},
		{"two clusters in one place", small(t), func(b []byte) []byte { return entry(1, set(be.Uint64(b[l2(b):])))(b) }, image.Corrupt, "qcow2-overlap"},
		{"data on the L1 table", small(t), func(b []byte) []byte { return entry(0, set(be.Uint64(b[40:])|copied))(b) }, image.Corrupt, "qcow2-overlap"},
		{"data on the header", small(t), entry(3, set(copied)), image.Corrupt, "qcow2-data-offset"},
		{"reserved bits in L2", small(t), entry(0, func(e uint64) uint64 { return e | 1<<60 }), image.Corrupt, "qcow2-reserved-bits"},
		{"a zero flag in version 2", small(t, "-o", "compat=0.10"), entry(0, func(e uint64) uint64 { return e | 1 }), image.Corrupt, "qcow2-reserved-bits"},
		{"a compressed cluster past the end", compressedImage(t), entry(0, set(compressed|1<<40)), image.Corrupt, "qcow2-data-offset"},
		{"a compressed cluster that is also copied", compressedImage(t), entry(0, func(e uint64) uint64 { return e | copied }), image.Corrupt, "qcow2-compressed-flags"},
		{"a compressed cluster on the L2 table", compressedImage(t), func(b []byte) []byte { return entry(0, set(compressed|uint64(l2(b))))(b) }, image.Corrupt, "qcow2-overlap"},
		{"subclusters stored and zero at once", small(t, "-o", "extended_l2=on"), func(b []byte) []byte { put64(l2(b)+8, 1|1<<32)(b); return b }, image.Corrupt, "qcow2-subclusters"},
		{"subclusters stored nowhere", small(t, "-o", "extended_l2=on"), func(b []byte) []byte { put64(l2(b)+16*5+8, 1)(b); return b }, image.Corrupt, "qcow2-subclusters"},
		{"the file ends in the header", small(t), func(b []byte) []byte { return b[:90] }, image.Corrupt, "qcow2-cut"},
		{"the file ends before the tables", small(t), func(b []byte) []byte { return b[:65536] }, image.Corrupt, "qcow2-l1-offset"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := open(t.Context(), imagetest.Bytes{Label: "hostile", Data: tc.change(tc.image)}, image.OpenOptions{})
			if err == nil {
				r.Close()
			}
			var e *image.Error
			if !errors.As(err, &e) || e.Fault != tc.fault || e.Code != tc.code {
				t.Errorf("got %v, want %v %s", err, tc.fault, tc.code)
			}
		})
	}
}

func TestWhatMayBeLeftOutIsReadAndSaid(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q")
	imagetest.QemuImg(t, "create", "-q", "-f", "qcow2", path, "1M")
	imagetest.QemuIO(t, "-c", "write -P 1 0 64k", path)
	imagetest.QemuImg(t, "snapshot", "-c", "one", path)
	imagetest.QemuIO(t, "-c", "write -P 2 0 64k", path)
	imagetest.QemuImg(t, "bitmap", "--add", path, "b0")
	for _, tc := range []struct {
		name string
		opt  image.OpenOptions
		code string
	}{
		{"neither may", image.OpenOptions{}, "qcow2-bitmaps"},
		{"snapshots may", image.OpenOptions{IgnoreSnapshots: true}, "qcow2-bitmaps"},
		{"bitmaps may", image.OpenOptions{IgnoreBitmaps: true}, "qcow2-snapshots"},
		{"both may", image.OpenOptions{IgnoreSnapshots: true, IgnoreBitmaps: true}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := openFile(t, path, tc.opt)
			var e *image.Error
			if tc.code != "" {
				if !errors.As(err, &e) || e.Code != tc.code {
					t.Errorf("got %v, want %s", err, tc.code)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			p := make([]byte, 1)
			if _, err := r.ReadAt(p, 100); err != nil || p[0] != 2 {
				t.Errorf("read %d, %v; want the current state, 2", p[0], err)
			}
			if len(r.Info().Warnings) != 2 {
				t.Errorf("warnings: %q", r.Info().Warnings)
			}
		})
	}
}

func headerFields() []imagetest.Field {
	be := binary.BigEndian
	return []imagetest.Field{
		{Name: "version", Offset: 4, Bytes: 4, Order: be}, {Name: "backing offset", Offset: 8, Bytes: 8, Order: be}, {Name: "backing length", Offset: 16, Bytes: 4, Order: be},
		{Name: "cluster bits", Offset: 20, Bytes: 4, Order: be}, {Name: "size", Offset: 24, Bytes: 8, Order: be}, {Name: "crypt", Offset: 32, Bytes: 4, Order: be},
		{Name: "L1 size", Offset: 36, Bytes: 4, Order: be}, {Name: "L1 offset", Offset: 40, Bytes: 8, Order: be}, {Name: "refcount table", Offset: 48, Bytes: 8, Order: be},
		{Name: "refcount table clusters", Offset: 56, Bytes: 4, Order: be}, {Name: "snapshots", Offset: 60, Bytes: 4, Order: be}, {Name: "snapshot table", Offset: 64, Bytes: 8, Order: be},
		{Name: "incompatible", Offset: 72, Bytes: 8, Order: be}, {Name: "compatible", Offset: 80, Bytes: 8, Order: be}, {Name: "autoclear", Offset: 88, Bytes: 8, Order: be},
		{Name: "refcount order", Offset: 96, Bytes: 4, Order: be}, {Name: "header length", Offset: 100, Bytes: 4, Order: be}, {Name: "compression", Offset: 104, Bytes: 1, Order: be},
	}
}

func TestMutatedHeadersAndTablesAreBounded(t *testing.T) {
	be := binary.BigEndian
	for name, whole := range map[string][]byte{
		"plain": small(t), "zlib": compressedImage(t), "zstd": compressedImage(t, "-o", "compression_type=zstd"), "extended": small(t, "-o", "extended_l2=on"),
	} {
		t.Run(name, func(t *testing.T) {
			l1 := int64(be.Uint64(whole[40:]))
			l2 := int64(be.Uint64(whole[l1:]) & offsetMask)
			ref := int64(be.Uint64(whole[48:]))
			fields := append(headerFields(),
				imagetest.Field{Name: "L1[0]", Offset: l1, Bytes: 8, Order: be}, imagetest.Field{Name: "L2[0]", Offset: l2, Bytes: 8, Order: be},
				imagetest.Field{Name: "L2[1]", Offset: l2 + 8, Bytes: 8, Order: be}, imagetest.Field{Name: "refcounts[0]", Offset: ref, Bytes: 8, Order: be})
			imagetest.Mutations(t, Format(), whole, fields, []int64{0, 4, 8, 72, 104, 112, l1, l2, ref, int64(len(whole))}, 96<<20)
		})
	}
}

func FuzzOpen(f *testing.F) {
	for _, seed := range [][]byte{
		small(f), small(f, "-o", "compat=0.10,cluster_size=512"), small(f, "-o", "extended_l2=on,cluster_size=16k"),
		compressedImage(f, "-o", "cluster_size=4k"), compressedImage(f, "-o", "compression_type=zstd,cluster_size=4k"),
	} {
		f.Add(seed[:min(len(seed), 256<<10)])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		imagetest.Hostile(t, "fuzz", Format(), data, 0)
	})
}
