package inflate

import "encoding/binary"

const (
	// slack is how much room the fast loop wants behind what it writes: the longest match, three literals, and what copying in words may write too much.
	slack = 258 + 3 + 16
	// ahead is how much input it wants: four words, of which each but the last may be used up.
	ahead = 32
)

// fast decodes until either buffer comes near its end, a block ends (which it leaves to the slow loop), or something is wrong (likewise).
//
// What takes its time is the way from one symbol to the next: the bits that are left, the lookup, and the branch that it decides, which cannot be foreseen. So
// each symbol is looked up before the one before it has been copied.
func (d *decoder) fast() {
	lit, dist := &d.t.lit, &d.t.dist
	dst, src := d.dst, d.src
	n, pos, hold, have := d.n, d.pos, d.hold, d.have
	if n+slack > len(dst) || pos+ahead > len(src) {
		return
	}
	// At least 56 bits at the head of each turn.
	hold |= binary.LittleEndian.Uint64(src[pos:]) << (have & 63)
	pos += int(63-have) >> 3
	have |= 56
	e := lit[hold&(1<<litRoot-1)]
	for n+slack <= len(dst) && pos+ahead <= len(src) {
		if e&entryLiteral != 0 {
			hold >>= e & 31
			have -= uint(e & 31)
			dst[n] = byte(e >> 8)
			n++
			e = lit[hold&(1<<litRoot-1)]
			if e&entryLiteral != 0 {
				hold >>= e & 31
				have -= uint(e & 31)
				dst[n] = byte(e >> 8)
				n++
				e = lit[hold&(1<<litRoot-1)]
				// Two literals took 22 bits at most, which leaves too little for a match.
				hold |= binary.LittleEndian.Uint64(src[pos:]) << (have & 63)
				pos += int(63-have) >> 3
				have |= 56
				if e&entryLiteral != 0 {
					hold >>= e & 31
					have -= uint(e & 31)
					dst[n] = byte(e >> 8)
					n++
					e = lit[hold&(1<<litRoot-1)]
					hold |= binary.LittleEndian.Uint64(src[pos:]) << (have & 63)
					pos += int(63-have) >> 3
					have |= 56
					continue
				}
			}
		}
		// One literal took 11 bits at most: 45 are left, and a length and a distance of the first lookup take 20 and 21.
		h, b := hold, have
		if e&entryOdd != 0 {
			if e&entrySub == 0 {
				break
			}
			h >>= litRoot
			b -= litRoot
			e = lit[uint64(e>>8&0xffff)+h&(1<<(e>>24&15)-1)]
			if e&entryLiteral != 0 {
				hold = h >> (e & 31)
				have = b - uint(e&31)
				dst[n] = byte(e >> 8)
				n++
				hold |= binary.LittleEndian.Uint64(src[pos:]) << (have & 63)
				pos += int(63-have) >> 3
				have |= 56
				e = lit[hold&(1<<litRoot-1)]
				continue
			}
			if e&entryOdd != 0 {
				break
			}
		}
		length := int(e>>8&0xffff) + int(h&(1<<(e&31)-1)>>(e>>24&15))
		h >>= e & 31
		b -= uint(e & 31)

		e = dist[h&(1<<distRoot-1)]
		if e&entryOdd != 0 {
			if e&entrySub == 0 {
				break
			}
			// A long distance may want more than is left: up to 28 bits with its extra ones.
			taken := have - b + distRoot
			hold |= binary.LittleEndian.Uint64(src[pos:]) << (have & 63)
			pos += int(63-have) >> 3
			have |= 56
			h = hold >> (taken & 63)
			b = have - taken
			e = dist[uint64(e>>8&0xffff)+h&(1<<(e>>24&15)-1)]
			if e&entryOdd != 0 {
				break
			}
		}
		far := int(e>>8&0xffff) + int(h&(1<<(e&31)-1)>>(e>>24&15))
		h >>= e & 31
		b -= uint(e & 31)
		if far > n {
			break
		}
		hold = h | binary.LittleEndian.Uint64(src[pos:])<<(b&63)
		pos += int(63-b) >> 3
		have = b | 56
		e = lit[hold&(1<<litRoot-1)]
		end := n + length
		from := n - far
		if far >= 8 {
			// Two words at a time, up to fifteen bytes too far: they are written over, or there is room. Most matches are done at once.
			for {
				to, of := dst[n:n+16:len(dst)], dst[from:from+16:len(dst)]
				binary.LittleEndian.PutUint64(to, binary.LittleEndian.Uint64(of))
				binary.LittleEndian.PutUint64(to[8:], binary.LittleEndian.Uint64(of[8:]))
				n += 16
				from += 16
				if n >= end {
					break
				}
			}
		} else if far == 1 {
			word := uint64(dst[from]) * 0x0101010101010101
			for ; n < end; n += 8 {
				binary.LittleEndian.PutUint64(dst[n:], word)
			}
		} else {
			for ; n < end; n++ {
				dst[n] = dst[from]
				from++
			}
		}
		n = end
	}
	// have counts more bits than it holds only in whole bytes that can be given back.
	d.n, d.pos, d.hold, d.have = n, pos, hold, have
	if have < 64 {
		d.hold &= 1<<have - 1
	}
}
