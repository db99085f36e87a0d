package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// MaxDisk is the largest virtual disk that is spoken of here, in bytes: 2^62, so that sums of two offsets never wrap.
const MaxDisk = 1 << 62

// RoundUp rounds n up to a multiple of unit.
func RoundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }

// TooLargef is the refusal of a virtual size beyond OpenOptions.MaxSize.
func TooLargef(name, format string, size, limit int64) *Error {
	return &Error{Fault: TooLarge, Code: "size-limit", Image: name, Format: format,
		What: fmt.Sprintf("a disk of %d bytes, and at most %d are taken", size, limit), Do: "raise the limit if the image is trusted (--max-size)"}
}

// IsZero says whether p holds nothing but zeros.
func IsZero(p []byte) bool {
	// Ends first: most data shows itself there, and a page of zeros with a last byte is common.
	if len(p) >= 16 {
		if binary.NativeEndian.Uint64(p) != 0 || binary.NativeEndian.Uint64(p[len(p)-8:]) != 0 {
			return false
		}
	}
	for len(p) >= 64 {
		if binary.NativeEndian.Uint64(p)|binary.NativeEndian.Uint64(p[8:])|binary.NativeEndian.Uint64(p[16:])|binary.NativeEndian.Uint64(p[24:])|
			binary.NativeEndian.Uint64(p[32:])|binary.NativeEndian.Uint64(p[40:])|binary.NativeEndian.Uint64(p[48:])|binary.NativeEndian.Uint64(p[56:]) != 0 {
			return false
		}
		p = p[64:]
	}
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}

// MapExtents yields what a flat range of a file holds as extents of the disk: length bytes of src from place on are the guest's from
// offset on; what precedes from is left out. It asks the source where it holds nothing, and takes all for data where it does not know.
// Holes begin and end at sectors of the guest. The result is false once the consumer wants no more or an error was given.
func MapExtents(src Source, file int, place, offset, length, from int64, yield func(Extent, error) bool) bool {
	if from >= offset+length {
		return true
	}
	at := max(from, offset)
	end := offset + length
	shift := place - offset
	m, knows := src.(Mapper)
	for at < end {
		start, stop := at, end
		if knows {
			s, e, err := m.NextData(at + shift)
			switch {
			case errors.Is(err, io.EOF):
				start, stop = end, end
			case err != nil:
				yield(Extent{}, err)
				return false
			default:
				// A sector that holds data at all is data.
				start = max(at, (s-shift)/Sector*Sector)
				stop = RoundUp(e-shift, Sector)
			}
			start, stop = min(start, end), min(stop, end)
		}
		if start > at && !yield(Extent{Offset: at, Length: start - at, Kind: Hole, Place: -1}, nil) {
			return false
		}
		if stop > start && !yield(Extent{Offset: start, Length: stop - start, Kind: Data, File: file, Place: start + shift}, nil) {
			return false
		}
		at = stop
	}
	return true
}

// WriteMap writes a line for each extent, for a digest of the map, and gives how much data there are, in bytes. What of plain data is unwritten makes no
// difference to the lines: room allotted in advance counts as data for the kernel once it was read (mm/filemap.c, folio_seek_hole_data).
func WriteMap(w io.Writer, r Reader) (data int64, err error) {
	var last Extent
	put := func() {
		if last.Length > 0 {
			fmt.Fprintln(w, last.Offset, last.Length, last.Kind, last.Compressed, last.File, last.Place)
		}
	}
	for e, err := range r.Extents(0) {
		if err != nil {
			return 0, err
		}
		if e.Stored() {
			data += e.Length
		}
		if last.Kind == Data && e.Kind == Data && !last.Compressed && !e.Compressed && last.File == e.File && last.Place >= 0 && e.Place == last.Place+last.Length {
			last.Length += e.Length
			continue
		}
		put()
		last = e
	}
	put()
	return data, nil
}
