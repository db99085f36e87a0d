package qcow2

import (
	"encoding/binary"
	"iter"
	"math/bits"

	"initd/v2v/image"
)

// Extents walks the tables. Clusters that were given places in advance (preallocation=metadata) lie in holes of the file.
func (r *reader) Extents(from int64) iter.Seq2[image.Extent, error] {
	return func(all func(image.Extent, error) bool) {
		yield := func(e image.Extent, err error) bool {
			if err != nil || e.Kind != image.Data || e.Compressed {
				return all(e, err)
			}
			return image.MapExtents(r.src, 0, e.Place, e.Offset, e.Length, e.Offset, func(part image.Extent, err error) bool {
				if part.Kind == image.Hole {
					part.Kind, part.Unwritten, part.Place = image.Data, true, e.Place+part.Offset-e.Offset
				}
				return all(part, err)
			})
		}
		var pending image.Extent
		for at := max(from, 0); at < r.size; {
			e, err := r.extent(at, r.size)
			if err != nil {
				yield(image.Extent{}, err)
				return
			}
			at = e.End()
			if pending.Length > 0 && follows(pending, e) {
				pending.Length += e.Length
				continue
			}
			if pending.Length > 0 && !yield(pending, nil) {
				return
			}
			pending = e
		}
		if pending.Length > 0 {
			yield(pending, nil)
		}
	}
}

// follows says whether b goes on what a is, in place too.
func follows(a, b image.Extent) bool {
	return a.Kind == b.Kind && a.Compressed == b.Compressed && a.End() == b.Offset &&
		(a.Place < 0 && b.Place < 0 || a.Place >= 0 && b.Place == a.Place+a.Length)
}

// extent is the run that begins at an offset, up to a limit, within one L2 table or over a gap of L1.
func (r *reader) extent(off, limit int64) (image.Extent, error) {
	span := r.l2Span()
	limit = min(limit, r.size)
	i := off / span
	if r.l1[i] == 0 {
		for i++; i*span < limit && r.l1[i] == 0; i++ {
		}
		return image.Extent{Offset: off, Length: min(i*span, limit) - off, Kind: image.Hole, Place: -1}, nil
	}
	table, err := r.table(int64(r.l1[i] & offsetMask))
	if err != nil {
		return image.Extent{}, err
	}
	limit = min(limit, (i+1)*span)
	e := r.piece(table, off)
	for e.End() < limit {
		next := r.piece(table, e.End())
		if !follows(e, next) {
			break
		}
		e.Length += next.Length
	}
	e.Length = min(e.End(), limit) - off
	return e, nil
}

// piece is what one L2 entry says of an offset: the rest of its cluster, or of its run of equal subclusters. It may reach past the disk's end.
func (r *reader) piece(table []byte, off int64) image.Extent {
	cs := r.clusterSize()
	at := off >> r.clusterBits % r.l2Entries() * r.entryBytes()
	e := binary.BigEndian.Uint64(table[at:])
	in := off & (cs - 1)
	piece := image.Extent{Offset: off, Length: cs - in, Place: -1}
	place := int64(e & offsetMask)
	switch {
	case e&compressed != 0:
		piece.Kind, piece.Compressed = image.Data, true
		return piece
	case r.extended:
		return r.subPiece(piece, place, binary.BigEndian.Uint64(table[at+8:]), in)
	case e&zeroFlag != 0:
		piece.Kind = image.Zero
	case place != 0:
		piece.Kind, piece.Place = image.Data, place+in
	}
	return piece
}

// subPiece finds the run of subclusters of one kind.
func (r *reader) subPiece(piece image.Extent, place int64, sub uint64, in int64) image.Extent {
	subBits := r.clusterBits - 5
	first := uint(in >> subBits)
	stored, zero := uint32(sub), uint32(sub>>32)
	same := ^(stored | zero)
	switch {
	case stored>>first&1 != 0:
		piece.Kind, piece.Place, same = image.Data, place+in, stored
	case zero>>first&1 != 0:
		piece.Kind, same = image.Zero, zero
	}
	run := min(bits.TrailingZeros32(^(same >> first)), 32-int(first))
	piece.Length = int64(first+uint(run))<<subBits - in
	return piece
}
