// Package blocks has what formats with a table of equal blocks (VHD, VHDX, VDI) share: a reader over a layout, the allocation of
// blocks in a growing file, and writing where every byte's place is known. It knows no format: tables and headers are theirs.
package blocks

import (
	"fmt"
	"io"
	"iter"

	"initd/v2v/image"
)

// Layout says where a disk's bytes are. Safe for several goroutines.
type Layout interface {
	// At says what the disk reads as from an offset on, for at least one sector: the kind, the length for which that is so, and for Data the place in the
	// file. It may say more than the disk has.
	At(off int64) (kind image.Kind, place, length int64, err error)
}

// Reader is an image.Reader over a layout and one file.
type Reader struct {
	src  image.Source
	in   io.ReaderAt
	over bool // in is more than src
	l    Layout
	info image.Info
}

// NewReader reads src, or in its place over, which is src with what was not yet written to it; over may be nil.
func NewReader(src image.Source, over io.ReaderAt, l Layout, info image.Info) *Reader {
	info.Stored = stored(src)
	r := &Reader{src: src, in: src, l: l, info: info}
	if over != nil {
		r.in, r.over = over, true
	}
	return r
}

func stored(src image.Source) int64 {
	if s, ok := src.(interface{ Stored() int64 }); ok {
		return s.Stored()
	}
	return src.Size()
}

// Size is the virtual size in bytes.
func (r *Reader) Size() int64 { return r.info.Size }

// Info describes the image.
func (r *Reader) Info() image.Info { return r.info }

// Close closes the source.
func (r *Reader) Close() error { return r.src.Close() }

// ReadAt implements io.ReaderAt.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("%s: %s: read at the negative offset %d", r.src.Name(), r.info.Format, off)
	}
	if off >= r.info.Size {
		return 0, io.EOF
	}
	var eof error
	if int64(len(p)) > r.info.Size-off {
		p, eof = p[:r.info.Size-off], io.EOF
	}
	done := 0
	for done < len(p) {
		at := off + int64(done)
		in := at % image.Sector
		kind, place, length, err := r.l.At(at - in)
		if err != nil {
			return done, err
		}
		part := p[done:min(int64(len(p)), int64(done)+length-in)]
		if kind != image.Data {
			clear(part)
		} else if err := image.ReadFull(r.in, part, place+in); err != nil {
			return done, fmt.Errorf("%s: %s: read %d bytes at %d: %w", r.src.Name(), r.info.Format, len(part), place+in, err)
		}
		done += len(part)
	}
	return done, eof
}

// Extents implements image.Reader. Neighbours are joined, and what is allocated but in a hole of the file is a hole.
func (r *Reader) Extents(from int64) iter.Seq2[image.Extent, error] {
	return func(yield func(image.Extent, error) bool) {
		out := joiner{yield: yield}
		// The table's words are joined first: one question to the file system is for many blocks then.
		in := joiner{yield: func(e image.Extent, err error) bool {
			if err != nil || e.Kind != image.Data || r.over { // with more than the file, the file does not say where there is nothing
				return out.add(e, err)
			}
			return image.MapExtents(r.src, 0, e.Place, e.Offset, e.Length, e.Offset, out.add)
		}}
		for off := max(0, from/image.Sector*image.Sector); off < r.info.Size; {
			kind, place, length, err := r.l.At(off)
			e := image.Extent{Offset: off, Length: min(length, r.info.Size-off), Kind: kind, Place: -1}
			if kind == image.Data {
				e.Place = place
			}
			if !in.add(e, err) {
				return
			}
			off = e.End()
		}
		if in.end() {
			out.end()
		}
	}
}

// joiner passes extents on, neighbours of the same kind as one.
type joiner struct {
	held  image.Extent
	yield func(image.Extent, error) bool
}

func (j *joiner) add(e image.Extent, err error) bool {
	if err != nil {
		if j.end() {
			j.yield(image.Extent{}, err)
		}
		return false
	}
	if h := &j.held; h.Length > 0 && h.Kind == e.Kind && (e.Place < 0 || e.Place == h.Place+h.Length) {
		h.Length += e.Length
		return true
	}
	if !j.end() {
		return false
	}
	j.held = e
	return true
}

func (j *joiner) end() bool { return j.held.Length == 0 || j.yield(j.held, nil) }
