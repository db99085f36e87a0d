package qcow2

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"initd/v2v/file"
	"initd/v2v/image"
	"initd/v2v/image/imagetest"
)

func TestWrittenImagesReadBackAndSatisfyQemu(t *testing.T) {
	for _, tc := range []struct {
		name string
		opt  image.Options
		max  int64
	}{
		{"as it is by default", nil, 0},
		{"version 2", image.Options{"compat": "0.10"}, 0},
		{"zlib", image.Options{"compress": "zlib"}, 0},
		{"zlib, version 2, level 6", image.Options{"compress": "zlib", "compat": "0.10", "level": "6"}, 64 << 20},
		{"zstd", image.Options{"compress": "zstd"}, 0},
		{"clusters of 512 bytes", image.Options{"cluster_size": "512"}, 3 << 30},
		{"clusters of 512 bytes, zlib", image.Options{"cluster_size": "512", "compress": "zlib"}, 3 << 30},
		{"clusters of 4 KiB, zstd", image.Options{"cluster_size": "4k", "compress": "zstd"}, 3 << 30},
		{"clusters of 2 MiB", image.Options{"cluster_size": "2M"}, 0},
		{"clusters of 2 MiB, zstd", image.Options{"cluster_size": "2M", "compress": "zstd"}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			imagetest.Writer(t, imagetest.Writing{Format: Format(), Options: tc.opt, Qemu: "qcow2", MaxSize: tc.max})
		})
	}
}

func TestWritingResumesAfterEveryCheckpoint(t *testing.T) {
	const size = 40<<20 + 3*imagetest.S
	d := imagetest.MixedDisk(9, size)
	for name, opt := range map[string]image.Options{
		"plain": nil, "zlib": {"compress": "zlib"}, "zstd, 4 KiB": {"compress": "zstd", "cluster_size": "4k"}, "512 bytes": {"cluster_size": "512"},
	} {
		t.Run(name, func(t *testing.T) {
			imagetest.Resume(t, imagetest.Writing{Format: Format(), Options: opt, Qemu: "qcow2"}, d)
		})
	}
}

func openFile(t testing.TB, path string, opt image.OpenOptions) (image.Reader, error) {
	t.Helper()
	src, err := file.Open(path, file.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := Format().Open(t.Context(), src, opt)
	if err != nil {
		src.Close()
	}
	return r, err
}

func TestQemusImagesAreRead(t *testing.T) {
	const size = 6<<20 + 3*imagetest.S
	mixed := imagetest.MixedDisk(21, size)
	for _, tc := range []struct {
		name string
		args []string
	}{
		{"as it is by default", nil},
		{"version 2", []string{"-o", "compat=0.10"}},
		{"version 2, compressed", []string{"-c", "-o", "compat=0.10"}},
		{"clusters of 512 bytes", []string{"-o", "cluster_size=512"}},
		{"clusters of 512 bytes, compressed", []string{"-c", "-o", "cluster_size=512"}},
		{"clusters of 2 MiB", []string{"-o", "cluster_size=2M"}},
		{"clusters of 2 MiB, compressed", []string{"-c", "-o", "cluster_size=2M"}},
		{"zlib", []string{"-c"}},
		{"zlib, out of order", []string{"-c", "-m4", "-W"}},
		{"zstd", []string{"-c", "-o", "compression_type=zstd"}},
		{"zstd, 4 KiB", []string{"-c", "-o", "compression_type=zstd,cluster_size=4k"}},
		{"extended L2", []string{"-o", "extended_l2=on,cluster_size=16k"}},
		{"extended L2, 2 MiB", []string{"-o", "extended_l2=on,cluster_size=2M"}},
		{"extended L2, compressed", []string{"-c", "-o", "extended_l2=on,cluster_size=64k"}},
		{"refcounts of 1 bit", []string{"-o", "refcount_bits=1"}},
		{"refcounts of 64 bits", []string{"-o", "refcount_bits=64"}},
		{"lazy refcounts", []string{"-o", "lazy_refcounts=on"}},
		{"preallocated metadata", []string{"-o", "preallocation=metadata"}},
		{"preallocated in full", []string{"-o", "preallocation=full"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			rawPath, path := filepath.Join(dir, "raw"), filepath.Join(dir, "q")
			mixed.WriteRaw(t, rawPath)
			imagetest.QemuImg(t, append(append([]string{"convert", "-f", "raw", "-O", "qcow2"}, tc.args...), rawPath, path)...)
			r, err := openFile(t, path, image.OpenOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			imagetest.Reader(t, r, mixed, size)
		})
	}
}

func TestRandomWritesZeroFlagsAndSubclustersAreRead(t *testing.T) {
	for _, opts := range []string{"cluster_size=64k", "cluster_size=4k", "extended_l2=on,cluster_size=16k", "extended_l2=on,cluster_size=128k"} {
		t.Run(opts, func(t *testing.T) {
			dir := t.TempDir()
			path, rawPath := filepath.Join(dir, "q"), filepath.Join(dir, "raw")
			imagetest.QemuImg(t, "create", "-f", "qcow2", "-o", opts, path, "8M")
			args := []string{"-f", "qcow2"}
			for i := range 120 {
				off := i * 7919 * 512 % (8<<20 - 65536) / 512 * 512
				switch i % 5 {
				case 3:
					args = append(args, "-c", fmt.Sprintf("write -z %d 40k", off))
				case 4:
					args = append(args, "-c", fmt.Sprintf("discard %d 64k", off))
				default:
					args = append(args, "-c", fmt.Sprintf("write -P %d %d %d", 1+i, off, 512*(1+i%40)))
				}
			}
			imagetest.QemuIO(t, append(args, path)...)
			imagetest.QemuImg(t, "convert", "-O", "raw", path, rawPath)
			want, err := os.Open(rawPath)
			if err != nil {
				t.Fatal(err)
			}
			defer want.Close()
			r, err := openFile(t, path, image.OpenOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			imagetest.Reader(t, r, want, 8<<20)
		})
	}
}

// preallocation=metadata gives every cluster a place, most of them in a hole of the file: those are allocated, and need neither room nor reading.
func TestPlacesInAdvanceThatNothingWasWrittenTo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q")
	imagetest.QemuImg(t, "create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", path, "1G")
	h, err := openFile(t, path, image.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	first := int64(-1)
	for e, err := range h.Extents(0) {
		if err != nil {
			t.Fatal(err)
		}
		first = e.Place
		break
	}
	_ = h.Close()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("something"), first+500<<20); err != nil {
		t.Fatal(err)
	}
	r, err := openFile(t, path, image.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var all, stored, end int64
	for e, err := range r.Extents(0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind != image.Data || e.Offset != end || e.Place < 0 {
			t.Fatalf("%+v behind %d", e, end)
		}
		all, end = all+e.Length, e.End()
		if e.Stored() {
			stored += e.Length
		}
	}
	if all != 1<<30 || stored == 0 || stored > 16<<20 {
		t.Errorf("%d bytes are allocated and %d stored; want all of them, and the few that were written", all, stored)
	}
}
