package vpc

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"initd/v2v/image"
	"initd/v2v/image/imagetest"
)

var mixed = imagetest.MixedDisk(21, 10<<20+3*imagetest.S)

func written(t testing.TB, subformat string, d imagetest.Disk) []byte {
	t.Helper()
	return writing(subformat).Written(t, d)
}

// sum renews the checksum of a footer or header whose field is at an offset of it.
func sum(b []byte, at, size, field int) {
	binary.BigEndian.PutUint32(b[at+field:], checksum(b[at:at+size], field))
}

func put32(off int, v uint32) func([]byte) {
	return func(b []byte) { binary.BigEndian.PutUint32(b[off:], v) }
}
func put64(off int, v uint64) func([]byte) {
	return func(b []byte) { binary.BigEndian.PutUint64(b[off:], v) }
}

func TestDynamicDisksThatAreRefused(t *testing.T) {
	whole := written(t, "dynamic", imagetest.Disk{Size: 5<<20 + imagetest.S, Ranges: []imagetest.Range{{Off: 0, Len: 5<<20 + imagetest.S, Fill: imagetest.Text}}})
	end := len(whole) - footerSize
	// both changes a field of the footer and of its copy.
	both := func(f func(int) func([]byte)) func([]byte) {
		return func(b []byte) {
			for _, at := range []int{0, end} {
				f(at)(b)
				sum(b, at, footerSize, 64)
			}
		}
	}
	header := func(f func([]byte)) func([]byte) {
		return func(b []byte) { f(b); sum(b, footerSize, dynamicSize, 36) }
	}
	bat := batOffset
	imagetest.Refusals(t, Format(), whole, []imagetest.Damage{
		{"as it was written", "", func([]byte) {}},
		{"a differencing disk", "vhd-differencing", both(func(at int) func([]byte) { return put32(at+60, 4) })},
		{"an unknown type", "vhd-type", both(func(at int) func([]byte) { return put32(at+60, 7) })},
		{"a dynamic disk called fixed", "vhd-fixed-size", both(func(at int) func([]byte) { return put32(at+60, 2) })},
		{"version 2", "vhd-version", both(func(at int) func([]byte) { return put32(at+12, 2<<16) })},
		{"a wrong checksum of the footer", "vhd-checksum", func(b []byte) { b[end+64] ^= 1 }},
		{"a wrong checksum of the copy", "vhd-checksum", func(b []byte) { b[64] ^= 1 }},
		{"a wrong checksum of the header", "vhd-checksum", func(b []byte) { b[footerSize+36] ^= 1 }},
		{"no copy of the footer", "vhd-no-copy", func(b []byte) { clear(b[:footerSize]) }},
		{"no footer at the end", "vhd-no-footer", func(b []byte) { clear(b[end:]) }},
		{"two footers that differ", "vhd-footers-differ", func(b []byte) { put64(48, 4<<20)(b); sum(b, 0, footerSize, 64) }},
		{"another identity in front", "vhd-footers-differ", func(b []byte) { b[70] ^= 1; sum(b, 0, footerSize, 64) }},
		{"more than 2040 GiB", "vhd-size", both(func(at int) func([]byte) { return put64(at+48, (maxSectors+1)*sector) })},
		{"an odd size", "vhd-size", both(func(at int) func([]byte) { return put64(at+48, 5<<20+1) })},
		{"a larger size than the table has", "vhd-bat", both(func(at int) func([]byte) { return put64(at+48, 50<<20) })},
		{"a smaller size than the table has", "vhd-block-place", both(func(at int) func([]byte) { return put64(at+48, 1<<20) })},
		{"the header past the end", "vhd-header-place", both(func(at int) func([]byte) { return put64(at+16, 1<<50) })},
		{"no header", "vhd-header", func(b []byte) { clear(b[footerSize : footerSize+8]) }},
		{"the table past the end", "vhd-bat", header(put64(footerSize+16, 1<<40))},
		{"the table over the header", "vhd-overlap", header(put64(footerSize+16, 1024))},
		{"2^31 entries", "vhd-bat", header(put32(footerSize+28, 1<<31))},
		{"a block of 0", "vhd-block", header(put32(footerSize+32, 0))},
		{"a block of 3 MiB", "vhd-block", header(put32(footerSize+32, 3<<20))},
		{"a block of 2 GiB", "vhd-block", header(put32(footerSize+32, 1<<31))},
		{"a block past the end", "vhd-block-place", put32(bat, 1<<30)},
		{"a block over the header", "vhd-overlap", put32(bat, 1)},
		{"a block over the table", "vhd-overlap", put32(bat, uint32(bat/sector))},
		{"a block twice", "vhd-overlap", func(b []byte) { copy(b[bat+4:bat+8], b[bat:bat+4]) }},
		{"a block that begins in another one", "vhd-overlap", func(b []byte) { put32(bat+4, binary.BigEndian.Uint32(b[bat:])+1)(b) }},
		{"a saved state", "", both(func(at int) func([]byte) { return func(b []byte) { b[at+84] = 1 } })},
	}, 0, 100, 511, 512, 1536, 2000, end-1, end, end+1, len(whole)-1)
	if _, err := imagetest.OpenBytes(t, Format(), append(append([]byte(nil), whole...), make([]byte, 512)...)); imagetest.Code(err) != "vhd-no-footer" {
		t.Errorf("with zeros behind: %v", err)
	}
}

