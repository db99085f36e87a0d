package qcow2

import (
	"encoding/binary"
	"math"

	"initd/v2v/image"
)

// refcounts are the 16-bit counts of the clusters of a file that only grows: blocks that are final go to the file, the rest is held.
type refcounts struct {
	blockEntries int64
	base         int64    // the cluster that held[0] stands for, a multiple of blockEntries
	held         []uint16 // counts that are not written yet
	blocks       []uint64 // where the written blocks lie
}

func (r *refcounts) grow(clusters int64) {
	for int64(len(r.held)) < clusters-r.base {
		r.held = append(r.held, 0)
	}
}

func (r *refcounts) add(cluster int64) { r.held[cluster-r.base]++ }

// full says that no further stream may touch a cluster: tiny streams of a constant could overflow its count.
func (r *refcounts) full(cluster int64) bool {
	i := cluster - r.base
	return i >= 0 && i < int64(len(r.held)) && r.held[i] == math.MaxUint16
}

// storeRefcounts writes the blocks whose clusters will not change any more.
func (w *writer) storeRefcounts() error {
	cs, r := w.clusterSize(), &w.refs
	for {
		final := w.next / cs
		if w.stream.At < w.stream.End {
			final = min(final, w.stream.At/cs)
		}
		if final-r.base < r.blockEntries {
			return nil
		}
		if err := w.storeBlock(w.allocate(cs)); err != nil {
			return err
		}
	}
}

func (w *writer) storeBlock(at int64) error {
	r := &w.refs
	block := make([]byte, w.clusterSize())
	n := min(int64(len(r.held)), r.blockEntries)
	for i, c := range r.held[:n] {
		binary.BigEndian.PutUint16(block[i*2:], c)
	}
	r.held = r.held[:copy(r.held, r.held[n:])]
	r.base += r.blockEntries
	r.blocks = append(r.blocks, uint64(at))
	return w.write(block, at)
}

// finishRefcounts gives their places to the blocks that are left and to the table, which count each other, and writes them. It gives
// the table's place and length in clusters.
func (w *writer) finishRefcounts() (at, clusters int64, err error) {
	cs, r := w.clusterSize(), &w.refs
	var blocks int64
	for {
		total := w.next/cs + blocks + clusters
		wantBlocks := (total - r.base + r.blockEntries - 1) / r.blockEntries
		wantClusters := ((int64(len(r.blocks))+wantBlocks)*8 + cs - 1) / cs
		if wantBlocks == blocks && wantClusters == clusters {
			break
		}
		blocks, clusters = max(blocks, wantBlocks), max(clusters, wantClusters)
	}
	first := w.allocate(blocks * cs)
	at = w.allocate(clusters * cs)
	for i := range blocks {
		if err := w.storeBlock(first + i*cs); err != nil {
			return 0, 0, err
		}
	}
	table := make([]byte, clusters*cs)
	for i, b := range r.blocks {
		binary.BigEndian.PutUint64(table[i*8:], b)
	}
	return at, clusters, w.write(table, at)
}

// Finish writes what is left, makes it durable, and only then the header.
func (w *writer) Finish() error {
	if err := w.closeTable(); err != nil {
		return err
	}
	if err := w.storeRefcounts(); err != nil {
		return err
	}
	reftable, clusters, err := w.finishRefcounts()
	if err != nil {
		return err
	}
	if err := w.flush(); err != nil {
		return err
	}
	if err := w.storeL1(); err != nil {
		return err
	}
	// A compressed image ends where its last table does; an end inside a cluster would be allowed, and is not needed.
	if err := w.dst.Truncate(w.next); err != nil {
		return err
	}
	if err := w.dst.Sync(); err != nil {
		return err
	}
	if _, err := w.dst.WriteAt(w.headerBytes(reftable, clusters), 0); err != nil {
		return err
	}
	w.finished = true
	return w.dst.Sync()
}

func (w *writer) storeL1() error {
	p := make([]byte, image.RoundUp(int64(len(w.l1))*8, w.clusterSize()))
	for i, e := range w.l1 {
		binary.BigEndian.PutUint64(p[i*8:], e)
	}
	_, err := w.dst.WriteAt(p, w.l1At)
	return err
}

func (w *writer) headerBytes(reftable, reftableClusters int64) []byte {
	be := binary.BigEndian
	p := make([]byte, headerLengthQemu+8) // an end extension follows: zeros
	copy(p, magic)
	be.PutUint32(p[4:], w.version)
	be.PutUint32(p[20:], w.clusterBits)
	be.PutUint64(p[24:], uint64(w.size))
	be.PutUint32(p[36:], uint32(len(w.l1)))
	be.PutUint64(p[40:], uint64(w.l1At))
	be.PutUint64(p[48:], uint64(reftable))
	be.PutUint32(p[56:], uint32(reftableClusters))
	if w.version == 2 {
		return p
	}
	if w.compress == "zstd" {
		be.PutUint64(p[72:], incompatCompression)
		p[104] = compressionZstd
	}
	be.PutUint32(p[96:], 4)
	be.PutUint32(p[100:], headerLengthQemu)
	return p
}
