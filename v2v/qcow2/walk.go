package qcow2

import (
	"context"
	"encoding/binary"
	"fmt"

	"initd/v2v/image"
)

// walker goes over every table once, when the image is opened. It finds what lies outside the file, what is used twice, and entries that
// no version of the format allows. `qemu-img check` does not look for all of it, and QEMU reads such images.
type walker struct {
	*header
	src      image.Source
	used     usage
	counting *counting // nil: nobody asked
}

// walk checks the tables and gives L1. With counts it compares the counts of references too.
func (h *header) walk(ctx context.Context, src image.Source, counts bool) ([]uint64, error) {
	w := &walker{header: h, src: src}
	if counts {
		w.counting = &counting{}
	}
	if err := w.claim("the header", 0, h.clusterSize()); err != nil {
		return nil, err
	}
	if err := w.claim("the L1 table", h.l1Offset, h.l1Entries*8); err != nil {
		return nil, err
	}
	if err := w.claim("the refcount table", h.reftableOffset, h.reftableEntries*8); err != nil {
		return nil, err
	}
	if err := w.refcounts(ctx); err != nil {
		return nil, err
	}
	l1, err := readTable(src, h.l1Offset, h.l1Entries)
	if err != nil {
		return nil, err
	}
	for i, e := range l1 {
		if e == 0 {
			continue
		}
		if e&l1Reserved != 0 {
			return nil, h.corrupt("qcow2-reserved-bits", "L1 entry %d has reserved bits: %#x", i, e)
		}
		off := int64(e & offsetMask)
		if off == 0 {
			return nil, h.corrupt("qcow2-l2-offset", "L1 entry %d has flags and no table: %#x", i, e)
		}
		if !h.inside(uint64(off), uint64(h.clusterSize()), src.Size()) {
			return nil, h.corrupt("qcow2-l2-offset", "L1 entry %d: the L2 table at %d does not lie at a cluster inside the file", i, off)
		}
		if err := w.claim("an L2 table", off, h.clusterSize()); err != nil {
			return nil, err
		}
		w.counting.mark(off>>h.clusterBits, e&copied != 0)
	}
	// All tables are claimed before any data are, so that data over a table are blamed and not the table.
	table := make([]byte, h.clusterSize())
	for i, e := range l1 {
		if e == 0 {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := image.ReadFull(src, table, int64(e&offsetMask)); err != nil {
			return nil, fmt.Errorf("%s: read an L2 table: %w", h.name, err)
		}
		if err := w.l2(table, int64(i)); err != nil {
			return nil, err
		}
	}
	if counts {
		found, err := w.compare(ctx)
		if err != nil {
			return nil, err
		}
		h.counts = &found
	}
	return l1, nil
}

func (w *walker) refcounts(ctx context.Context) error {
	piece := make([]byte, min(w.reftableEntries*8, 1<<20))
	for at := int64(0); at < w.reftableEntries*8; at += int64(len(piece)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		piece = piece[:min(int64(len(piece)), w.reftableEntries*8-at)]
		if err := image.ReadFull(w.src, piece, w.reftableOffset+at); err != nil {
			return fmt.Errorf("%s: read the refcount table: %w", w.name, err)
		}
		for i := 0; i < len(piece); i += 8 {
			e := binary.BigEndian.Uint64(piece[i:])
			if e == 0 {
				continue
			}
			if e&0x1ff != 0 || !w.inside(e, uint64(w.clusterSize()), w.src.Size()) {
				return w.corrupt("qcow2-refcount-block", "refcount table entry %d: the block at %d does not lie at a cluster inside the file", (at+int64(i))/8, e)
			}
			if err := w.claim("a refcount block", int64(e), w.clusterSize()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *walker) l2(table []byte, l1Index int64) error {
	step := w.entryBytes()
	// Runs of clusters that follow each other in the file are claimed at once.
	var runStart, runEnd int64
	flush := func() error {
		if runEnd == runStart {
			return nil
		}
		err := w.claim("data", runStart, runEnd-runStart)
		runStart, runEnd = 0, 0
		return err
	}
	for i := int64(0); i < w.l2Entries(); i++ {
		e := binary.BigEndian.Uint64(table[i*step:])
		var sub uint64
		if w.extended {
			sub = binary.BigEndian.Uint64(table[i*step+8:])
		}
		if e == 0 && sub == 0 {
			continue
		}
		guest := (l1Index*w.l2Entries() + i) << w.clusterBits
		if e&compressed != 0 {
			off, n := w.stream(e)
			if e&copied != 0 || sub != 0 {
				return w.corrupt("qcow2-compressed-flags", "the entry of the compressed cluster at %d has flags that exclude each other: %#x", guest, e)
			}
			if off >= w.src.Size() || off < w.clusterSize() {
				return w.corrupt("qcow2-data-offset", "the compressed cluster at %d lies at %d, outside the file's data", guest, off)
			}
			if err := w.share(off, n); err != nil {
				return err
			}
			continue
		}
		if err := w.checkEntry(guest, e, sub); err != nil {
			return err
		}
		off := int64(e & offsetMask)
		if off == 0 {
			continue
		}
		w.counting.mark(off>>w.clusterBits, e&copied != 0)
		if off != runEnd || runEnd == runStart {
			if err := flush(); err != nil {
				return err
			}
			runStart = off
		}
		runEnd = off + w.clusterSize()
	}
	return flush()
}

// checkEntry checks an entry of a cluster that is not compressed.
func (w *walker) checkEntry(guest int64, e, sub uint64) error {
	reserved := uint64(l2Reserved)
	if w.version == 2 || w.extended {
		reserved = l2ReservedV2
	}
	off := int64(e & offsetMask)
	switch {
	case e&reserved != 0:
		return w.corrupt("qcow2-reserved-bits", "the entry of the cluster at %d has reserved bits: %#x", guest, e)
	case off%w.clusterSize() != 0:
		return w.corrupt("qcow2-data-offset", "the cluster at %d lies at %d, which is no cluster of the file", guest, off)
	case off == 0 && e&copied != 0:
		return w.corrupt("qcow2-data-offset", "the entry of the cluster at %d has flags and no place: %#x", guest, e)
	case w.extended && sub&(sub>>32)&0xffffffff != 0:
		return w.corrupt("qcow2-subclusters", "parts of the cluster at %d are stored and zero at once: %#x", guest, sub)
	case w.extended && off == 0 && sub&0xffffffff != 0:
		return w.corrupt("qcow2-subclusters", "parts of the cluster at %d are stored, and it has no place", guest)
	case off >= w.src.Size() && w.counting != nil:
		// Zeros need no place to be read, and one where nothing is does harm to who writes.
		return w.corrupt("qcow2-data-offset", "the cluster at %d of the disk has its place at %d, and the file ends at %d", guest, off, w.src.Size())
	case off >= w.src.Size() && e&zeroFlag == 0 && (!w.extended || sub&0xffffffff != 0):
		return w.corrupt("qcow2-data-offset", "the cluster at %d lies at %d, and the file ends at %d", guest, off, w.src.Size())
	case off != 0 && e&zeroFlag == 0 && off+w.clusterSize() > w.src.Size() && guest+w.src.Size()-off < w.size:
		// QEMU reads such images too, and writes whole clusters.
		w.warnings = append(w.warnings, fmt.Sprintf("the file ends inside the cluster at %d of the disk: what is missing reads as zeros; it may have been cut", guest))
	}
	return nil
}

// stream gives place and greatest length of a compressed cluster, in bytes.
func (h *header) stream(e uint64) (off, length int64) {
	x := 62 - (h.clusterBits - 8)
	off = int64(e & (1<<x - 1))
	sectors := int64(e&^(copied|compressed)) >> x
	return off, (sectors+1)*512 - off%512
}

func (w *walker) claim(what string, off, length int64) error {
	if length == 0 {
		return nil
	}
	return w.take(what, off, length, false)
}

// share takes the clusters of a compressed stream, which lie close together: several may begin in one cluster.
func (w *walker) share(off, length int64) error {
	length = min(length, w.src.Size()-off)
	if w.counting != nil {
		w.counting.share(off>>w.clusterBits, (off+length-1)>>w.clusterBits)
	}
	return w.take("a compressed cluster", off, length, true)
}

func (w *walker) take(what string, off, length int64, share bool) error {
	clash, full := w.used.claim(off>>w.clusterBits, (off+length-1)>>w.clusterBits, share)
	if full {
		return w.refuse(image.TooLarge, "qcow2-too-scattered", "rewrite it with qemu-img convert", "it uses places so far apart that following them takes too much memory")
	}
	if clash >= 0 {
		return w.corrupt("qcow2-overlap", "%s at %d lies on what is used already (cluster %d of the file)", what, off, clash)
	}
	return nil
}

func readTable(src image.Source, off, entries int64) ([]uint64, error) {
	p := make([]byte, entries*8)
	if err := image.ReadFull(src, p, off); err != nil {
		return nil, fmt.Errorf("%s: read a table: %w", src.Name(), err)
	}
	table := make([]uint64, entries)
	for i := range table {
		table[i] = binary.BigEndian.Uint64(p[i*8:])
	}
	return table, nil
}
