package vmdk

import (
	"encoding/binary"
	"fmt"

	"initd/v2v/image"
)

// tailWriter writes streamOptimized in one go, as to a pipe: each grain table behind its grains, then the directory, the footer that says where
// it is, and the end of the stream.
type tailWriter struct {
	deflater
	f        image.File
	name     string
	h        header
	text     []byte
	seekable bool
	at       int64 // the next byte
	gd       []uint32
	index    int
	gt       []byte
	used     bool // gt has an entry
	buf      []byte
}

func newTailWriter(dst image.Target, d description, size int64, level int) (*tailWriter, error) {
	f, err := dst.Main()
	if err != nil {
		return nil, err
	}
	h := newLayout(size/sector, true, true).h
	h.gd, h.overhead = gdAtEnd, writeGrain
	text := make([]byte, h.descSize*sector)
	copy(text, d.text([]extentLine{{access: "RW", kind: "SPARSE", file: dst.Base(), sectors: size / sector}}))
	w := &tailWriter{deflater: deflater{level: level}, f: f, name: dst.Base(), h: h, text: text, seekable: dst.Seekable(),
		gd: make([]uint32, h.tables()), gt: make([]byte, h.gtSectors()*sector)}
	front := make([]byte, h.overhead*sector)
	if !w.seekable { // else they are written last
		copy(front, h.encode())
		copy(front[h.descOffset*sector:], text)
	}
	return w, w.append(front)
}

func (w *tailWriter) append(b []byte) error {
	n, err := w.f.WriteAt(b, w.at)
	w.at += int64(n)
	return err
}

func (w *tailWriter) Unit() int64 { return writeUnit }

func (w *tailWriter) Encode(dst []byte, offset int64, data []byte) (image.Encoded, error) {
	return w.encode(dst, offset, data)
}

func (w *tailWriter) Put(units []image.Encoded) error {
	for _, u := range units {
		if i := int(u.Offset / coverage); i != w.index {
			if err := w.leave(); err != nil {
				return err
			}
			w.index = i
		}
		if w.at/sector+2*writeGrain > maxFile {
			return &image.Error{Fault: image.TooLarge, Code: "vmdk-file-size", Image: w.name, Format: name,
				What: "the compressed data do not fit one stream: its tables address 2 TiB", Do: "choose another format"}
		}
		binary.LittleEndian.PutUint32(w.gt[u.Offset/writeUnit%writeGTEs*4:], uint32(w.at/sector))
		w.used = true
		if err := w.append(u.Bytes); err != nil {
			return err
		}
	}
	return nil
}

// leave writes the present table. One without entries is not written: its place in the directory is 0.
func (w *tailWriter) leave() error {
	if !w.used {
		return nil
	}
	w.buf = append(w.buf[:0], marker{value: uint64(w.h.gtSectors()), kind: markerGT}.encode()...)
	w.gd[w.index] = uint32(w.at/sector + 1)
	if err := w.append(append(w.buf, w.gt...)); err != nil {
		return err
	}
	clear(w.gt)
	w.used = false
	return nil
}

func (w *tailWriter) Finish() error {
	if err := w.leave(); err != nil {
		return err
	}
	gd := make([]byte, sectorsOf(int64(len(w.gd))*4)*sector)
	for i, at := range w.gd {
		binary.LittleEndian.PutUint32(gd[4*i:], at)
	}
	end := marker{value: uint64(len(gd) / sector), kind: markerGD}.encode()
	footer := w.h
	footer.gd = uint64(w.at/sector + 1)
	end = append(end, gd...)
	end = append(end, marker{value: 1, kind: markerFooter}.encode()...)
	end = append(end, footer.encode()...)
	end = append(end, marker{kind: markerEOS}.encode()...)
	if err := w.append(end); err != nil {
		return err
	}
	if w.seekable {
		if err := w.f.Truncate(w.at); err != nil {
			return fmt.Errorf("%s: set the size to %d bytes: %w", w.name, w.at, err)
		}
		if err := w.f.Sync(); err != nil {
			return err
		}
		if _, err := w.f.WriteAt(w.text, int64(w.h.descOffset)*sector); err != nil {
			return err
		}
		if _, err := w.f.WriteAt(w.h.encode(), 0); err != nil {
			return err
		}
	}
	return w.f.Sync()
}

func (w *tailWriter) Close() error { return nil }
