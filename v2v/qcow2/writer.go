package qcow2

import (
	"context"
	"encoding/binary"
	"fmt"

	"initd/v2v/image"
)

// writer lays an image out from front to back: header, L1, then data and tables as they come. Nothing is read back and nothing but L1
// is written twice, so that memory does not grow with the disk (but for L1, and a number per refcount block).
type writer struct {
	params
	dst  image.File
	name string
	size int64
	enc  *encoders

	l1     []uint64
	l1At   int64
	table  []byte // the L2 table that is being filled
	tableI int64  // its index in L1; -1 if there is none
	next   int64  // the first byte that nothing has been given yet, a multiple of the cluster size
	refs   refcounts
	stream packed

	out      []byte // bytes on their way to outAt
	outAt    int64
	finished bool
}

// packed is the run of clusters that compressed streams are packed into, one right after the other.
type packed struct {
	At  int64 // where the next stream goes
	End int64 // the end of the run; streams go on behind it if nothing else was put there
}

var _ image.Checkpointer = (*writer)(nil)

// outBytes is how much is gathered before it is written.
const outBytes = 1 << 20

func newWriter(dst image.Target, size int64, opt image.Options) (*writer, error) {
	p, err := parseParams(opt)
	if err != nil {
		return nil, err
	}
	if size, err = sizes(size, opt); err != nil {
		return nil, err
	}
	if !dst.Seekable() {
		return nil, fmt.Errorf("%s: qcow2 cannot be written to a pipe: its header is known last; write to a file", dst.Base())
	}
	f, err := dst.Main()
	if err != nil {
		return nil, err
	}
	enc, err := newEncoders(p)
	if err != nil {
		return nil, err
	}
	cs := p.clusterSize()
	span := cs / 8 * cs
	w := &writer{params: p, dst: f, name: dst.Base(), size: size, enc: enc, tableI: -1, l1At: cs}
	w.l1 = make([]uint64, max(1, (size+span-1)/span))
	w.table = make([]byte, cs)
	return w, nil
}

func create(_ context.Context, dst image.Target, size int64, opt image.Options) (image.Writer, error) {
	w, err := newWriter(dst, size, opt)
	if err != nil {
		return nil, err
	}
	cs := w.clusterSize()
	w.refs.blockEntries = cs / 2
	w.allocate(cs + image.RoundUp(int64(len(w.l1))*8, cs))
	// Whatever was here before has no magic from now on.
	if _, err := w.dst.WriteAt(make([]byte, cs), 0); err != nil {
		return nil, err
	}
	return w, nil
}

func (w *writer) Unit() int64 { return w.clusterSize() }

func (w *writer) Encode(dst []byte, offset int64, data []byte) (image.Encoded, error) {
	e := image.Encoded{Offset: offset, Length: int64(len(data)), Bytes: data, Plain: true}
	if w.compress == "" {
		return e, nil
	}
	whole := data
	if int64(len(data)) < w.clusterSize() {
		// Readers decode whole clusters, the last one of the disk too.
		whole = make([]byte, w.clusterSize())
		copy(whole, data)
	}
	// What is not shorter than a cluster by a byte at least cannot be told from a plain one, and does not pay.
	packed, ok, err := w.enc.encode(dst, whole, int(w.clusterSize())-1)
	if err != nil {
		return e, fmt.Errorf("compress the cluster at %d: %w", offset, err)
	}
	if ok {
		e.Bytes, e.Plain = packed[len(dst):], false
	}
	return e, nil
}

func (w *writer) Put(units []image.Encoded) error {
	for i := 0; i < len(units); i++ {
		u := units[i]
		if err := w.openTable(u.Offset); err != nil {
			return err
		}
		if !u.Plain {
			if err := w.putPacked(u); err != nil {
				return err
			}
			continue
		}
		// Neighbours in the disk and in memory are written at once.
		run, bytes := 1, u.Bytes
		for i+run < len(units) && w.extends(units[i+run-1], units[i+run]) {
			bytes = bytes[:len(bytes)+len(units[i+run].Bytes)]
			run++
		}
		if err := w.putPlain(units[i:i+run], bytes); err != nil {
			return err
		}
		i += run - 1
	}
	return nil
}

