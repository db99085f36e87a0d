package vmdk

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"initd/v2v/image"
)

// sparse is one extent file with grains, plain or compressed.
type sparse struct {
	src     image.Source
	file    int // its index in Extent.File
	h       header
	bytes   int64 // what of it the disk shows
	tables  *tables
	buffers sync.Pool // *[]byte of two grains and a sector: what is read of a compressed grain
}

// openSparse opens an extent file after its header. want is the number of sectors that a descriptor says, or -1.
func openSparse(ctx context.Context, src image.Source, h header, file int, want int64) (*sparse, []string, error) {
	footer := false
	if h.compressed() {
		var err error
		if h, footer, err = withFooter(src, h); err != nil {
			return nil, nil, err
		}
	}
	s := &sparse{src: src, file: file, h: h, bytes: int64(h.capacity) * sector}
	if want >= 0 {
		// Some writers round the header's capacity up to a grain, and keep the disk's size in the descriptor.
		if over := int64(h.capacity) - want; over < 0 || over >= int64(h.grain) {
			return nil, nil, corrupt(src.Name(), "vmdk-capacity", "the header says %d sectors, and the descriptor %d", h.capacity, want)
		}
		s.bytes = want * sector
	}
	var warnings []string
	if h.unclean {
		warnings = append(warnings, src.Name()+": it was not closed by the program that wrote it (uncleanShutdown is set)")
	}
	t, more, err := openTables(ctx, src, h, footer)
	if err != nil {
		return nil, nil, err
	}
	s.tables = t
	return s, append(warnings, more...), nil
}

// withFooter gives the header that counts: a stream that was written in one go has its directory's place in a footer, the last but one
// sector, between a marker and the end of the stream.
func withFooter(src image.Source, h header) (header, bool, error) {
	b := make([]byte, 3*sector)
	size := src.Size()
	if size < 4*sector || size%sector != 0 {
		if h.gd != gdAtEnd {
			return h, false, nil
		}
		return h, false, corrupt(src.Name(), "vmdk-footer", "the file of %d bytes has no room for the footer that its header promises", size)
	}
	if err := image.ReadFull(src, b, size-int64(len(b))); err != nil {
		return h, false, fmt.Errorf("%s: vmdk: read the footer: %w", src.Name(), err)
	}
	m := decodeMarker(b)
	there := !m.grain() && m.kind == markerFooter && string(b[sector:sector+4]) == magicSparse
	if !there {
		if h.gd != gdAtEnd {
			return h, false, nil
		}
		return h, false, corrupt(src.Name(), "vmdk-footer", "the header says that the grain directory is at the end, and there is no footer there: the file was cut short, or something follows it")
	}
	f := decodeHeader(b[sector:])
	return f, true, agree(src.Name(), h, &f, b[2*sector:])
}

// agree checks a footer against its header, and what follows it.
func agree(img string, h header, f *header, end []byte) error {
	if err := f.check(img+" (footer)", 0); err != nil {
		return err
	}
	switch {
	case f.capacity != h.capacity:
		return corrupt(img, "vmdk-footer", "the header says %d sectors, and the footer %d", h.capacity, f.capacity)
	case f.grain != h.grain:
		return corrupt(img, "vmdk-footer", "the header says grains of %d sectors, and the footer %d", h.grain, f.grain)
	case f.gtes != h.gtes:
		return corrupt(img, "vmdk-footer", "the header says grain tables of %d entries, and the footer %d", h.gtes, f.gtes)
	case f.flags != h.flags || f.compress != h.compress || f.version != h.version:
		return corrupt(img, "vmdk-footer", "the header and the footer differ in version, flags or compression")
	case f.gd == gdAtEnd:
		return corrupt(img, "vmdk-footer", "the footer does not say where the grain directory is")
	case h.gd != gdAtEnd && h.gd != f.gd:
		return corrupt(img, "vmdk-footer", "the header has the grain directory at sector %d, and the footer at %d", h.gd, f.gd)
	}
	for _, c := range end {
		if c != 0 {
			return corrupt(img, "vmdk-eos", "the footer is not followed by the end-of-stream marker")
		}
	}
	return nil
}

// entry gives the place of the grain of an index, and that of the next stored one as far as its table knows (0 if not).
func (s *sparse) entry(grain int64) (at, next uint32, err error) {
	entries, err := s.tables.table(int(grain / int64(s.h.gtes)))
	if err != nil || entries == nil {
		return 0, 0, err
	}
	i := int(grain % int64(s.h.gtes))
	for _, e := range entries[i+1:] {
		if e > 1 {
			next = e
			break
		}
	}
	return entries[i], next, nil
}

// stored says whether an entry is a place in the file.
func (s *sparse) stored(at uint32) bool { return at > 1 || at == 1 && !s.h.has(flagZeroGrain) }

func (s *sparse) size() int64 { return s.bytes }

