package qcow2

import (
	"encoding/binary"
	"fmt"
	"strings"

	"initd/v2v/image"
)

// header is the file's header, checked against the format's rules and our own.
type header struct {
	name string // of the source

	version         uint32
	clusterBits     uint32
	size            int64 // bytes, a multiple of Sector
	l1Entries       int64
	l1Offset        int64
	reftableOffset  int64
	reftableEntries int64
	snapshots       uint32
	bitmaps         uint32
	counts          *image.Counts // nil: not asked for
	refcountOrder   uint32
	lazyRefcounts   bool
	extended        bool
	compression     uint8
	length          int64
	warnings        []string
	featureNames    map[[2]byte]string // (type, bit)
}

func (h *header) clusterSize() int64 { return 1 << h.clusterBits }

// entryBytes is the length of an L2 entry.
func (h *header) entryBytes() int64 {
	if h.extended {
		return 16
	}
	return 8
}

// l2Entries is how many clusters a table is for, l2Span how many bytes of the disk.
func (h *header) l2Entries() int64 { return h.clusterSize() / h.entryBytes() }
func (h *header) l2Span() int64    { return h.l2Entries() * h.clusterSize() }

func (h *header) refuse(fault image.Fault, code, do, what string, args ...any) error {
	return &image.Error{Fault: fault, Code: code, Image: h.name, Format: "qcow2", What: fmt.Sprintf(what, args...), Do: do}
}

func (h *header) corrupt(code, what string, args ...any) error {
	return h.refuse(image.Corrupt, code, "try qemu-img check -r all on a copy, or fetch the image again", what, args...)
}

// parseHeader reads the header out of the file's first bytes: the whole first cluster, or all of a shorter file.
func parseHeader(name string, fileSize int64, p []byte, opt image.OpenOptions) (*header, error) {
	h := &header{name: name}
	if len(p) < 8 || string(p[:4]) != magic {
		return nil, h.refuse(image.NotThis, "qcow2-magic", "", "the file does not begin with QFI\\xfb")
	}
	be := binary.BigEndian
	h.version = be.Uint32(p[4:])
	if h.version != 2 && h.version != 3 {
		return nil, h.refuse(image.Unsupported, "qcow2-version", "convert it with qemu-img", "version %d; only 2 and 3 are read", h.version)
	}
	if len(p) < headerLengthV2 || (h.version == 3 && len(p) < headerLengthV3) {
		return nil, h.corrupt("qcow2-cut", "the file ends inside the header")
	}
	h.clusterBits = be.Uint32(p[20:])
	if h.clusterBits < minClusterBits || h.clusterBits > maxClusterBits {
		return nil, h.corrupt("qcow2-cluster-bits", "cluster_bits is %d, and must be %d to %d", h.clusterBits, minClusterBits, maxClusterBits)
	}
	if len(p) > int(h.clusterSize()) {
		p = p[:h.clusterSize()]
	}
	h.length, h.refcountOrder = headerLengthV2, 4
	var incompatible uint64
	var autoclear uint64
	if h.version == 3 {
		incompatible, autoclear = be.Uint64(p[72:]), be.Uint64(p[88:])
		h.lazyRefcounts = be.Uint64(p[80:])&compatLazyRefcounts != 0
		h.refcountOrder, h.length = be.Uint32(p[96:]), int64(be.Uint32(p[100:]))
		if h.length < headerLengthV3 || h.length%8 != 0 || h.length > int64(len(p)) {
			return nil, h.corrupt("qcow2-header-length", "header_length is %d", h.length)
		}
		if h.refcountOrder > maxRefcountOrder {
			return nil, h.corrupt("qcow2-refcount-order", "refcount_order is %d, and at most %d exists", h.refcountOrder, maxRefcountOrder)
		}
		if h.length > headerLengthV3 {
			h.compression = p[104]
		}
	}
	h.extended = incompatible&incompatExtendedL2 != 0
	if err := h.parseExtensions(p, autoclear, opt); err != nil {
		return nil, err
	}
	if err := h.checkFeatures(incompatible); err != nil {
		return nil, err
	}
	if err := h.checkReferences(p, opt); err != nil {
		return nil, err
	}
	return h, h.checkTables(p, fileSize, opt)
}

func (h *header) checkFeatures(incompatible uint64) error {
	switch {
	case incompatible&incompatDataFile != 0:
		return h.refuse(image.Refused, "qcow2-data-file", "convert it with qemu-img on the machine that it was made on, if you trust it",
			"its data lie in another file (CVE-2024-32498)")
	case incompatible&incompatCorrupt != 0:
		return h.refuse(image.Corrupt, "qcow2-marked-corrupt", "repair a copy with qemu-img check -r all", "QEMU has marked the image as corrupt")
	case incompatible&incompatDirty != 0:
		return h.refuse(image.Corrupt, "qcow2-dirty", "stop the virtual machine that has it open, or repair it with qemu-img check -r all",
			"the image is dirty: whoever wrote it last has not ended properly")
	case incompatible&^incompatUnderstood != 0:
		var names []string
		for bit := range byte(64) {
			if incompatible&^incompatUnderstood>>bit&1 == 0 {
				continue
			}
			name := fmt.Sprintf("bit %d", bit)
			if said := h.featureNames[[2]byte{0, bit}]; said != "" {
				name = fmt.Sprintf("%s (%q)", name, said)
			}
			names = append(names, name)
		}
		return h.refuse(image.Unsupported, "qcow2-incompatible-feature", "convert it with the program that made it",
			"needs what is not known here: %s", strings.Join(names, ", "))
	case h.compression > compressionZstd:
		return h.refuse(image.Unsupported, "qcow2-compression-type", "", "compression type %d", h.compression)
	case (incompatible&incompatCompression != 0) != (h.compression != compressionZlib):
		return h.corrupt("qcow2-compression-bit", "the compression type %d and the feature bit for it disagree", h.compression)
	case h.extended && h.clusterBits < extendedMinClusterBits:
		return h.corrupt("qcow2-extended-cluster", "extended L2 entries with clusters of %d bytes", h.clusterSize())
	}
	return nil
}

