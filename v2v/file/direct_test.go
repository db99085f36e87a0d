package file

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Pieces of all sizes and places, several at a time, some of which go past the kernel's memory and some not, become the file that they describe.
func TestPiecesOfAllSizesBecomeTheFile(t *testing.T) {
	const size = 24<<20 + 513
	rng := rand.New(rand.NewPCG(3, 4))
	want := make([]byte, size+directPage)
	for i := range want {
		want[i] = byte(rng.Uint32())
	}
	start := -uintptr(unsafe.Pointer(&want[0])) % directPage // at a page, as the copies have their buffers
	want = want[start:][:size]
	path := filepath.Join(t.TempDir(), "out")
	target, err := Create(path, CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f, err := target.Main()
	if err == nil {
		err = f.Truncate(size)
	}
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for off := 0; off < size; {
		n := rng.IntN(2 << 20)
		if rng.IntN(2) == 0 {
			n = (n/directPage + 1) * directPage
		}
		n = min(n, size-off)
		at := off
		wg.Go(func() {
			if got, err := f.WriteAt(want[at:at+n], int64(at)); err != nil || got != n {
				t.Errorf("write %d bytes at %d: %d, %v", n, at, got, err)
			}
		})
		off += n
	}
	wg.Wait()
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	var st unix.Statx_t
	h := target.main
	if err := unix.Statx(int(h.f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &st); err != nil {
		t.Fatal(err)
	}
	if can := st.Mask&unix.STATX_DIOALIGN != 0 && st.Dio_offset_align != 0; can != (h.direct.f != nil) || h.direct.refused.Load() {
		t.Errorf("the file system can do it: %v; it was done: %v, refused: %v", can, h.direct.f != nil, h.direct.refused.Load())
	}
	if err := target.Commit(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the file has other content than was written: %v", err)
	}
}

// What a way that was refused could not take goes the usual way, and so does all that follows.
func TestARefusedDirectWriteIsDoneOtherwise(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	h := &handle{f: f, name: path}
	h.direct.once.Do(func() {})
	h.direct.offset, h.direct.memory = 1, 1 // as if it took odd places
	if h.direct.f, err = os.OpenFile(path, os.O_WRONLY|unix.O_DIRECT, 0); err != nil {
		t.Fatal(err)
	}
	if err := h.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte{7}, directLeast+1)
	if n, err := h.WriteAt(data[1:], 1); err != nil || n != len(data)-1 {
		t.Fatalf("%d, %v", n, err)
	}
	if err := h.close(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got[1:len(data)], data[1:]) {
		t.Error("the file has other content than was written")
	}
}