// readAt fills p, which lies inside the extent.
func (s *sparse) readAt(p []byte, off int64) error {
	for len(p) > 0 {
		grain, in := off/s.h.grainBytes, off%s.h.grainBytes
		n := min(int64(len(p)), s.h.grainBytes-in)
		at, next, err := s.entry(grain)
		if err != nil {
			return err
		}
		switch {
		case !s.stored(at):
			clear(p[:n])
		case s.h.compressed():
			err = s.readCompressed(p[:n], grain, in, at, next)
		default:
			// Grains that follow each other on the disk mostly do in the file.
			for run := at; n < int64(len(p)); {
				more, _, err := s.entry(off/s.h.grainBytes + (in+n)/s.h.grainBytes)
				if err != nil {
					return err
				}
				run += uint32(s.h.grain)
				if more != run {
					break
				}
				n = min(int64(len(p)), n+s.h.grainBytes)
			}
			if err = image.ReadFull(s.src, p[:n], int64(at)*sector+in); err != nil {
				err = fmt.Errorf("%s: vmdk: read the grain of sector %d: %w", s.src.Name(), grain*int64(s.h.grain), err)
			}
		}
		if err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

// readCompressed decodes the grain at sector at, and copies what of it begins at in.
func (s *sparse) readCompressed(p []byte, grain, in int64, at, next uint32) error {
	lba := uint64(grain) * s.h.grain
	fail := func(what string, args ...any) error {
		return corrupt(s.src.Name(), "vmdk-grain-marker", fmt.Sprintf("the grain of sector %d, at sector %d of the file: ", lba, at)+what, args...)
	}
	buf, _ := s.buffers.Get().(*[]byte)
	if buf == nil {
		b := make([]byte, 3*s.h.grainBytes)
		buf = &b
	}
	defer s.buffers.Put(buf)
	whole, stored := (*buf)[:s.h.grainBytes], (*buf)[s.h.grainBytes:]

	start := int64(at) * sector
	guess := min(s.h.grainBytes+sector, s.src.Size()-start)
	if next > at {
		guess = min(guess, int64(next-at)*sector)
	}
	if err := image.ReadFull(s.src, stored[:guess], start); err != nil {
		return fmt.Errorf("%s: vmdk: read the grain of sector %d: %w", s.src.Name(), lba, err)
	}
	size := int64(binary.LittleEndian.Uint32(stored[8:]))
	switch got := binary.LittleEndian.Uint64(stored); {
	case got != lba:
		return fail("its marker says sector %d", got)
	case size == 0:
		return fail("there is a marker of another kind")
	case size > s.h.maxGrainData():
		return fail("its data are said to have %d bytes, more than two grains", size)
	case start+grainHead+size > s.src.Size():
		return fail("its data of %d bytes pass the end of the file", size)
	case next > at && start+grainHead+size > int64(next)*sector:
		return fail("its data of %d bytes reach into the next grain", size)
	}
	if end := grainHead + size; end > guess {
		if err := image.ReadFull(s.src, stored[guess:end], start+guess); err != nil {
			return fmt.Errorf("%s: vmdk: read the grain of sector %d: %w", s.src.Name(), lba, err)
		}
	}
	visible := min(s.h.grainBytes, int64(s.h.capacity)*sector-grain*s.h.grainBytes)
	direct := in == 0 && int64(len(p)) == s.h.grainBytes
	if direct {
		whole = p
	}
	if err := decodeGrain(s.src.Name(), lba, whole, stored[grainHead:grainHead+size], int(visible)); err != nil {
		return err
	}
	if !direct {
		copy(p, whole[in:])
	}
	return nil
}

// extents yields what lies from an offset in the extent to its end, with offsets that begin at base.
func (s *sparse) extents(base, from int64, yield func(image.Extent, error) bool) bool {
	perTable := int64(s.h.gtes)
	for off := from; off < s.bytes; {
		grain := off / s.h.grainBytes
		entries, err := s.tables.table(int(grain / perTable))
		if err != nil {
			yield(image.Extent{}, err)
			return false
		}
		if entries == nil {
			end := min(s.bytes, (grain/perTable+1)*s.h.coverageBytes)
			if !yield(image.Extent{Offset: base + off, Length: end - off, Kind: image.Hole, Place: -1}, nil) {
				return false
			}
			off = end
			continue
		}
		at := entries[grain%perTable]
		end := min(s.bytes, (grain+1)*s.h.grainBytes)
		e := image.Extent{Offset: base + off, Length: end - off, Kind: image.Hole, File: s.file, Place: -1}
		switch {
		case at == 1 && !s.stored(at):
			e.Kind = image.Zero
		case at != 0 && s.h.compressed():
			e.Kind, e.Compressed = image.Data, true
		case at != 0:
			e.Kind, e.Place = image.Data, int64(at)*sector+off%s.h.grainBytes
		}
		if e.Kind != image.Data {
			e.File = 0
		}
		if !yield(e, nil) {
			return false
		}
		off = end
	}
	return true
}

func (s *sparse) close() error { return s.src.Close() }

var _ io.ReaderAt = (*reader)(nil)
