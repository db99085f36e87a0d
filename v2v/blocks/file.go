package blocks

import (
	"crypto/rand"
	"fmt"
	"io"

	"initd/v2v/image"
)

// MainFile is the file that a format writes at any place.
func MainFile(dst image.Target, format string) (image.File, error) {
	if !dst.Seekable() {
		return nil, fmt.Errorf("%s: %s: it cannot be written to a pipe; name a file", dst.Base(), format)
	}
	return dst.Main()
}

// Part is something at its place in a file.
type Part struct {
	B  []byte
	At int64
}

// WriteParts writes parts, in this order.
func WriteParts(f image.File, parts ...Part) error {
	for _, p := range parts {
		if _, err := f.WriteAt(p.B, p.At); err != nil {
			return err
		}
	}
	return nil
}

// Plain is data as they are stored where nothing is compressed.
func Plain(offset int64, data []byte) image.Encoded {
	return image.Encoded{Offset: offset, Length: int64(len(data)), Bytes: data, Plain: true}
}

// PutPlain writes units where the disk has them.
func PutPlain(w io.WriterAt, units []image.Encoded) error {
	for _, u := range units {
		if _, err := w.WriteAt(u.Bytes, u.Offset); err != nil {
			return err
		}
	}
	return nil
}

// Seal writes what makes an image of a file, when all else is durable.
func Seal(f image.File, last Part) error {
	if err := f.Sync(); err != nil {
		return err
	}
	if err := WriteParts(f, last); err != nil {
		return err
	}
	return f.Sync()
}

// NewGUID is random, of version 4, in the order of bytes that Microsoft has (the first three numbers are little-endian).
func NewGUID() (g [16]byte) {
	_, _ = rand.Read(g[:]) // it never fails
	g[7] = g[7]&0x0f | 0x40
	g[8] = g[8]&0x3f | 0x80
	return g
}
