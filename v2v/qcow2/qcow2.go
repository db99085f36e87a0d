// Package qcow2 reads and writes QEMU's copy-on-write images, versions 2 and 3.
//
// It shows the active state of one file. What leads to other files (backing and data files) is refused; internal snapshots and bitmaps are refused unless
// the user says that they may be lost. Images that contradict themselves are refused when they are opened: every table is walked then.
package qcow2

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"

	"initd/v2v/image"
)

// Format is qcow2.
func Format() image.Format {
	return image.Format{
		Name:   "qcow2",
		Probe:  probe,
		Open:   open,
		Create: create,
		Resume: resume,
		Sizes:  sizes,
		Options: []image.Option{
			{Name: "compat", Default: "1.1", Help: "version of the format: 1.1 is version 3, 0.10 is version 2", Values: []string{"1.1", "0.10", "v3", "v2"}},
			{Name: "cluster_size", Default: "64k", Help: "unit of allocation and compression: a power of two from 512 to 2M"},
			{Name: "compress", Default: "none", Help: "how clusters are compressed", Values: []string{"none", "zlib", "zstd"}},
			{Name: "level", Default: "1", Help: "effort of the compression, 1 to 9"},
		},
	}
}

func probe(head, _ []byte, _ int64) bool {
	if len(head) < 8 || !bytes.HasPrefix(head, []byte(magic)) {
		return false
	}
	v := binary.BigEndian.Uint32(head[4:])
	return v == 2 || v == 3
}

// params are the options as numbers.
type params struct {
	version     uint32
	clusterBits uint32
	compress    string // "", zlib or zstd
	level       int
}

func (p params) clusterSize() int64 { return 1 << p.clusterBits }

func parseParams(opt image.Options) (params, error) {
	p := params{version: 3, clusterBits: 16, level: 1}
	switch opt["compat"] {
	case "0.10", "v2":
		p.version = 2
	}
	if word := opt["cluster_size"]; word != "" {
		n, err := image.Bytes(word)
		if err != nil {
			return p, fmt.Errorf("-o cluster_size=%s: %w", word, err)
		}
		for p.clusterBits = minClusterBits; p.clusterBits < maxClusterBits && n > p.clusterSize(); p.clusterBits++ {
		}
		if n != p.clusterSize() {
			return p, fmt.Errorf("-o cluster_size=%s: it is a power of two from 512 to 2M", word)
		}
	}
	switch word := opt["compress"]; word {
	case "", "none":
	default:
		p.compress = word
	}
	if p.compress == "zstd" && p.version == 2 {
		return p, fmt.Errorf("-o compress=zstd: version 2 (compat=0.10) knows zlib only")
	}
	if word := opt["level"]; word != "" {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 || n > 9 {
			return p, fmt.Errorf("-o level=%s: it is a number from 1 to 9", word)
		}
		if p.compress == "" {
			return p, fmt.Errorf("-o level=%s: nothing is compressed; say compress=zlib or compress=zstd too", word)
		}
		p.level = n
	}
	return p, nil
}

func sizes(size int64, opt image.Options) (int64, error) {
	p, err := parseParams(opt)
	if err != nil {
		return 0, err
	}
	limit := p.maxSize()
	if size < 0 || size > limit {
		return 0, &image.Error{Fault: image.TooLarge, Code: "qcow2-size", Format: "qcow2",
			What: fmt.Sprintf("a disk of %d bytes, and with clusters of %d bytes it holds at most %d", size, p.clusterSize(), limit), Do: "choose a larger cluster_size"}
	}
	return image.RoundUp(size, image.Sector), nil
}

// maxSize is what L1 and the refcount table can reach within QEMU's caps, when every cluster is stored, in bytes.
func (p params) maxSize() int64 {
	cs := p.clusterSize()
	byL1 := int64(maxL1Bytes/8) * (cs / 8) * cs
	// Beside its data a file holds a table per cs/8 clusters and a block per cs/2; a 16th is more than both for any cluster size.
	byRefcounts := int64(maxReftableBytes/8) * (cs / 2) * cs / 17 * 16
	return min(byL1, byRefcounts, 1<<55)
}
