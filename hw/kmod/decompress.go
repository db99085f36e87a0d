package kmod

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"path"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// maxModule bounds a module's file once it is unpacked, in bytes. The largest of a Debian kernel has 12 MiB.
const maxModule = 256 << 20

// Decompress returns the ELF file in a module's file, which is compressed as its name says: .ko, .ko.gz, .ko.xz,
// .ko.zst. The result is never longer than 256 MiB.
func Decompress(file string, content io.Reader) ([]byte, error) {
	b, err := decompress(file, content)
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", file, err)
	}
	return b, nil
}

func decompress(file string, content io.Reader) ([]byte, error) {
	switch compression(file) {
	case "gzip":
		z, err := gzip.NewReader(content)
		if err != nil {
			return nil, err
		}
		content = z
	case "xz":
		// The kernel's modules are made with a dictionary of at most 2 MiB (scripts/Makefile.modinst, --lzma2=dict).
		z, err := xz.NewReader(content)
		if err != nil {
			return nil, err
		}
		content = z
	case "zstd":
		z, err := zstd.NewReader(content, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxModule))
		if err != nil {
			return nil, err
		}
		defer z.Close()
		content = z
	}
	var out bytes.Buffer
	n, err := io.Copy(&out, io.LimitReader(content, maxModule+1))
	if err != nil {
		return nil, err
	}
	if n > maxModule {
		return nil, fmt.Errorf("more than %d bytes", maxModule)
	}
	if !bytes.HasPrefix(out.Bytes(), []byte("\x7fELF")) {
		return nil, fmt.Errorf("what is in it is no kernel module")
	}
	return out.Bytes(), nil
}

// compression returns how a module's file is compressed, in the kernel's own words (kernel/module/decompress.c,
// /sys/module/compression); empty: not at all.
func compression(file string) string {
	switch path.Ext(file) {
	case ".gz":
		return "gzip"
	case ".xz":
		return "xz"
	case ".zst":
		return "zstd"
	}
	return ""
}
