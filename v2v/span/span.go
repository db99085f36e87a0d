// Package span finds the parts of a file that are claimed twice: an image whose tables or data lie over each other would read as something that
// nobody wrote. It counts in units of the caller's (sectors, blocks), knows no format, and never takes more than 128 MiB.
package span

import "slices"

// Max is how many separate pieces a Set holds.
const Max = 16 << 20

// Set is a list of claims. Claims that follow each other in the file are one piece, so that a file written in order costs nothing.
// The zero value is empty. It is not safe for several goroutines.
type Set struct {
	// pieces are start<<32 | length, in the order of their coming until sorted.
	pieces []uint64
	sorted bool
}

// Add claims n units from start. It says no when there are too many pieces.
func (s *Set) Add(start, n uint32) bool {
	if n == 0 {
		return true
	}
	if last := len(s.pieces) - 1; last >= 0 && !s.sorted {
		at, length := split(s.pieces[last])
		if at+length == uint64(start) && length+uint64(n) <= 1<<32-1 {
			s.pieces[last] += uint64(n)
			return true
		}
	}
	if len(s.pieces) >= Max {
		return false
	}
	s.pieces = append(s.pieces, uint64(start)<<32|uint64(n))
	s.sorted = false
	return true
}

// Overlap gives the first unit that was claimed twice.
func (s *Set) Overlap() (unit uint64, found bool) {
	s.sort()
	end := uint64(0)
	for _, p := range s.pieces {
		at, length := split(p)
		if at < end {
			return at, true
		}
		end = at + length
	}
	return 0, false
}

// Meets says whether any of n units from start is claimed. It is for a Set without overlaps.
func (s *Set) Meets(start, n uint64) bool {
	s.sort()
	// The first piece that ends behind start is the only one that can be the first to meet it.
	i, _ := slices.BinarySearchFunc(s.pieces, start, func(p, start uint64) int {
		if at, length := split(p); at+length <= start {
			return -1
		}
		return 1
	})
	if i == len(s.pieces) {
		return false
	}
	at, _ := split(s.pieces[i])
	return at < start+n
}

// Seal sorts the claims, after which Overlap and Meets only read, and may be called by several goroutines.
func (s *Set) Seal() { s.sort() }

func (s *Set) sort() {
	if !s.sorted {
		slices.Sort(s.pieces)
		s.sorted = true
	}
}

func split(p uint64) (at, length uint64) { return p >> 32, p & (1<<32 - 1) }