// checkReferences refuses what is not this file, or not this state.
func (h *header) checkReferences(p []byte, opt image.OpenOptions) error {
	be := binary.BigEndian
	if off, n := be.Uint64(p[8:]), be.Uint32(p[16:]); off != 0 {
		name := "a backing file"
		if n <= 1023 && off < uint64(len(p)) && off+uint64(n) <= uint64(len(p)) {
			name = fmt.Sprintf("the backing file %q", p[off:off+uint64(n)])
		}
		return h.refuse(image.Refused, "qcow2-backing-file", "flatten it where its chain lies: qemu-img convert -O qcow2, or virsh blockcommit",
			"it holds only what differs from %s", name)
	}
	if crypt := be.Uint32(p[32:]); crypt != 0 {
		return h.refuse(image.Unsupported, "qcow2-encrypted", "decrypt it first: qemu-img convert with its secret", "it is encrypted (method %d)", crypt)
	}
	h.snapshots = be.Uint32(p[60:])
	if h.snapshots > maxSnapshots {
		return h.corrupt("qcow2-snapshot-count", "%d snapshots, and QEMU allows %d", h.snapshots, maxSnapshots)
	}
	if at := be.Uint64(p[64:]); opt.Counts && at%uint64(h.clusterSize()) != 0 {
		return h.corrupt("qcow2-snapshot-count", "the table of snapshots at %d does not begin at a cluster", at)
	}
	if h.snapshots > 0 {
		if !opt.IgnoreSnapshots {
			return h.refuse(image.Refused, "qcow2-snapshots", "delete them (qemu-img snapshot -d), or convert the current state alone with --ignore-snapshots",
				"%d internal snapshots would be lost", h.snapshots)
		}
		h.warnings = append(h.warnings, fmt.Sprintf("%d internal snapshots are left out", h.snapshots))
	}
	return nil
}

// checkTables checks places and lengths of L1 and the refcount table, and the virtual size.
func (h *header) checkTables(p []byte, fileSize int64, opt image.OpenOptions) error {
	be := binary.BigEndian
	size := be.Uint64(p[24:])
	if size > image.MaxDisk {
		return h.refuse(image.TooLarge, "qcow2-size", "", "a virtual size of %d bytes", size)
	}
	h.size = int64(size) / image.Sector * image.Sector
	if h.size != int64(size) {
		h.warnings = append(h.warnings, fmt.Sprintf("the size of %d bytes is no whole number of sectors; the last %d bytes are left out, as QEMU does", size, int64(size)-h.size))
	}
	if opt.MaxSize > 0 && h.size > opt.MaxSize {
		return image.TooLargef(h.name, "qcow2", h.size, opt.MaxSize)
	}
	h.l1Entries = int64(be.Uint32(p[36:]))
	l1 := be.Uint64(p[40:])
	need := (h.size + h.l2Span() - 1) / h.l2Span()
	switch {
	case h.l1Entries*8 > maxL1Bytes || need*8 > maxL1Bytes:
		return h.refuse(image.TooLarge, "qcow2-l1-size", "", "an L1 table of %d entries for a disk of %d bytes; QEMU allows %d", h.l1Entries, h.size, maxL1Bytes/8)
	case h.l1Entries < need:
		return h.corrupt("qcow2-l1-short", "the L1 table has %d entries, and a disk of %d bytes needs %d", h.l1Entries, h.size, need)
	case h.l1Entries > 0 && (l1 == 0 || !h.inside(l1, uint64(h.l1Entries)*8, fileSize)):
		return h.corrupt("qcow2-l1-offset", "the L1 table (%d entries at %d) does not lie at a cluster inside the file", h.l1Entries, l1)
	}
	h.l1Offset = int64(l1)
	ref, clusters := be.Uint64(p[48:]), int64(be.Uint32(p[56:]))
	switch {
	case clusters == 0:
		return h.corrupt("qcow2-refcount-table", "there is no refcount table")
	case clusters > maxReftableBytes>>h.clusterBits && clusters != 1:
		return h.refuse(image.TooLarge, "qcow2-refcount-table-size", "", "a refcount table of %d clusters; QEMU allows %d bytes", clusters, maxReftableBytes)
	case ref == 0 || !h.inside(ref, uint64(clusters)<<h.clusterBits, fileSize):
		return h.corrupt("qcow2-refcount-table", "the refcount table (%d clusters at %d) does not lie at a cluster inside the file", clusters, ref)
	}
	h.reftableOffset, h.reftableEntries = int64(ref), clusters<<h.clusterBits/8
	return nil
}

// inside says whether a table begins at a cluster and ends before the file does.
func (h *header) inside(off, length uint64, fileSize int64) bool {
	return off%uint64(h.clusterSize()) == 0 && off <= uint64(fileSize) && length <= uint64(fileSize)-off
}