// extends says whether b is the plain neighbour of a, in the disk, in its L2 table and in memory.
func (w *writer) extends(a, b image.Encoded) bool {
	n := len(a.Bytes)
	return b.Plain && a.Offset+w.clusterSize() == b.Offset && b.Offset%(w.clusterSize()/8*w.clusterSize()) != 0 &&
		len(b.Bytes) > 0 && cap(a.Bytes) >= n+len(b.Bytes) && &a.Bytes[:n+1][n] == &b.Bytes[0]
}

func (w *writer) putPlain(units []image.Encoded, bytes []byte) error {
	cs := w.clusterSize()
	at := w.allocate(int64(len(units)) * cs)
	for i, u := range units {
		w.setEntry(u.Offset, uint64(at+int64(i)*cs)|copied)
	}
	if len(bytes) >= outBytes/2 {
		if err := w.flush(); err != nil {
			return err
		}
		if _, err := w.dst.WriteAt(bytes, at); err != nil {
			return err
		}
	} else if err := w.write(bytes, at); err != nil {
		return err
	}
	// The disk may end inside its last cluster; the file holds all of it.
	if rest := int64(len(units))*cs - int64(len(bytes)); rest > 0 {
		return w.write(make([]byte, rest), at+int64(len(bytes)))
	}
	return nil
}

func (w *writer) putPacked(u image.Encoded) error {
	cs, n := w.clusterSize(), int64(len(u.Bytes))
	s := &w.stream
	if s.At+n > s.End || w.refs.full(s.At/cs) {
		more := image.RoundUp(max(s.At+n-s.End, 1), cs)
		if s.End != w.next || s.At == s.End || w.refs.full(s.At/cs) {
			// Something else lies behind the run: it is left, and a new one begins.
			s.At = w.next
			more = image.RoundUp(n, cs)
		}
		w.reserve(more)
		s.End = w.next
	}
	at := s.At
	s.At += n
	for c := at / cs; c <= (s.At-1)/cs; c++ {
		w.refs.add(c)
	}
	shift := 62 - (w.clusterBits - 8)
	sectors := uint64((at+n-1)/512 - at/512)
	w.setEntry(u.Offset, compressed|sectors<<shift|uint64(at))
	return w.write(u.Bytes, at)
}

// allocate gives clusters to one thing alone, reserve to what counts by itself.
func (w *writer) allocate(length int64) int64 {
	at := w.next
	w.reserve(length)
	for c := at / w.clusterSize(); c < w.next/w.clusterSize(); c++ {
		w.refs.add(c)
	}
	return at
}

func (w *writer) reserve(length int64) {
	w.next += length
	w.refs.grow(w.next / w.clusterSize())
}

func (w *writer) setEntry(guest int64, e uint64) {
	i := guest >> w.clusterBits % (w.clusterSize() / 8)
	binary.BigEndian.PutUint64(w.table[i*8:], e)
}

// openTable makes the table of a guest offset the current one.
func (w *writer) openTable(guest int64) error {
	i := guest / (w.clusterSize() / 8 * w.clusterSize())
	if i == w.tableI {
		return nil
	}
	if i < w.tableI {
		return fmt.Errorf("%s: qcow2: put at %d after what lies behind it", w.name, guest)
	}
	if err := w.closeTable(); err != nil {
		return err
	}
	w.tableI = i
	return w.storeRefcounts()
}

// closeTable writes the current table, whose place comes after its data.
func (w *writer) closeTable() error {
	if w.tableI < 0 {
		return nil
	}
	at := w.allocate(w.clusterSize())
	w.l1[w.tableI] = uint64(at) | copied
	w.tableI = -1
	if err := w.write(w.table, at); err != nil {
		return err
	}
	clear(w.table)
	return nil
}

// write gathers what goes to one place after the other.
func (w *writer) write(p []byte, at int64) error {
	if len(w.out) > 0 && (at != w.outAt+int64(len(w.out)) || len(w.out)+len(p) > outBytes) {
		if err := w.flush(); err != nil {
			return err
		}
	}
	if len(w.out) == 0 {
		w.outAt = at
	}
	w.out = append(w.out, p...)
	return nil
}

func (w *writer) flush() error {
	if len(w.out) == 0 {
		return nil
	}
	_, err := w.dst.WriteAt(w.out, w.outAt)
	w.out = w.out[:0]
	return err
}

// Close frees nothing that the collector does not.
func (w *writer) Close() error { return nil }
