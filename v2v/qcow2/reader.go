package qcow2

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"

	"initd/v2v/image"
)

type reader struct {
	*header
	src    image.Source
	l1     []uint64
	tables tableCache
	decode decoders
}

func open(ctx context.Context, src image.Source, opt image.OpenOptions) (image.Reader, error) {
	head := make([]byte, min(src.Size(), 1<<maxClusterBits))
	if err := image.ReadFull(src, head, 0); err != nil {
		return nil, fmt.Errorf("%s: read the header: %w", src.Name(), err)
	}
	h, err := parseHeader(src.Name(), src.Size(), head, opt)
	if err != nil {
		return nil, err
	}
	l1, err := h.walk(ctx, src, opt.Counts)
	if err != nil {
		return nil, err
	}
	r := &reader{header: h, src: src, l1: l1}
	r.tables.limit = int(max(4, tableCacheBytes>>h.clusterBits))
	r.decode.zstd = h.compression == compressionZstd
	return r, nil
}

func (r *reader) Size() int64  { return r.size }
func (r *reader) Close() error { return r.src.Close() }

// ReadAt reads guest data. Clusters that follow each other in the file are read at once.
func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("%s: qcow2: read at the negative offset %d", r.name, off)
	}
	if off >= r.size {
		return 0, io.EOF
	}
	var eof error
	if int64(len(p)) > r.size-off {
		p, eof = p[:r.size-off], io.EOF
	}
	n := 0
	for n < len(p) {
		m, err := r.readSome(p[n:], off+int64(n))
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, eof
}

// readSome fills a beginning of p: a run of one kind.
func (r *reader) readSome(p []byte, off int64) (int, error) {
	e, err := r.extent(off, off+int64(len(p)))
	if err != nil {
		return 0, err
	}
	p = p[:min(int64(len(p)), e.End()-off)]
	switch {
	case e.Kind != image.Data:
		clear(p)
		return len(p), nil
	case e.Compressed:
		return r.readCompressed(p, off)
	}
	if err := r.readPlain(p, e.Place); err != nil {
		return 0, err
	}
	return len(p), nil
}

// readPlain reads from the file; what lies past its end reads as zeros, as QEMU leaves the last cluster short.
func (r *reader) readPlain(p []byte, place int64) error {
	n, err := r.src.ReadAt(p, place)
	if n == len(p) {
		return nil
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: read %d bytes at %d: %w", r.name, len(p), place, err)
	}
	if place+int64(n) < r.src.Size() {
		return r.corrupt("qcow2-cut", "the file was cut while it was read, at %d", place+int64(n))
	}
	clear(p[n:])
	return nil
}

// readCompressed reads out of one compressed cluster.
func (r *reader) readCompressed(p []byte, off int64) (int, error) {
	cs := r.clusterSize()
	start := off &^ (cs - 1)
	p = p[:min(int64(len(p)), start+cs-off)]
	e, _, err := r.entry(off)
	if err != nil {
		return 0, err
	}
	place, length := r.stream(e)
	if off == start && int64(len(p)) == cs {
		if err := r.decode.cluster(r, p, place, length, start); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	whole := r.decode.scratch(int(cs))
	defer r.decode.release(whole)
	// The end of the disk may cut the last cluster, and its stream may have been made of that much.
	whole.b = whole.b[:min(cs, r.size-start)]
	if err := r.decode.cluster(r, whole.b, place, length, start); err != nil {
		return 0, err
	}
	return copy(p, whole.b[off-start:]), nil
}

// entry gives the L2 entry of a guest offset, and with extended entries its second half.
func (r *reader) entry(off int64) (e, sub uint64, err error) {
	l1 := r.l1[off/r.l2Span()]
	if l1 == 0 {
		return 0, 0, nil
	}
	table, err := r.table(int64(l1 & offsetMask))
	if err != nil {
		return 0, 0, err
	}
	i := off >> r.clusterBits % r.l2Entries() * r.entryBytes()
	e = binary.BigEndian.Uint64(table[i:])
	if r.extended {
		sub = binary.BigEndian.Uint64(table[i+8:])
	}
	return e, sub, nil
}

func (r *reader) table(place int64) ([]byte, error) {
	return r.tables.get(place, func() ([]byte, error) {
		p := make([]byte, r.clusterSize())
		if err := image.ReadFull(r.src, p, place); err != nil {
			return nil, fmt.Errorf("%s: read the L2 table at %d: %w", r.name, place, err)
		}
		// The file may have changed since it was walked: what was checked then is checked again, as far as it keeps reads inside the file.
		for i := int64(0); i < r.l2Entries(); i++ {
			e := binary.BigEndian.Uint64(p[i*r.entryBytes():])
			if e&compressed == 0 && e&offsetMask%uint64(r.clusterSize()) != 0 {
				return nil, r.corrupt("qcow2-changed", "the table at %d changed while the image was read", place)
			}
		}
		return p, nil
	})
}

func (r *reader) Info() image.Info {
	info := image.Info{Format: "qcow2", Size: r.size, Unit: r.clusterSize(), Stored: -1, Warnings: r.warnings, Counts: r.counts}
	if s, ok := r.src.(interface{ Stored() int64 }); ok {
		info.Stored = s.Stored()
	}
	info.Compressed = "zlib"
	if r.compression == compressionZstd {
		info.Compressed = "zstd"
	}
	add := func(name, value string) { info.Details = append(info.Details, image.Detail{Name: name, Value: value}) }
	add("compat", map[uint32]string{2: "0.10", 3: "1.1"}[r.version])
	add("cluster size", strconv.FormatInt(r.clusterSize(), 10))
	add("compression type", info.Compressed)
	add("refcount bits", strconv.Itoa(1<<r.refcountOrder))
	if r.lazyRefcounts {
		add("lazy refcounts", "true")
	}
	if r.extended {
		add("extended l2", "true")
	}
	if r.snapshots > 0 {
		add("snapshots", strconv.FormatUint(uint64(r.snapshots), 10))
	}
	if r.bitmaps > 0 {
		add("bitmaps", strconv.FormatUint(uint64(r.bitmaps), 10))
	}
	return info
}
