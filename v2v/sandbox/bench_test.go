package sandbox

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"initd/v2v/file"
	"initd/v2v/formats"
	"initd/v2v/image"
)

// BenchmarkRead reads 256 MiB of a raw file from the page cache in pieces of 1 MiB, by two goroutines: the dearest case, since nothing is decoded.
func BenchmarkRead(b *testing.B) {
	path := filepath.Join(b.TempDir(), "disk")
	const size = 256 << 20
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		b.Fatal(err)
	}
	for name, open := range map[string]func(src *file.Source) (image.Reader, error){
		"without": func(src *file.Source) (image.Reader, error) {
			_, r, err := formats.Open(context.Background(), src, "raw", image.OpenOptions{})
			return r, err
		},
		"sandbox": func(src *file.Source) (image.Reader, error) {
			return Open(context.Background(), src, Options{Format: "raw"})
		},
	} {
		b.Run(name, func(b *testing.B) {
			src, err := file.Open(path, file.OpenOptions{})
			if err != nil {
				b.Fatal(err)
			}
			r, err := open(src)
			if err != nil {
				b.Fatal(err)
			}
			defer r.Close()
			b.SetBytes(size)
			for b.Loop() {
				done := make(chan error, 2)
				for half := range int64(2) {
					go func() {
						buf := make([]byte, 1<<20)
						for off := half * size / 2; off < (half+1)*size/2; off += int64(len(buf)) {
							if _, err := r.ReadAt(buf, off); err != nil && err != io.EOF {
								done <- err
								return
							}
						}
						done <- nil
					}()
				}
				for range 2 {
					if err := <-done; err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
