package image

import (
	"errors"
	"io"
)

// ReadFull fills p; a file that ends before is io.ErrUnexpectedEOF.
func ReadFull(src io.ReaderAt, p []byte, off int64) error {
	n, err := src.ReadAt(p, off)
	switch {
	case err != nil && !errors.Is(err, io.EOF): // also with a count that says that all is there
		return err
	case n < len(p):
		return io.ErrUnexpectedEOF
	}
	return nil
}
