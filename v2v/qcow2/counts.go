package qcow2

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"initd/v2v/image"
)

// counting compares the counts of references that a file keeps of its clusters with what refers to them. Reading needs none of them; who
// writes to an image with a count that is too low overwrites what is in use.
type counting struct {
	shares map[int64]*[pageClusters]uint32 // by page of usage: streams in a cluster
	marks  map[int64]*marks                // by page of usage
	result image.Counts
}

// marks notes of the clusters of a page what the entry says that refers to it: that the count is one (bit 63, "copied"), or that it is not.
type marks struct{ one, other [pageClusters / 64]uint64 }

const (
	maxSharePages  = 512  // of 128 KiB: 64 MiB, a file of 1 TiB with clusters of 64 KiB
	maxMarkPages   = 4096 // of 8 KiB: 32 MiB
	maxCountsShown = 16
)

// mark notes what the entry of a cluster says of its count.
func (c *counting) mark(cluster int64, one bool) {
	if c == nil || c.result.Not != "" {
		return
	}
	page := c.marks[cluster/pageClusters]
	if page == nil {
		if len(c.marks) == maxMarkPages {
			c.result.Not = tooFarApart
			return
		}
		page = new(marks)
		if c.marks == nil {
			c.marks = map[int64]*marks{}
		}
		c.marks[cluster/pageClusters] = page
	}
	bits := &page.other
	if one {
		bits = &page.one
	}
	i := cluster % pageClusters
	bits[i/64] |= 1 << (i % 64)
}

// contradicts says whether the entry of a cluster says otherwise than its count.
func (c *counting) contradicts(cluster int64, counted uint64) bool {
	page := c.marks[cluster/pageClusters]
	if page == nil {
		return false
	}
	bits := &page.one
	if counted == 1 {
		bits = &page.other
	}
	i := cluster % pageClusters
	return bits[i/64]>>(i%64)&1 != 0
}

const tooFarApart = "it uses places so far apart that counting them takes too much memory"

// share notes that a compressed stream lies in the clusters from first to last.
func (c *counting) share(first, last int64) {
	for ; first <= last && c.result.Not == ""; first++ {
		page := c.shares[first/pageClusters]
		if page == nil {
			if len(c.shares) == maxSharePages {
				c.result.Not = tooFarApart
				return
			}
			page = new([pageClusters]uint32)
			if c.shares == nil {
				c.shares = map[int64]*[pageClusters]uint32{}
			}
			c.shares[first/pageClusters] = page
		}
		page[first%pageClusters]++
	}
}

// compare looks at every count there is, and at every cluster in use that has none.
func (w *walker) compare(ctx context.Context) (image.Counts, error) {
	c := w.counting
	if c.result.Not != "" {
		return c.result, nil
	}
	if w.snapshots > 0 || w.bitmaps > 0 {
		c.result.NotLeaked = "snapshots and bitmaps refer to clusters too, and were left out"
	}
	table, err := readTable(w.src, w.reftableOffset, w.reftableEntries)
	if err != nil {
		return c.result, err
	}
	block := make([]byte, w.clusterSize())
	each := w.clusterSize() * 8 >> w.refcountOrder
	clusters := (w.src.Size() + w.clusterSize() - 1) >> w.clusterBits
	for i, e := range table {
		if first := int64(i) * each; e != 0 && first < clusters {
			if err := ctx.Err(); err != nil {
				return c.result, err
			}
			if err := image.ReadFull(w.src, block, int64(e&^0x1ff)); err != nil {
				return c.result, fmt.Errorf("%s: read a refcount block: %w", w.name, err)
			}
			for j := range min(each, clusters-first) {
				w.counted(first+j, count(block, j, w.refcountOrder))
			}
		}
	}
	for _, page := range slices.Sorted(maps.Keys(w.used.pages)) {
		for i := range int64(pageClusters) {
			cluster := page*pageClusters + i
			if b := cluster / each; cluster < clusters && (b >= int64(len(table)) || table[b] == 0) {
				w.counted(cluster, 0)
			}
		}
	}
	return c.result, nil
}

// references is how much refers to a cluster of the file.
func (w *walker) references(cluster int64) uint64 {
	page := w.used.pages[cluster/pageClusters]
	if page == nil {
		return 0
	}
	i := cluster % pageClusters
	if page.alone[i/64]>>(i%64)&1 != 0 {
		return 1
	}
	if shares := w.counting.shares[cluster/pageClusters]; shares != nil {
		return uint64(shares[i])
	}
	return 0
}

// counted compares the count of a cluster with what refers to it.
func (w *walker) counted(cluster int64, counted uint64) {
	c, used := w.counting, w.references(cluster)
	switch {
	case counted < used:
		c.result.Low++
		w.describe(cluster, "counted %d, used %d", counted, used)
		return
	case counted > used && c.result.NotLeaked == "":
		c.result.Leaked++
		w.describe(cluster, "counted %d, used %d", counted, used)
	}
	if c.contradicts(cluster, counted) {
		c.result.Marks++
		w.describe(cluster, "counted %d, and its entry says otherwise (bit 63)", counted)
	}
}

func (w *walker) describe(cluster int64, what string, args ...any) {
	if c := w.counting; len(c.result.First) < maxCountsShown {
		c.result.First = append(c.result.First, fmt.Sprintf("cluster %d, at byte %d of the file: ", cluster, cluster<<w.clusterBits)+fmt.Sprintf(what, args...))
	}
}

// count is the i-th of a block of counts of 1<<order bits each (docs/interop/qcow2.txt, "Host cluster management": those below a byte begin
// at its lowest bit).
func count(block []byte, i int64, order uint32) uint64 {
	be := binary.BigEndian
	switch order {
	case 3:
		return uint64(block[i])
	case 4:
		return uint64(be.Uint16(block[i*2:]))
	case 5:
		return uint64(be.Uint32(block[i*4:]))
	case 6:
		return be.Uint64(block[i*8:])
	}
	bits := int64(1) << order
	return uint64(block[i*bits/8]) >> (i * bits % 8) & (1<<bits - 1)
}
