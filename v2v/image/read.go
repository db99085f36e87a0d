package image

import (
	"errors"
	"io"
)

// ReadFull fills p; a file that ends before is io.ErrUnexpectedEOF.
func ReadFull(src io.ReaderAt, p []byte, off int64) error {
	n, err := src.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
