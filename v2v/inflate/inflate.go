// Package inflate decodes a deflate stream (RFC 1951) that is whole in memory into a buffer whose size is known, as a compressed cluster or
// grain is. That is all it does, and why it is faster than a reader: there is no window to copy out of, and no state to keep.
//
// It never writes past the buffer, and reads nothing past the input.
package inflate

import (
	"errors"
	"math/bits"
	"sync"
)

// ErrCorrupt is a stream that breaks RFC 1951, or ends too early.
var ErrCorrupt = errors.New("the deflate stream is damaged")

const (
	maxBits = 15
	// litRoot and distRoot are how many bits the first lookup takes.
	litRoot  = 11
	distRoot = 8
	// Behind the entries of the first lookup there is room for a subtable for each symbol, which is more than any code needs.
	litSize  = 1<<litRoot + 288<<(maxBits-litRoot)
	distSize = 1<<distRoot + 32<<(maxBits-distRoot)
)

// An entry of a table. Bits 0-4 are how many bits it takes in all, bits 24-27 how many of them are the code's as far as this lookup goes; the rest, between
// these, are the extra bits. Bits 8-23 are a literal, or the base of a length or distance. entryOdd is on all that is none of these: with entrySub a subtable at
// bits 8-23 whose index has the bits of bits 24-27; with entryEnd the end of the block; else no code.
const (
	entryLiteral = 1 << 31
	entryOdd     = 1 << 30
	entryEnd     = 1 << 29
	entrySub     = 1 << 28
)

type tables struct {
	lit   [litSize]uint32
	dist  [distSize]uint32
	lens  [320]uint8
	clens [128]uint32
}

var pool = sync.Pool{New: func() any { return new(tables) }}

// Decode fills dst from the stream in src. It gives how many bytes were written and how many of src the stream took. A stream that
// holds more than dst is decoded as far as dst goes, and full is not an error: done says whether its end was reached.
func Decode(dst, src []byte) (n, used int, done bool, err error) {
	t := pool.Get().(*tables)
	defer pool.Put(t)
	d := decoder{t: t, dst: dst, src: src}
	for {
		final, err := d.block()
		if err == errFull {
			return d.n, d.used(), false, nil
		}
		if err != nil {
			return d.n, d.used(), false, err
		}
		if final {
			return d.n, d.used(), true, nil
		}
	}
}

var errFull = errors.New("full")

type decoder struct {
	t        *tables
	dst, src []byte
	n        int // written
	pos      int // read
	hold     uint64
	have     uint // bits in hold
}

func (d *decoder) used() int { return d.pos - int(d.have/8) }

// need makes sure of k bits, k <= 32.
func (d *decoder) need(k uint) bool {
	for d.have < k {
		if d.pos >= len(d.src) {
			return false
		}
		d.hold |= uint64(d.src[d.pos]) << d.have
		d.pos++
		d.have += 8
	}
	return true
}

func (d *decoder) take(k uint) uint32 {
	v := uint32(d.hold & (1<<k - 1))
	d.hold >>= k
	d.have -= k
	return v
}

func (d *decoder) block() (final bool, err error) {
	if !d.need(3) {
		return false, ErrCorrupt
	}
	final = d.take(1) == 1
	switch d.take(2) {
	case 0:
		err = d.stored()
	case 1:
		d.fixed()
		err = d.huffman()
	case 2:
		if err = d.dynamic(); err == nil {
			err = d.huffman()
		}
	default:
		err = ErrCorrupt
	}
	return final, err
}

func (d *decoder) stored() error {
	d.take(d.have % 8)
	if !d.need(32) {
		return ErrCorrupt
	}
	length, check := d.take(16), d.take(16)
	if length^check != 0xffff {
		return ErrCorrupt
	}
	// What was read ahead is given back.
	d.pos -= int(d.have / 8)
	d.hold, d.have = 0, 0
	n := copy(d.dst[d.n:], d.src[d.pos:min(len(d.src), d.pos+int(length))])
	d.n += n
	d.pos += n
	switch {
	case n == int(length):
		return nil
	case d.n == len(d.dst):
		return errFull
	}
	return ErrCorrupt
}

