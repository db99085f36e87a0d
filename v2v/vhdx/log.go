package vhdx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"initd/v2v/image"
)

// Structures of the log ([MS-VHDX] 2.3).
const (
	logUnit   = 4 * kib
	logeMagic = "loge"
	descMagic = "desc"
	zeroMagic = "zero"
	dataMagic = "data"
	logeSize  = 64
	descSize  = 32
	// maxZeros bounds the zero descriptors of a log that are kept: each is a range.
	maxZeros = 1 << 16
)

// entry is a log entry that was found whole.
type entry struct {
	at       int64 // in the log
	length   int64
	tail     uint32
	sequence uint64
	count    uint32
	flushed  uint64
	last     uint64
}

// journal is a log in memory, as a ring.
type journal struct {
	b  []byte
	id guid
}

// piece gives n bytes at an offset of the ring; a copy where they wrap.
func (j *journal) piece(at, n int64) []byte {
	size := int64(len(j.b))
	at %= size
	if at+n <= size {
		return j.b[at : at+n]
	}
	out := make([]byte, 0, n)
	out = append(out, j.b[at:]...)
	return append(out, j.b[:at+n-size]...)
}

// entryAt looks for a valid entry ([MS-VHDX] 2.3.1).
func (j *journal) entryAt(at int64) (entry, bool) {
	le := binary.LittleEndian
	size := int64(len(j.b))
	h := j.piece(at, logeSize)
	e := entry{at: at, length: int64(le.Uint32(h[8:])), tail: le.Uint32(h[12:]), sequence: le.Uint64(h[16:]), count: le.Uint32(h[24:]), flushed: le.Uint64(h[48:]), last: le.Uint64(h[56:])}
	if string(h[:4]) != logeMagic || guid(h[32:48]) != j.id || e.sequence == 0 || e.length == 0 || e.length%logUnit != 0 || e.length > size ||
		e.tail%logUnit != 0 || int64(e.tail) >= size || int64(e.count) > (e.length-logeSize)/descSize {
		return entry{}, false
	}
	whole := j.piece(at, e.length)
	if le.Uint32(whole[4:]) != checksum(whole, 4) {
		return entry{}, false
	}
	// The descriptors fill whole sectors, then a sector of data follows for each data descriptor.
	data := (logeSize + int64(e.count)*descSize + logUnit - 1) / logUnit * logUnit
	for i := range int64(e.count) {
		d := whole[logeSize+i*descSize:][:descSize]
		if le.Uint64(d[24:]) != e.sequence {
			return entry{}, false
		}
		switch string(d[:4]) {
		case zeroMagic:
		case descMagic:
			if data+logUnit > e.length {
				return entry{}, false
			}
			s := whole[data : data+logUnit]
			if string(s[:4]) != dataMagic || le.Uint32(s[4:]) != uint32(e.sequence>>32) || le.Uint32(s[logUnit-4:]) != uint32(e.sequence) {
				return entry{}, false
			}
			data += logUnit
		default:
			return entry{}, false
		}
	}
	return e, true
}

// active finds the sequence of entries that has to be replayed: of the valid ones that with the highest number ([MS-VHDX] 2.3.2).
func (j *journal) active() []entry {
	size := int64(len(j.b))
	var best []entry
	for tail := int64(0); tail < size; {
		var seq []entry
		used := int64(0)
		for head := tail; used < size; {
			e, ok := j.entryAt(head)
			if !ok || len(seq) > 0 && e.sequence != seq[len(seq)-1].sequence+1 || used+e.length > size {
				break
			}
			seq = append(seq, e)
			used += e.length
			head = (head + e.length) % size
		}
		if len(seq) == 0 {
			tail += logUnit
			continue
		}
		last := seq[len(seq)-1]
		// The last entry says where the sequence begins; what precedes that is history.
		from := slices.IndexFunc(seq, func(e entry) bool { return e.at == int64(last.tail) })
		if from >= 0 && (best == nil || last.sequence > best[len(best)-1].sequence) {
			best = seq[from:]
		}
		tail += used
	}
	return best
}

// overlay is a file with the changes of its log.
type overlay struct {
	src   image.Source
	size  int64
	pages map[int64]page // by offset
	zeros []zeroRange    // ascending, without overlap
}

// page replaces 4 KiB of the file; order is that of the changes.
type page struct {
	b     []byte
	order int
}

type zeroRange struct {
	from, to int64
	order    int // of the last change of the range to zeros
}

// replay makes the overlay of a log that has to be replayed.
func replay(src image.Source, h header) (*overlay, error) {
	img := src.Name()
	switch {
	case h.logVersion != 0:
		return nil, fault(image.Unsupported, img, "vhdx-log-version", fmt.Sprintf("a log of version %d; only 0 is known", h.logVersion), "attach it on Hyper-V once, which replays the log")
	case h.logLength == 0 || h.logLength%mib != 0 || h.logOffset%mib != 0 || h.logOffset < sectionEnd:
		return nil, corrupt(img, "vhdx-log", "a log of %d bytes at %d", h.logLength, h.logOffset)
	case h.logLength > maxLog:
		return nil, fault(image.TooLarge, img, "vhdx-log", fmt.Sprintf("a log of %d bytes; at most %d are replayed", h.logLength, maxLog), "attach it on Hyper-V once, which replays the log")
	case h.logOffset > uint64(src.Size()) || int64(h.logOffset)+int64(h.logLength) > src.Size():
		return nil, corrupt(img, "vhdx-log", "the log at %d, of %d bytes, does not fit the file of %d bytes", h.logOffset, h.logLength, src.Size())
	}
	j := &journal{b: make([]byte, h.logLength), id: h.log}
	if err := image.ReadFull(src, j.b, int64(h.logOffset)); err != nil {
		return nil, fmt.Errorf("%s: vhdx: read the log: %w", img, err)
	}
	entries := j.active()
	if entries == nil {
		return nil, corrupt(img, "vhdx-log", "the header says that the log has to be replayed, and there is no valid sequence of entries in it")
	}
	o := &overlay{src: src, size: src.Size(), pages: map[int64]page{}}
	if last := entries[len(entries)-1]; last.flushed > uint64(src.Size()) {
		return nil, corrupt(img, "vhdx-truncated", "the log says that the file had %d bytes, and it has %d: it was cut short", last.flushed, src.Size())
	} else if last.last > 1<<60 {
		return nil, corrupt(img, "vhdx-log", "the log says that the file has to have %d bytes", last.last)
	} else {
		o.size = max(o.size, int64(last.last))
	}
	var zeros []zeroRange
	order := 0
	for _, e := range entries {
		var err error
		if zeros, order, err = o.apply(img, j, e, zeros, order); err != nil {
			return nil, err
		}
	}
	o.zeros = flatten(zeros)
	return o, nil
}

