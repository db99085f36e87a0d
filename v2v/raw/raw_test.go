package raw

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"initd/v2v/image"
	"initd/v2v/image/imagetest"
)

func TestRawConformance(t *testing.T) {
	imagetest.Writer(t, imagetest.Writing{Format: Format(), Qemu: "raw"})
}

func TestRawToAPipe(t *testing.T) {
	imagetest.Writer(t, imagetest.Writing{Format: Format(), Qemu: "raw", Stream: true, MaxSize: 64 << 20})
}

func TestRawResumes(t *testing.T) {
	d := imagetest.MixedDisk(5, 20<<20+3*imagetest.S)
	imagetest.Resume(t, imagetest.Writing{Format: Format(), Qemu: "raw"}, d)
}

func TestAnOddLastSectorIsFilledWithZeros(t *testing.T) {
	path := filepath.Join(t.TempDir(), "odd")
	data := bytes.Repeat([]byte{7}, 513)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	imagetest.Reader(t, imagetest.OpenFile(t, Format(), path), bytes.NewReader(append(data, make([]byte, 511)...)), 1024)
}

func TestAStreamMustBeAsLongAsSaid(t *testing.T) {
	for _, tc := range []struct {
		name      string
		has, said int
		code      string
	}{
		{"as long as said", 3 << 20, 3 << 20, ""},
		{"an odd last sector is filled up", 3<<20 - 100, 3 << 20, ""},
		{"shorter than said", 3<<20 - 600, 3 << 20, "stream-shorter"},
		{"longer than said", 3<<20 + 1, 3 << 20, "stream-longer"},
		{"nothing was said", 3 << 20, 0, "stream-size"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := Format().OpenStream(t.Context(), bytes.NewReader(make([]byte, tc.has)), "pipe", image.OpenOptions{StreamSize: int64(tc.said)})
			var n int
			for err == nil {
				var p []byte
				if _, p, err = s.Next(); err == nil {
					n += len(p)
				}
			}
			var e *image.Error
			switch {
			case tc.code == "" && (!errors.Is(err, io.EOF) || n != tc.said):
				t.Errorf("got %d bytes and %v", n, err)
			case tc.code != "" && (!errors.As(err, &e) || e.Code != tc.code):
				t.Errorf("got %v, want %s", err, tc.code)
			}
		})
	}
}