func (d *decoder) fixed() {
	l := d.t.lens[:288]
	for i := range l {
		switch {
		case i < 144:
			l[i] = 8
		case i < 256:
			l[i] = 9
		case i < 280:
			l[i] = 7
		default:
			l[i] = 8
		}
	}
	build(d.t.lit[:], l, litRoot, litSymbol)
	l = d.t.lens[:32]
	for i := range l {
		l[i] = 5
	}
	build(d.t.dist[:], l, distRoot, distSymbol)
}

var order = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

func (d *decoder) dynamic() error {
	if !d.need(14) {
		return ErrCorrupt
	}
	nlit, ndist, nlen := int(d.take(5))+257, int(d.take(5))+1, int(d.take(4))+4
	if nlit > 286 || ndist > 30 {
		return ErrCorrupt
	}
	var code [19]uint8
	for i := range nlen {
		if !d.need(3) {
			return ErrCorrupt
		}
		code[order[i]] = uint8(d.take(3))
	}
	if !build(d.t.clens[:], code[:], 7, plainSymbol) {
		return ErrCorrupt
	}
	lens := &d.t.lens
	for i := 0; i < nlit+ndist; {
		// Near the end of the input there may be fewer bits than the longest code and its extra bits.
		d.need(14)
		e := d.t.clens[d.hold&127]
		if k := uint(e & 31); e&entryOdd != 0 || k > d.have {
			return ErrCorrupt
		} else {
			d.take(k)
		}
		sym := uint8(e >> 8)
		if sym < 16 {
			lens[i] = sym
			i++
			continue
		}
		var value uint8
		var extra, base uint
		switch sym {
		case 16:
			if i == 0 {
				return ErrCorrupt
			}
			value, extra, base = lens[i-1], 2, 3
		case 17:
			extra, base = 3, 3
		default:
			extra, base = 7, 11
		}
		if d.have < extra {
			return ErrCorrupt
		}
		times := int(base) + int(d.take(extra))
		if i+times > nlit+ndist {
			return ErrCorrupt
		}
		for range times {
			lens[i] = value
			i++
		}
	}
	if lens[256] == 0 {
		return ErrCorrupt
	}
	if !build(d.t.lit[:], lens[:nlit], litRoot, litSymbol) || !build(d.t.dist[:], lens[nlit:nlit+ndist], distRoot, distSymbol) {
		return ErrCorrupt
	}
	return nil
}

// huffman decodes the symbols of a block. As long as there is room for the longest match and for a whole word of input the fast loop runs, which checks
// neither; the slow one does the rest.
func (d *decoder) huffman() error {
	d.fast()
	lit, dist := &d.t.lit, &d.t.dist
	for {
		e, ok := d.symbol(lit[:], litRoot)
		if !ok {
			return d.shortOr()
		}
		if e&entryLiteral != 0 {
			if d.n >= len(d.dst) {
				return errFull
			}
			d.dst[d.n] = byte(e >> 8)
			d.n++
			continue
		}
		if e&entryEnd != 0 {
			return nil
		}
		length, ok := d.extra(e)
		if !ok {
			return ErrCorrupt
		}
		if e, ok = d.symbol(dist[:], distRoot); !ok {
			return ErrCorrupt
		}
		far, ok := d.extra(e)
		if !ok || far > d.n {
			return ErrCorrupt
		}
		for range length {
			if d.n >= len(d.dst) {
				return errFull
			}
			d.dst[d.n] = d.dst[d.n-far]
			d.n++
		}
	}
}

// shortOr tells a buffer that is full from a stream that ends too early: a caller that knows the size may give less than the whole stream.
func (d *decoder) shortOr() error {
	if d.n >= len(d.dst) {
		return errFull
	}
	return ErrCorrupt
}

