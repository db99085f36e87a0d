package deploy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"initd/hw/block/media"
	"initd/hw/sysfs"
	"initd/v2v/file"
	"initd/v2v/formats"
	"initd/v2v/image"
	"initd/v2v/image/imagetest"
)

// TestMain plays the program that is killed while it deploys.
func TestMain(m *testing.M) {
	if text := os.Getenv("V2V_TEST_DEPLOY"); text != "" {
		var p played
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			panic(err)
		}
		req := p.request()
		req.Report = func(e Event) {
			if e.Phase == "copy" && e.Note == "" {
				fmt.Println(e.Offset)
			}
		}
		_, err := Run(context.Background(), req)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// played is a request that can be told to another process.
type played struct {
	Device, Image, State string
	Rate, MarkEvery      int64
}

func (p played) request() Request {
	return Request{Disk: Disk{Device: p.Device}, Image: p.Image, State: p.State, Rate: p.Rate, MarkEvery: p.MarkEvery, Machine: "vm-17",
		Sys: root(), Open: direct, Content: content, Workers: 1}
}

func direct(ctx context.Context, src *file.Source, format string, opt image.OpenOptions) (image.Reader, error) {
	_, r, err := formats.Open(ctx, src, format, opt)
	return r, err
}

func content(_ context.Context, disk *file.Source) (string, error) {
	c, err := media.Probe(media.Medium{ReaderAt: disk, Size: disk.Size()})
	return Describe(c), err
}

// loop attaches a file of some MiB as a disk for the length of the test.
func loop(t *testing.T, mib int64, flags ...string) (device, backing string) {
	t.Helper()
	backing = filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(backing, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(backing, mib<<20); err != nil {
		t.Fatal(err)
	}
	return attach(t, backing, flags...), backing
}

func attach(t *testing.T, backing string, flags ...string) string {
	t.Helper()
	out := tool(t, "losetup", append(append([]string{"-f", "--show"}, flags...), backing)...)
	device := strings.TrimSpace(out)
	t.Cleanup(func() { tool(t, "losetup", "-d", device) })
	return device
}

// tool runs one of Debian's programs.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	packages := map[string]string{"losetup": "mount", "qemu-img": "qemu-utils", "mkfs.ext4": "e2fsprogs", "mkswap": "util-linux"}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing: install the Debian package %s", name, packages[name])
	}
	var stderr bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

// template makes an image of some MiB: random data, holes and zeros in pieces of 64 KiB; raw and, if asked for, as qcow2.
func templateFile(t *testing.T, mib int, seed uint64) (raw, qcow2 string) {
	t.Helper()
	dir := t.TempDir()
	raw, qcow2 = filepath.Join(dir, "t.raw"), filepath.Join(dir, "t.qcow2")
	rng := rand.New(rand.NewPCG(seed, 1))
	f, err := os.Create(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(int64(mib) << 20); err != nil {
		t.Fatal(err)
	}
	piece := make([]byte, 64<<10)
	for off := int64(0); off < int64(mib)<<20; off += int64(len(piece)) {
		if rng.IntN(3) == 0 {
			continue
		}
		for i := 0; i < len(piece); i += 8 {
			v := rng.Uint64()
			for k := range 8 {
				piece[i+k] = byte(v >> (8 * k))
			}
		}
		if _, err := f.WriteAt(piece, off); err != nil {
			t.Fatal(err)
		}
	}
	tool(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, qcow2)
	return raw, qcow2
}

// wantDisk compares a disk's beginning with a raw image, and what is behind it with zeros at the end.
func wantDisk(t *testing.T, device, raw string) {
	t.Helper()
	want, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	imagetest.Begins(t, device, want)
}

func root() *sysfs.FS {
	f, err := sysfs.Open("/")
	if err != nil {
		panic(err)
	}
	return f
}
