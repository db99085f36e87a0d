package vmdk

import (
	"encoding/binary"
	"hash/maphash"
	"io"

	"initd/v2v/image"
)

// seen is what a stream has shown of itself, kept to be compared with its tables. Grains come in the order of the disk, so only one table at a time is
// kept as it ought to be; of the others a hash is enough: 8 bytes for 32 MiB of disk.
type seen struct {
	img  string
	h    header
	seed maphash.Seed

	lba     int64    // of the last grain; -1 before the first
	index   int      // of the table that is being seen
	entries []uint32 // its entries so far
	want    []uint64 // by index: the hash of the entries that came; 0 for none

	// The tables before the data (fromFront), or those between them and the directories after them.
	fromFront bool
	gd        []uint32
	gdBytes   []byte
	frontHash []uint64
	listed    int64          // grains that the tables in front have
	came      int64          // grains that came
	at        map[uint32]int // sector of a table in front -> its index
	held      []byte         // a table in front, as far as it came
	heldAt    uint32

	tablesAt map[uint32]uint64 // sector -> hash
	dirs     map[uint64][]uint32
	footer   *header
}

func newSeen(img string, h header) *seen {
	return &seen{img: img, h: h, seed: maphash.MakeSeed(), lba: -1, entries: make([]uint32, h.gtes),
		want: make([]uint64, h.tables()), fromFront: h.gd != gdAtEnd,
		at: map[uint32]int{}, tablesAt: map[uint32]uint64{}, dirs: map[uint64][]uint32{}}
}

// hash is 0 for a table without stored grains.
func (s *seen) hash(entries []uint32) uint64 {
	var m maphash.Hash
	m.SetSeed(s.seed)
	var b [4]byte
	empty := true
	for _, e := range entries {
		if e == 1 && s.h.has(flagZeroGrain) {
			e = 0
		}
		empty = empty && e == 0
		binary.LittleEndian.PutUint32(b[:], e)
		_, _ = m.Write(b[:])
	}
	if empty {
		return 0
	}
	return max(m.Sum64(), 1)
}

