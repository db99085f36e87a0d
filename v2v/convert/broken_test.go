package convert

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"initd/v2v/file"
	"initd/v2v/formats"
	"initd/v2v/image"
)

// breaking is a source that can be read until it breaks.
type breaking struct {
	*file.Source
	broken *atomic.Bool
	err    error
}

func (b breaking) ReadAt(p []byte, off int64) (int, error) {
	if b.broken.Load() {
		return 0, b.err
	}
	return b.Source.ReadAt(p, off)
}

func (b breaking) Sibling(name string) (image.Source, error) {
	s, err := b.Source.Sibling(name)
	if err != nil {
		return nil, err
	}
	return breaking{s.(*file.Source), b.broken, b.err}, nil
}

func TestWhatCannotBeReadIsAnErrorInEveryFormat(t *testing.T) {
	// All is one piece in every format: what is read last has to fail too.
	raw := filepath.Join(t.TempDir(), "raw")
	if err := os.WriteFile(raw, bytes.Repeat([]byte("some text. "), 64<<10)[:64<<10], 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ format, option string }{
		{"raw", ""}, {"qcow2", ""}, {"qcow2", "compress=zlib"}, {"qcow2", "compress=zstd"}, {"vdi", ""}, {"vdi", "static=on"}, {"vpc", ""}, {"vpc", "subformat=fixed"}, {"vhdx", ""},
		{"vmdk", ""}, {"vmdk", "subformat=monolithicFlat"}, {"vmdk", "subformat=twoGbMaxExtentSparse"}, {"vmdk", "subformat=streamOptimized"},
	} {
		t.Run(tc.format+" "+tc.option, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "disk")
			mustRun(t, Request{Source: raw, SourceFormat: "raw", Target: path, TargetFormat: tc.format, Options: []string{tc.option}})
			for _, want := range []error{errMedium, io.EOF} {
				src, err := file.Open(path, file.OpenOptions{})
				if err != nil {
					t.Fatal(err)
				}
				var broken atomic.Bool
				_, r, err := formats.Open(t.Context(), breaking{src, &broken, want}, tc.format, image.OpenOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if _, _, err := mapped(r); err != nil { // its tables are known: it is the data that cannot be read
					t.Fatal(err)
				}
				broken.Store(true)
				if _, err := Copy(t.Context(), r, nil, CopyOptions{}); err == nil {
					t.Errorf("a source that gives %q was read to its end", want)
				}
				r.Close()
			}
		})
	}
}

func TestAFileThatBecameShorterHasNoHoleThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	testDisk().WriteRaw(t, path)
	src, err := file.Open(path, file.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	if err := os.Truncate(path, 1<<20); err != nil {
		t.Fatal(err)
	}
	var e *image.Error
	if _, _, err := src.NextData(2 << 20); !errors.As(err, &e) || e.Code != "raw-cut" {
		t.Errorf("got %v, want raw-cut", err)
	}
}