// apply takes the changes of an entry.
func (o *overlay) apply(img string, j *journal, e entry, zeros []zeroRange, order int) ([]zeroRange, int, error) {
	le := binary.LittleEndian
	whole := j.piece(e.at, e.length)
	data := (logeSize + int64(e.count)*descSize + logUnit - 1) / logUnit * logUnit
	for i := range int64(e.count) {
		d := whole[logeSize+i*descSize:][:descSize]
		order++
		at := le.Uint64(d[16:])
		if at%logUnit != 0 || at > 1<<60 {
			return nil, 0, corrupt(img, "vhdx-log", "the log changes the file at %d", at)
		}
		if string(d[:4]) == zeroMagic {
			n := le.Uint64(d[8:])
			if n%logUnit != 0 || n > 1<<60 {
				return nil, 0, corrupt(img, "vhdx-log", "the log zeroes %d bytes", n)
			}
			if len(zeros) >= maxZeros {
				return nil, 0, fault(image.TooLarge, img, "vhdx-log", fmt.Sprintf("the log zeroes more than %d ranges", maxZeros), "attach it on Hyper-V once, which replays the log")
			}
			zeros = append(zeros, zeroRange{int64(at), int64(at + n), order})
			continue
		}
		// The sector's own marks took the place of its first 8 and last 4 bytes, which are in the descriptor.
		p := make([]byte, logUnit)
		copy(p, d[8:16])
		copy(p[8:], whole[data+8:data+logUnit-4])
		copy(p[logUnit-4:], d[4:8])
		o.pages[int64(at)] = page{p, order}
		data += logUnit
	}
	return zeros, order, nil
}

// flatten makes ranges without overlap out of some that have, each with the highest order that covers it.
func flatten(in []zeroRange) []zeroRange {
	var bounds []int64
	for _, z := range in {
		bounds = append(bounds, z.from, z.to)
	}
	slices.Sort(bounds)
	bounds = slices.Compact(bounds)
	order := make([]int, len(bounds))
	// From the latest to the earliest: what is covered stays. next skips covered pieces, so that each is visited once.
	next := make([]int, len(bounds)+1)
	for i := range next {
		next[i] = i
	}
	find := func(i int) int {
		for next[i] != i {
			next[i] = next[next[i]]
			i = next[i]
		}
		return i
	}
	for _, z := range slices.Backward(in) {
		from, _ := slices.BinarySearch(bounds, z.from)
		to, _ := slices.BinarySearch(bounds, z.to)
		for i := find(from); i < to; i = find(i) {
			order[i] = z.order
			next[i] = i + 1
		}
	}
	var out []zeroRange
	for i := range max(0, len(bounds)-1) {
		if order[i] > 0 {
			out = append(out, zeroRange{bounds[i], bounds[i+1], order[i]})
		}
	}
	return out
}

// ReadAt shows the file as it is after the replay.
func (o *overlay) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	if off >= o.size {
		return 0, io.EOF
	}
	var eof error
	if int64(len(p)) > o.size-off {
		p, eof = p[:o.size-off], io.EOF
	}
	if n, err := o.src.ReadAt(p, off); n < len(p) {
		if err != nil && !errors.Is(err, io.EOF) {
			return n, err
		}
		if off+int64(n) < o.src.Size() {
			return n, fmt.Errorf("%w: the file became shorter while it was read", io.ErrUnexpectedEOF)
		}
		clear(p[n:]) // the file grows by the replay
	}
	end := off + int64(len(p))
	i, _ := slices.BinarySearchFunc(o.zeros, off, func(z zeroRange, off int64) int {
		if z.to <= off {
			return -1
		}
		return 1
	})
	for ; i < len(o.zeros) && o.zeros[i].from < end; i++ {
		clear(p[max(o.zeros[i].from, off)-off : min(o.zeros[i].to, end)-off])
	}
	for at := off / logUnit * logUnit; at < end && len(o.pages) > 0; at += logUnit {
		g, ok := o.pages[at]
		if !ok || o.zeroedAfter(at, g.order) {
			continue
		}
		from := max(at, off)
		copy(p[from-off:], g.b[from-at:])
	}
	return len(p), eof
}

// zeroedAfter says whether the page at an offset was zeroed after a change.
func (o *overlay) zeroedAfter(at int64, order int) bool {
	i, _ := slices.BinarySearchFunc(o.zeros, at, func(z zeroRange, at int64) int {
		if z.to <= at {
			return -1
		}
		return 1
	})
	return i < len(o.zeros) && o.zeros[i].from <= at && o.zeros[i].order > order
}