func TestFixedDisksThatAreRefused(t *testing.T) {
	whole := written(t, "fixed", imagetest.Disk{Size: 1 << 20, Ranges: []imagetest.Range{{Off: 0, Len: 4096, Fill: imagetest.Text}}})
	end := len(whole) - footerSize
	for name, f := range map[string]func([]byte) []byte{
		"vhd-fixed-size": func(b []byte) []byte { put64(end+48, 1<<19)(b); sum(b, end, footerSize, 64); return b },
		"vhd-checksum":   func(b []byte) []byte { b[end+20] ^= 1; return b },
		"vhd-magic":      func(b []byte) []byte { return b[:end] },
	} {
		if _, err := imagetest.OpenBytes(t, Format(), f(append([]byte(nil), whole...))); imagetest.Code(err) != name {
			t.Errorf("got %v, want %s", err, name)
		}
	}
	if probe(whole[:65536], whole[len(whole)-65536:], int64(len(whole))) != true {
		t.Error("a fixed disk is not recognised by its end")
	}
}

// TestBitmapsAreHonoured: what was never written is zeros, whatever lies there. qemu-img shows what lies there.
func TestBitmapsAreHonoured(t *testing.T) {
	b := written(t, "dynamic", imagetest.Disk{Size: 2 << 20, Ranges: []imagetest.Range{{Off: 0, Len: 2 << 20, Fill: imagetest.Text}}})
	block := int(binary.BigEndian.Uint32(b[batOffset:])) * sector
	b[block] = 0x7f     // sector 0
	b[block+1] = 0      // 8 to 15
	b[block+511] = 0xfe // the last
	want := append([]byte(nil), b[block+512:block+512+2<<20]...)
	clear(want[:512])
	clear(want[8*512 : 16*512])
	clear(want[2<<20-512:])
	r, err := imagetest.OpenBytes(t, Format(), b)
	if err != nil {
		t.Fatal(err)
	}
	imagetest.Reader(t, r, bytes.NewReader(want), 2<<20)
}

func TestWhatQemuImgWritesIsRead(t *testing.T) {
	// force_size=off rounds as qemu-img does.
	rounded := func(t *testing.T, o, path string) {
		want := imagetest.VirtualSize(t, "vpc", path)
		exact := map[bool]string{true: "on", false: "off"}[strings.Contains(o, "force")]
		if size, err := sizes(mixed.Size, image.Options{"force_size": exact}); err != nil || size != want {
			t.Errorf("sizes says %d, qemu-img %d", size, want)
		}
	}
	writing("dynamic").ReadsQemus(t, mixed, rounded, "subformat=dynamic", "subformat=fixed", "subformat=dynamic,force_size=on", "subformat=fixed,force_size=on")
}

func TestGeometryIsQemus(t *testing.T) {
	for _, size := range []int64{512, 1 << 20, 513 << 10, 100 << 20, 504 << 20, 1 << 30, 8 << 30, 100 << 30, 127 << 30, 130 << 30} {
		path := filepath.Join(t.TempDir(), "g.vhd")
		imagetest.QemuImg(t, "create", "-q", "-f", "vpc", path, fmt.Sprint(size))
		if got, want := roundToCHS(size/sector)*sector, imagetest.VirtualSize(t, "vpc", path); got != want {
			t.Errorf("%d rounds to %d, qemu-img to %d", size, got, want)
		}
	}
}

// TestSecondReaders: 7-Zip reads the disk, libvhdi its headers.
func TestSecondReaders(t *testing.T) {
	vhdi, err := exec.LookPath("vhdiinfo")
	if err != nil {
		t.Fatal("vhdiinfo is missing: install the Debian package libvhdi-utils")
	}
	for _, s := range []string{"dynamic", "fixed"} {
		writing(s).SevenZip(t, "vhd", mixed)
		path := writing(s).Write(t, t.TempDir(), mixed)
		if out, err := exec.CommandContext(t.Context(), vhdi, path).CombinedOutput(); err != nil || !strings.Contains(string(out), "(10487296 bytes)") {
			t.Errorf("%s: vhdiinfo: %v\n%s", s, err, out)
		}
	}
}

func TestMutations(t *testing.T) {
	whole := written(t, "dynamic", imagetest.Disk{Size: 1 << 20, Ranges: []imagetest.Range{{Off: 0, Len: 4096, Fill: imagetest.Text}}})
	be := binary.BigEndian
	var fields []imagetest.Field
	for _, f := range []struct{ off, n int64 }{{12, 4}, {16, 8}, {40, 8}, {48, 8}, {56, 2}, {60, 4}, {64, 4}, {512 + 16, 8}, {512 + 24, 4}, {512 + 28, 4}, {512 + 32, 4}, {512 + 36, 4}, {1536, 4}} {
		fields = append(fields, imagetest.Field{Name: fmt.Sprint(f.off), Offset: f.off, Bytes: int(f.n), Order: be})
	}
	imagetest.Mutations(t, Format(), whole, fields, []int64{512, 1536, 2048}, 64<<20)
}

func FuzzOpen(f *testing.F) {
	// The checksums are renewed, or nothing behind them would be reached.
	whole := written(f, "dynamic", imagetest.Disk{Size: sector, Ranges: []imagetest.Range{{Off: 0, Len: sector, Fill: imagetest.Text}}})
	f.Add(append(append([]byte(nil), whole[:8192]...), whole[len(whole)-footerSize:]...))
	f.Add(written(f, "fixed", imagetest.Disk{Size: 4 * sector}))
	f.Fuzz(func(t *testing.T, data []byte) {
		imagetest.Hostile(t, "fuzz", Format(), data, 0)
		if len(data) < footerSize+dynamicSize {
			return
		}
		b := append([]byte(nil), data...)
		sum(b, footerSize, dynamicSize, 36)
		copy(b[len(b)-footerSize:], b[:footerSize])
		sum(b, 0, footerSize, 64)
		sum(b, len(b)-footerSize, footerSize, 64)
		imagetest.Hostile(t, "fuzz with checksums", Format(), b, 0)
	})
}
