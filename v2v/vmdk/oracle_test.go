package vmdk

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"initd/v2v/image"
	"initd/v2v/image/imagetest"
)

// contents are disks that qemu-img is asked to convert.
func contents() []imagetest.Disk {
	return []imagetest.Disk{
		imagetest.MixedDisk(21, 10<<20+3*imagetest.S),
		{Name: "over two extents", Size: 2<<30 + imagetest.S, Ranges: []imagetest.Range{{Off: 0, Len: 100 << 10, Fill: imagetest.Text}, {Off: 2<<30 - 64<<10, Len: 64<<10 + imagetest.S, Fill: imagetest.Random}}},
	}
}

func TestWhatQemuImgWritesIsRead(t *testing.T) {
	for _, d := range contents() {
		stream := func(t *testing.T, o, path string) {
			if !strings.Contains(o, streamOptimized) {
				return
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			streamed(t, b, d)
		}
		writing("").ReadsQemus(t, d, stream,
			"subformat=monolithicSparse", "subformat=monolithicSparse,zeroed_grain=on", "subformat=monolithicFlat", "subformat=twoGbMaxExtentSparse", "subformat=twoGbMaxExtentFlat",
			"subformat=streamOptimized", "subformat=monolithicSparse,adapter_type=lsilogic,hwversion=10", "subformat=monolithicSparse,compat6=on")
	}
}

// streamed reads a file as if it came from a pipe.
func streamed(t *testing.T, b []byte, d imagetest.Disk) {
	t.Helper()
	s, err := Format().OpenStream(t.Context(), bytes.NewReader(b), "pipe", image.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Size() != d.Size {
		t.Errorf("size %d, want %d", s.Size(), d.Size)
	}
	at := int64(0)
	want := make([]byte, s.Info().Unit)
	for {
		off, p, err := s.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if off < at {
			t.Fatalf("%d comes after %d", off, at)
		}
		at = off + int64(len(p))
		_, _ = d.ReadAt(want[:len(p)], off)
		if !bytes.Equal(p, want[:len(p)]) {
			t.Fatalf("other bytes at %d", off)
		}
	}
}

func TestWhatIsWrittenCanBeStreamed(t *testing.T) {
	for _, d := range imagetest.Patterns() {
		if d.Size > 1<<40 { // hundreds of MiB of tables, read whole here; the conformance suite reads them from a file
			continue
		}
		for _, footer := range []string{"on", "off"} {
			t.Run(d.Name+" footer="+footer, func(t *testing.T) {
				w := writing(streamOptimized)
				w.Options["footer"] = footer
				b, err := os.ReadFile(w.Write(t, t.TempDir(), d))
				if err != nil {
					t.Fatal(err)
				}
				streamed(t, b, d)
			})
		}
	}
}

func TestZeroedGrainsAreZero(t *testing.T) {
	path := filepath.Join(t.TempDir(), "z.vmdk")
	imagetest.QemuImg(t, "create", "-q", "-f", "vmdk", "-o", "zeroed_grain=on", path, "1M")
	imagetest.QemuIO(t, "-f", "vmdk", "-c", "write -P 5 0 256k", "-c", "write -z 64k 64k", path)
	var kinds []image.Kind
	r := imagetest.OpenFile(t, Format(), path)
	for e, err := range r.Extents(0) {
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, e.Kind)
	}
	if want := []image.Kind{image.Data, image.Zero, image.Data, image.Hole}; len(kinds) < 4 || kinds[0] != want[0] || kinds[1] != want[1] || kinds[len(kinds)-1] != want[3] {
		t.Errorf("extents are %v, want %v", kinds, want)
	}
	got := make([]byte, 192<<10)
	if _, err := r.ReadAt(got, 0); err != nil || got[0] != 5 || got[64<<10] != 0 || got[128<<10] != 5 {
		t.Errorf("read: %v", err)
	}
}

func TestGrainsInRandomOrder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.vmdk")
	imagetest.QemuImg(t, "create", "-q", "-f", "vmdk", path, "64M")
	args := []string{"-f", "vmdk"}
	var d = imagetest.Disk{Size: 64 << 20}
	for i := range 200 {
		args = append(args, "-c", "write -P 7 "+fmt.Sprint(int64(i*37%200)*256<<10)+" 64k")
	}
	imagetest.QemuIO(t, append(args, path)...)
	raw := path + ".raw"
	imagetest.QemuImg(t, "convert", "-O", "raw", path, raw)
	f, err := os.Open(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	imagetest.Reader(t, imagetest.OpenFile(t, Format(), path), f, d.Size)
}

// TestSevenZipReadsWhatIsWritten asks a reader that shares nothing with qemu-img. Of streamOptimized disks it opens only those with a footer,
// also of qemu-img's own.
func TestSevenZipReadsWhatIsWritten(t *testing.T) {
	d := imagetest.MixedDisk(4, 10<<20+3*imagetest.S)
	for _, o := range []image.Options{{"subformat": monolithicSparse}, {"subformat": streamOptimized, "footer": "on"}, {"subformat": streamOptimized, "footer": "on", "level": "1"},
		{"subformat": splitSparse}, {"subformat": monolithicFlat}, {"subformat": splitFlat}} {
		w := writing("")
		w.Options = o
		w.SevenZip(t, "vmdk", d)
	}
}

// TestLibvmdkReadsWhatIsWritten asks vmdkinfo for size and type.
func TestLibvmdkReadsWhatIsWritten(t *testing.T) {
	prog, err := exec.LookPath("vmdkinfo")
	if err != nil {
		t.Fatal("vmdkinfo is missing: install the Debian package libvmdk-utils")
	}
	const size = 10<<20 + 3*imagetest.S
	d := imagetest.MixedDisk(4, size)
	for s, word := range map[string]string{monolithicSparse: "Monolithic sparse", streamOptimized: "Stream optimized", splitSparse: "2GB extent sparse", monolithicFlat: "Monolithic flat", splitFlat: "2GB extent flat"} {
		out, err := exec.CommandContext(t.Context(), prog, writing(s).Write(t, t.TempDir(), d)).CombinedOutput()
		if err != nil || !strings.Contains(string(out), word) || !strings.Contains(string(out), "(10487296 bytes)") {
			t.Errorf("%s: vmdkinfo: %v\n%s", s, err, out)
		}
	}
}
