package inflate

import "encoding/binary"

// Adler32 is the checksum of RFC 1950 section 9. It takes eight bytes at a time, which a decoder that is fast notices: one byte at a time costs a third of
// what decoding does.
//
// Of a block of n bytes p, a grows by their sum, and b by n times the old a and the sum of (n-i)*p[i]. In words of eight bytes, with j the word
// and k the byte in it, n-i is 8*(words-j)-k: so the sums up to each word are summed, and k times each byte is taken off.
func Adler32(p []byte) uint32 {
	const (
		modulus = 65521
		words   = 15 // as many as fit lanes of 16 bits: 2*255 * (1+2+...+15) = 61200
		block   = 8 * words
		most    = 1 << 20 / block * block // bytes between two divisions: b stays below 2^50
	)
	a, b := uint64(1), uint64(0)
	for len(p) > 0 {
		q := p[:min(len(p), most)]
		p = p[len(q):]
		for len(q) >= block {
			var pairs, before, odd uint64
			for range words / 5 {
				w := (*[40]byte)(q)
				pairs, before, odd = adlerWord(binary.LittleEndian.Uint64(w[0:]), pairs, before, odd)
				pairs, before, odd = adlerWord(binary.LittleEndian.Uint64(w[8:]), pairs, before, odd)
				pairs, before, odd = adlerWord(binary.LittleEndian.Uint64(w[16:]), pairs, before, odd)
				pairs, before, odd = adlerWord(binary.LittleEndian.Uint64(w[24:]), pairs, before, odd)
				pairs, before, odd = adlerWord(binary.LittleEndian.Uint64(w[32:]), pairs, before, odd)
				q = q[40:]
			}
			// Lane l of pairs is the sum of bytes 2l and 2l+1 of all words, of odd that of bytes 2l+1.
			inWord := 2*(pairs>>16&0xffff+2*(pairs>>32&0xffff)+3*(pairs>>48)) + sumLanes(odd)
			b += block*a + 8*sumWide(before) - inWord
			a += sumLanes(pairs)
		}
		for _, x := range q {
			a += uint64(x)
			b += a
		}
		a %= modulus
		b %= modulus
	}
	return uint32(b<<16 | a)
}

// adlerWord adds eight bytes to lanes of 16 bits: to the sums of pairs, to the sum of all those sums so far, and to the sums of odd bytes.
func adlerWord(x, pairs, before, odd uint64) (uint64, uint64, uint64) {
	const lanes = 0x00ff00ff00ff00ff
	o := x >> 8 & lanes
	pairs += x&lanes + o
	return pairs, before + pairs, odd + o
}

// sumLanes adds four lanes whose sum has 16 bits, sumWide any four.
func sumLanes(x uint64) uint64 { return x * 0x0001000100010001 >> 48 }

func sumWide(x uint64) uint64 {
	const lanes = 0x0000ffff0000ffff
	x = x&lanes + x>>16&lanes
	return x>>32 + x&0xffffffff
}
