package vmdk

import (
	"fmt"

	"initd/v2v/image"
)

// flat is an extent whose file has the data as they are.
type flat struct {
	src    image.Source
	file   int
	offset int64 // where the extent begins in the file, in bytes
	bytes  int64
}

func (f *flat) size() int64  { return f.bytes }
func (f *flat) close() error { return f.src.Close() }

func (f *flat) readAt(p []byte, off int64) error {
	if err := image.ReadFull(f.src, p, f.offset+off); err != nil {
		return fmt.Errorf("%s: vmdk: read at %d: %w", f.src.Name(), f.offset+off, err)
	}
	return nil
}

func (f *flat) extents(base, from int64, yield func(image.Extent, error) bool) bool {
	return image.MapExtents(f.src, f.file, f.offset, base, f.bytes, base+from, yield)
}

// zero is an extent that has no file and reads as zeros.
type zero struct{ bytes int64 }

func (z zero) size() int64                    { return z.bytes }
func (z zero) close() error                   { return nil }
func (z zero) readAt(p []byte, _ int64) error { clear(p); return nil }

func (z zero) extents(base, from int64, yield func(image.Extent, error) bool) bool {
	return from >= z.bytes || yield(image.Extent{Offset: base + from, Length: z.bytes - from, Kind: image.Zero, Place: -1}, nil)
}
