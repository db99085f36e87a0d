package vmdk

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"initd/v2v/image"
)

// state is what a checkpoint keeps: the tables are in the file.
type state struct {
	ID identity
	// Part is the extent that was being written, Next the first free byte of its file, Done the first byte of the disk that was not put.
	Part       int
	Next, Done int64
}

func (s *state) encode() []byte {
	b, _ := json.Marshal(s) // numbers and a string
	return b
}

func decodeState(b []byte) (*state, error) {
	s := &state{}
	if err := json.Unmarshal(b, s); err != nil {
		return nil, err
	}
	if s.Part < 0 || s.Part > maxExtents || s.Next < 0 || s.Done < 0 || s.ID.CID == 0 {
		return nil, errors.New("it contradicts itself")
	}
	return s, nil
}

// layout says where in an extent file what lies, in sectors.
type layout struct {
	h header
}

// newLayout places the tables before the data. redundant is for plain disks: their tables come twice.
func newLayout(sectors int64, embedded, compressed bool) layout {
	h := header{version: 1, flags: flagNewline | flagRGD, capacity: uint64(sectors), grain: writeGrain, gtes: writeGTEs, grainBytes: writeUnit, coverageBytes: coverage}
	at := uint64(1)
	if embedded {
		h.descOffset, h.descSize = 1, 20
		at += h.descSize
	}
	gdSectors := uint64(sectorsOf(int64(h.tables()) * 4))
	each := gdSectors + uint64(h.tables())*uint64(h.gtSectors())
	if compressed {
		h.version, h.flags, h.compress = 3, flagNewline|flagCompressed|flagMarkers, compressDeflate
		h.gd = at
		h.overhead = at + each
		return layout{h}
	}
	h.rgd, h.gd = at, at+each
	h.overhead = uint64(image.RoundUp(int64(at+2*each), writeGrain))
	return layout{h}
}

// directories are the places of the grain directories.
func (l layout) directories() []uint64 {
	if l.h.has(flagRGD) {
		return []uint64{l.h.rgd, l.h.gd}
	}
	return []uint64{l.h.gd}
}

// table is the sector of a grain table of a directory.
func (l layout) table(directory uint64, i int) uint64 {
	return directory + uint64(sectorsOf(int64(l.h.tables())*4)) + uint64(i)*uint64(l.h.gtSectors())
}

// extentFile writes one file with grains. Tables are written as the data pass them, so only one is in memory.
type extentFile struct {
	f     image.File
	name  string
	l     layout
	text  []byte // the descriptor inside, if there is one
	next  int64  // the first free byte
	index int    // of the table below; -1 before the first
	gt    []byte
}

// newExtentFile begins a file, or goes on with it.
func newExtentFile(f image.File, name string, l layout, text []byte, readsZero bool, from *state) (*extentFile, error) {
	e := &extentFile{f: f, name: name, l: l, text: text, next: int64(l.h.overhead) * sector, index: -1, gt: make([]byte, l.h.gtSectors()*sector)}
	if from == nil {
		if !readsZero {
			if err := f.Zero(0, e.next); err != nil {
				return nil, fmt.Errorf("%s: vmdk: clear the room of the tables: %w", name, err)
			}
		}
		return e, nil
	}
	if from.Next < e.next {
		return nil, fmt.Errorf("%s: vmdk: the record of the unfinished image says that its data end at %d, and they begin at %d", name, from.Next, e.next)
	}
	e.next = from.Next
	return e, e.recover(from.Done)
}

// recover makes the tables what they were when done bytes of this extent had been put: grains that came later are forgotten.
func (e *extentFile) recover(done int64) error {
	if done == 0 || e.l.h.tables() == 0 {
		return e.forget(0)
	}
	e.index = int((done - 1) / coverage)
	if err := image.ReadFull(e.f, e.gt, int64(e.l.table(e.l.h.gd, e.index))*sector); err != nil {
		return fmt.Errorf("%s: vmdk: read the tables of the unfinished image: %w", e.name, err)
	}
	first := (done - int64(e.index)*coverage + writeUnit - 1) / writeUnit
	clear(e.gt[first*4:])
	return e.forget(e.index + 1)
}

// forget clears the tables from an index on.
func (e *extentFile) forget(i int) error {
	n := e.l.h.tables() - i
	if n <= 0 {
		return nil
	}
	for _, d := range e.l.directories() {
		if err := e.f.Zero(int64(e.l.table(d, i))*sector, int64(n)*int64(e.l.h.gtSectors())*sector); err != nil {
			return fmt.Errorf("%s: vmdk: clear grain tables: %w", e.name, err)
		}
	}
	return nil
}

