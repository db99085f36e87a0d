package wire

import (
	"encoding/binary"
	"strings"
)

// writer and reader walk a fixed area. Bodies are far smaller than their
// area; a golden test holds every message to that.
type writer struct {
	b   []byte
	at  int
	bad bool
}

func (w *writer) take(n int) []byte {
	if w.at+n > len(w.b) {
		w.bad = true
		return make([]byte, n)
	}
	w.at += n
	return w.b[w.at-n : w.at]
}

func (w *writer) u8(v uint8)   { w.take(1)[0] = v }
func (w *writer) u16(v uint16) { binary.LittleEndian.PutUint16(w.take(2), v) }
func (w *writer) u32(v uint32) { binary.LittleEndian.PutUint32(w.take(4), v) }
func (w *writer) u64(v uint64) { binary.LittleEndian.PutUint64(w.take(8), v) }
func (w *writer) bool(v bool) {
	if v {
		w.u8(1)
	} else {
		w.u8(0)
	}
}

// name writes a string that means something: too long or with a NUL is an
// error. The area is always 2+size bytes.
func (w *writer) name(s string, size int) {
	if len(s) > size || strings.IndexByte(s, 0) >= 0 {
		w.bad = true
		return
	}
	w.u16(uint16(len(s)))
	copy(w.take(size), s)
}

// text writes a string for people, cut where it is too long.
func (w *writer) text(s string) {
	if len(s) > MaxText {
		s = strings.ToValidUTF8(s[:MaxText], "")
	}
	s = strings.ReplaceAll(s, "\x00", " ")
	w.name(s, MaxText)
}

type reader struct {
	b   []byte
	at  int
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.at+n > len(r.b) {
		r.bad = true
		return make([]byte, n)
	}
	r.at += n
	return r.b[r.at-n : r.at]
}

func (r *reader) u8() uint8   { return r.take(1)[0] }
func (r *reader) u16() uint16 { return binary.LittleEndian.Uint16(r.take(2)) }
func (r *reader) u32() uint32 { return binary.LittleEndian.Uint32(r.take(4)) }
func (r *reader) u64() uint64 { return binary.LittleEndian.Uint64(r.take(8)) }
func (r *reader) bool() bool  { return r.u8() != 0 }

func (r *reader) name(size int) string {
	n := int(r.u16())
	area := r.take(size)
	if n > size {
		r.bad = true
		return ""
	}
	s := string(area[:n])
	if strings.IndexByte(s, 0) >= 0 {
		r.bad = true
	}
	return s
}

func (r *reader) text() string { return r.name(MaxText) }