func entriesOf(b []byte, n int) []uint32 {
	out := make([]uint32, n)
	for i := range out {
		out[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return out
}

// front takes a sector from before the data that is not the descriptor's. The directory has to come before its tables, as everybody writes it.
func (s *seen) front(at uint64, b []byte) error {
	if !s.fromFront {
		return nil
	}
	size := len(s.want) * 4
	if at >= s.h.gd && len(s.gdBytes) < size {
		s.gdBytes = append(s.gdBytes, b...)
		if len(s.gdBytes) < size {
			return nil
		}
		s.gd = entriesOf(s.gdBytes, len(s.want))
		s.gdBytes = s.gdBytes[:size]
		s.frontHash = make([]uint64, len(s.gd))
		for i, t := range s.gd {
			if t == 0 {
				continue
			}
			if uint64(t) <= at || uint64(t)+uint64(s.h.gtSectors()) > s.h.overhead {
				return unsupported(s.img, "vmdk-not-streamed", "the grain tables do not come between their directory and the data", "give the file instead of a pipe")
			}
			if _, twice := s.at[t]; twice {
				return corrupt(s.img, "vmdk-overlap", "two grain tables are at sector %d", t)
			}
			s.at[t] = i
		}
		return nil
	}
	if s.gd == nil {
		return nil
	}
	if _, begins := s.at[uint32(at)]; begins {
		if len(s.held) > 0 {
			return corrupt(s.img, "vmdk-overlap", "two grain tables lie over each other at sector %d", at)
		}
		s.heldAt = uint32(at)
	} else if len(s.held) == 0 {
		return nil
	}
	s.held = append(s.held, b...)
	if len(s.held) == int(s.h.gtSectors())*sector {
		table := entriesOf(s.held, int(s.h.gtes))
		s.frontHash[s.at[s.heldAt]] = s.hash(table)
		for _, e := range table {
			if e > 1 || e == 1 && !s.h.has(flagZeroGrain) {
				s.listed++
			}
		}
		s.held = s.held[:0]
	}
	return nil
}

func (s *seen) frontDone() error {
	s.at = nil
	if s.fromFront && s.gd == nil && len(s.want) > 0 {
		return unsupported(s.img, "vmdk-not-streamed", "the grain directory does not come before the data", "give the file instead of a pipe")
	}
	return nil
}

// grain takes the place of a grain.
func (s *seen) grain(lba, at uint64) error {
	switch {
	case s.footer != nil || len(s.dirs) > 0:
		return corrupt(s.img, "vmdk-grain-marker", "a grain at sector %d of the stream, behind the grain directory", at)
	case lba >= s.h.capacity || lba%s.h.grain != 0:
		return corrupt(s.img, "vmdk-grain-marker", "the grain at sector %d of the stream is for sector %d of a disk that has %d", at, lba, s.h.capacity)
	case int64(lba) == s.lba:
		return corrupt(s.img, "vmdk-overlap", "the grain of sector %d comes twice", lba)
	case int64(lba) < s.lba:
		return unsupported(s.img, "vmdk-stream-order", "its grains are not in the order of the disk", "give the file instead of a pipe")
	case at >= maxFile:
		return tooLarge(s.img, "vmdk-file-size", "the stream is longer than the 2 TiB that grain tables can address")
	}
	grain := lba / s.h.grain
	if i := int(grain / uint64(s.h.gtes)); i != s.index {
		s.leave()
		s.index = i
	}
	s.entries[grain%uint64(s.h.gtes)] = uint32(at)
	s.lba = int64(lba)
	s.came++
	return nil
}

// all says whether a sector of zeros can be the end of the stream. With tables in front that is so once as many grains have come as they list.
func (s *seen) all() bool { return !s.fromFront || s.came >= s.listed }

// leave is called when no more grains of the present table can come.
func (s *seen) leave() {
	if s.lba >= 0 {
		s.want[s.index] = s.hash(s.entries)
		clear(s.entries)
	}
}

// table takes a table from between the grains.
func (s *seen) table(at uint64, b []byte) error {
	// A table is there at most once, so more of them are no tables of this disk.
	if len(s.tablesAt) >= 2*len(s.want)+2 {
		return corrupt(s.img, "vmdk-marker", "the stream has more grain tables than the disk")
	}
	if at < maxFile {
		s.tablesAt[uint32(at)] = s.hash(entriesOf(b, int(s.h.gtes)))
	}
	return nil
}

func (s *seen) directory(at uint64, b []byte) error {
	if len(s.dirs) >= 2 { // one, and a redundant one
		return corrupt(s.img, "vmdk-marker", "the stream has more than two grain directories")
	}
	s.dirs[at] = entriesOf(b, len(s.want))
	return nil
}

func (s *seen) foot(f header) error {
	if s.footer != nil {
		return corrupt(s.img, "vmdk-footer", "the stream has two footers")
	}
	s.footer = &f
	return agree(s.img, s.h, s.footer, nil)
}

// end compares all that the tables say with what came. It is called at the end-of-stream marker.
func (s *seen) end() error {
	s.leave()
	if s.fromFront {
		return s.compare(func(i int) (uint64, bool) { return s.frontHash[i], true })
	}
	if s.footer == nil {
		return corrupt(s.img, "vmdk-footer", "the stream ends without the footer that its header promises")
	}
	gd, ok := s.dirs[s.footer.gd]
	if !ok && len(s.want) > 0 {
		return corrupt(s.img, "vmdk-footer", "the footer says that the grain directory is at sector %d, and it did not come there", s.footer.gd)
	}
	return s.compare(func(i int) (uint64, bool) {
		if gd[i] == 0 {
			return 0, true
		}
		hash, ok := s.tablesAt[gd[i]]
		return hash, ok
	})
}

// compare looks at each table; hash says false where there is none at the place that the directory gives.
func (s *seen) compare(hash func(i int) (uint64, bool)) error {
	for i, want := range s.want {
		switch got, ok := hash(i); {
		case !ok:
			return corrupt(s.img, "vmdk-gt", "grain table %d is not where the grain directory says", i)
		case got != want:
			return corrupt(s.img, "vmdk-gt", "grain table %d does not list the grains that came", i)
		}
	}
	return nil
}

// endWithoutMarker is for a stream that stops between two grains. qemu-img writes no end-of-stream marker, and has its tables in front: if all that they
// list has come, the disk is whole.
func (s *seen) endWithoutMarker(at uint64) error {
	if !s.fromFront {
		return corrupt(s.img, "vmdk-truncated", "the stream ends at byte %d without an end-of-stream marker: it was cut short", at*image.Sector)
	}
	if err := s.end(); err != nil {
		return corrupt(s.img, "vmdk-truncated", "the stream ends at byte %d before all grains have come that its tables list", at*image.Sector)
	}
	return io.EOF
}
