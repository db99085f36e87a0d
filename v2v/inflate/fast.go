package inflate

import "encoding/binary"

// slack is how much room the fast loop wants behind what it writes: the longest match, and what copying in words may write too much.
const slack = 258 + 16

// fast decodes until either buffer comes near its end, a block ends (which it leaves to the slow loop), or something is wrong (likewise).
func (d *decoder) fast() {
	lit, dist := &d.t.lit, &d.t.dist
	dst, src := d.dst, d.src
	n, pos, hold, have := d.n, d.pos, d.hold, d.have
	for n+slack <= len(dst) && pos+16 <= len(src) {
		// At least 56 bits: enough for three literals of 15 bits each, or a length and a distance with their extra bits (15+5+15+13 = 48).
		hold |= binary.LittleEndian.Uint64(src[pos:]) << (have & 63)
		pos += int(63-have) >> 3
		have |= 56

		e := lit[hold&(1<<litRoot-1)]
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
				if e&entryLiteral != 0 {
					hold >>= e & 31
					have -= uint(e & 31)
					dst[n] = byte(e >> 8)
					n++
					continue
				}
			}
			// What is left may be too little for a match.
			hold |= binary.LittleEndian.Uint64(src[pos:]) << (have & 63)
			pos += int(63-have) >> 3
			have |= 56
		}
		h, b := hold, have
		if e&entrySub != 0 {
			h >>= litRoot
			b -= litRoot
			e = lit[uint64(e>>8&0xffff)+h&(1<<(e>>24&15)-1)]
			if e&entryLiteral != 0 {
				hold = h >> (e & 31)
				have = b - uint(e&31)
				dst[n] = byte(e >> 8)
				n++
				continue
			}
		}
		if e == 0 || e&entryEnd != 0 {
			break
		}
		h >>= e & 31
		k := e >> 24 & 31
		length := int(e>>8&0xffff) + int(h&(1<<k-1))
		h >>= k
		b -= uint(e&31) + uint(k)

		e = dist[h&(1<<distRoot-1)]
		if e&entrySub != 0 {
			h >>= distRoot
			b -= distRoot
			e = dist[uint64(e>>8&0xffff)+h&(1<<(e>>24&15)-1)]
		}
		if e == 0 {
			break
		}
		h >>= e & 31
		k = e >> 24 & 31
		far := int(e>>8&0xffff) + int(h&(1<<k-1))
		h >>= k
		b -= uint(e&31) + uint(k)
		if far > n {
			break
		}
		hold, have = h, b
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