// symbol takes a code, but not its extra bits.
func (d *decoder) symbol(table []uint32, root uint) (uint32, bool) {
	d.need(maxBits) // as far as there is input
	e := table[d.hold&(1<<root-1)]
	if e&entrySub != 0 {
		if root > d.have {
			return 0, false
		}
		e = table[uint64(e>>8&0xffff)+d.hold>>root&(1<<(e>>24&15)-1)]
		if k := uint(e >> 24 & 15); e&(entryOdd|entryEnd) != entryOdd && k <= d.have-root {
			d.take(root)
			d.take(k)
			return e, true
		}
		return 0, false
	}
	k := uint(e >> 24 & 15)
	if e&(entryOdd|entryEnd) == entryOdd || k > d.have {
		return 0, false
	}
	d.take(k)
	return e, true
}

func (d *decoder) extra(e uint32) (int, bool) {
	k := uint(e&31) - uint(e>>24&15)
	if !d.need(k) {
		return 0, false
	}
	return int(e>>8&0xffff) + int(d.take(k)), true
}

var (
	lengthBase  = [29]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthExtra = [29]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distBase    = [30]uint16{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
)

// litSymbol, distSymbol and plainSymbol are entries but for the code's length: that is added to what they have as the number of extra bits.
func litSymbol(sym int) uint32 {
	switch {
	case sym < 256:
		return entryLiteral | uint32(sym)<<8
	case sym == 256:
		return entryOdd | entryEnd
	case sym > 285:
		return entryOdd
	}
	return uint32(lengthBase[sym-257])<<8 | uint32(lengthExtra[sym-257])
}

func distSymbol(sym int) uint32 {
	if sym > 29 {
		return entryOdd
	}
	extra := uint32(0)
	if sym >= 4 {
		extra = uint32(sym)/2 - 1
	}
	return uint32(distBase[sym])<<8 | extra
}

func plainSymbol(sym int) uint32 { return uint32(sym) << 8 }

// build makes a table for lengths of a canonical code. Codes that are over-subscribed are refused, incomplete ones unless they have one code at most, as zlib does.
func build(table []uint32, lens []uint8, root uint, symbol func(int) uint32) bool {
	var count [maxBits + 1]int
	for _, l := range lens {
		count[l]++
	}
	count[0] = 0
	left, used := 1, 0
	for l := 1; l <= maxBits; l++ {
		left = left<<1 - count[l]
		if left < 0 {
			return false
		}
		used += count[l]
	}
	if left > 0 && (used > 1 || (used == 1 && count[1] != 1)) {
		return false
	}
	clear(table[:1<<root])
	var next [maxBits + 2]uint32
	for l := 1; l <= maxBits; l++ {
		next[l+1] = (next[l] + uint32(count[l])) << 1
	}
	// Codes of one length are ascending; those longer than root share subtables by their first root bits.
	free := uint32(1) << root
	for sym, l8 := range lens {
		l := uint(l8)
		if l == 0 {
			continue
		}
		code := next[l]
		next[l]++
		rev := bits.Reverse32(code) >> (32 - l)
		value := symbol(sym)
		if l <= root {
			value += uint32(l) | uint32(l)<<24
			for i := rev; i < 1<<root; i += 1 << l {
				table[i] = value
			}
			continue
		}
		prefix := rev & (1<<root - 1)
		sub := table[prefix]
		if sub == 0 {
			size := longest(&count, root)
			sub = entryOdd | entrySub | uint32(size)<<24 | free<<8 | uint32(root)
			table[prefix] = sub
			free += 1 << size
		}
		value += uint32(l-root) | uint32(l-root)<<24
		size := uint(sub >> 24 & 15)
		at := sub >> 8 & 0xffff
		for i := rev >> root; i < 1<<size; i += 1 << (l - root) {
			table[at+i] = value
		}
	}
	if left > 0 {
		// No code at all, or one of a bit: the other half of the table says so.
		for i := range table[:1<<root] {
			if table[i] == 0 {
				table[i] = entryOdd
			}
		}
	}
	return true
}

// longest is how many bits the longest code has behind the first lookup. Subtables are all of that size, which wastes little.
func longest(count *[maxBits + 1]int, root uint) uint {
	for l := uint(maxBits); l > root; l-- {
		if count[l] > 0 {
			return l - root
		}
	}
	return 0
}