// put stores a grain of this extent; off is its place in it, in bytes.
func (e *extentFile) put(off int64, stored []byte, subformat string) error {
	if err := e.enter(int(off / coverage)); err != nil {
		return err
	}
	if e.next/sector+writeGrain > maxFile {
		return fileFull(e.name, subformat)
	}
	if _, err := e.f.WriteAt(stored, e.next); err != nil {
		return err
	}
	e.note(off)
	e.next += int64(len(stored))
	return nil
}

// note enters the next free byte as the place of a grain.
func (e *extentFile) note(off int64) {
	binary.LittleEndian.PutUint32(e.gt[off/writeUnit%writeGTEs*4:], uint32(e.next/sector))
}

// enter makes a table the present one.
func (e *extentFile) enter(i int) error {
	if i == e.index {
		return nil
	}
	if err := e.flush(); err != nil {
		return err
	}
	clear(e.gt)
	e.index = i
	return nil
}

// flush writes the present table.
func (e *extentFile) flush() error {
	if e.index < 0 {
		return nil
	}
	for _, d := range e.l.directories() {
		if _, err := e.f.WriteAt(e.gt, int64(e.l.table(d, e.index))*sector); err != nil {
			return err
		}
	}
	return nil
}

// keep makes all that was put durable, and a checkpoint of it.
func (e *extentFile) keep(s state) ([]byte, error) {
	if err := e.flush(); err != nil {
		return nil, err
	}
	if err := e.f.Sync(); err != nil {
		return nil, err
	}
	s.Next = e.next
	return s.encode(), nil
}

// finish writes what is missing, the header last.
func (e *extentFile) finish() error {
	if err := e.flush(); err != nil {
		return err
	}
	if e.l.h.compressed() {
		// The end of the stream is a sector of zeros.
		if _, err := e.f.WriteAt(make([]byte, sector), e.next); err != nil {
			return err
		}
		e.next += sector
	}
	for _, d := range e.l.directories() {
		gd := make([]byte, sectorsOf(int64(e.l.h.tables())*4)*sector)
		for i := range e.l.h.tables() {
			binary.LittleEndian.PutUint32(gd[4*i:], uint32(e.l.table(d, i)))
		}
		if _, err := e.f.WriteAt(gd, int64(d)*sector); err != nil {
			return err
		}
	}
	if err := e.f.Truncate(e.next); err != nil {
		return err
	}
	if err := e.f.Sync(); err != nil {
		return err
	}
	if e.text != nil {
		text := make([]byte, e.l.h.descSize*sector)
		copy(text, e.text)
		if _, err := e.f.WriteAt(text, int64(e.l.h.descOffset)*sector); err != nil {
			return err
		}
	}
	if _, err := e.f.WriteAt(e.l.h.encode(), 0); err != nil {
		return err
	}
	return e.f.Sync()
}

// sparseWriter writes monolithicSparse, and streamOptimized with its tables in front.
type sparseWriter struct {
	deflater
	e          *extentFile
	desc       description
	compressed bool
	done       int64
}

var _ image.Checkpointer = (*sparseWriter)(nil)

func newSparseWriter(dst image.Target, d description, size int64, set settings, from *state) (*sparseWriter, error) {
	f, err := dst.Main()
	if err != nil {
		return nil, err
	}
	w := &sparseWriter{deflater: deflater{level: set.level}, desc: d, compressed: set.subformat == streamOptimized}
	if from != nil {
		w.done = from.Done
	}
	text := d.text([]extentLine{{access: "RW", kind: "SPARSE", file: dst.Base(), sectors: size / sector}})
	w.e, err = newExtentFile(f, dst.Base(), newLayout(size/sector, true, w.compressed), text, dst.ReadsZero(), from)
	return w, err
}

func (w *sparseWriter) Unit() int64 { return writeUnit }

func (w *sparseWriter) Encode(dst []byte, offset int64, data []byte) (image.Encoded, error) {
	if w.compressed {
		return w.encode(dst, offset, data)
	}
	return plainGrain(offset, data), nil
}

// plainGrain fills up a disk's last grain.
func plainGrain(offset int64, data []byte) image.Encoded {
	e := image.Encoded{Offset: offset, Length: int64(len(data)), Bytes: data, Plain: true}
	if len(data) < writeUnit {
		e.Bytes = make([]byte, writeUnit)
		copy(e.Bytes, data)
		e.Plain = false
	}
	return e
}

func (w *sparseWriter) Put(units []image.Encoded) error {
	for _, u := range units {
		if err := w.e.put(u.Offset, u.Bytes, w.desc.set.subformat); err != nil {
			return err
		}
		w.done = u.Offset + u.Length
	}
	return nil
}

func (w *sparseWriter) Checkpoint() ([]byte, error) {
	return w.e.keep(state{ID: w.desc.id, Done: w.done})
}

func (w *sparseWriter) Finish() error { return w.e.finish() }
func (w *sparseWriter) Close() error  { return nil }
