package qcow2

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"initd/v2v/image"
)

// parseExtensions reads the header extensions, which end with a type 0 or with the first cluster.
func (h *header) parseExtensions(p []byte, autoclear uint64, opt image.OpenOptions) error {
	be := binary.BigEndian
	end := int64(len(p))
	if backing := be.Uint64(p[8:]); backing > uint64(h.length) && backing < uint64(end) {
		end = int64(backing)
	}
	for off := h.length; off+8 <= end; {
		kind, n := be.Uint32(p[off:]), int64(be.Uint32(p[off+4:]))
		off += 8
		if kind == extensionEnd {
			return nil
		}
		if n > end-off {
			return h.corrupt("qcow2-extension", "the header extension %08X of %d bytes does not fit into the first cluster", kind, n)
		}
		if err := h.extension(kind, p[off:off+n], autoclear, opt); err != nil {
			return err
		}
		off += image.RoundUp(n, 8)
	}
	return nil
}

func (h *header) extension(kind uint32, data []byte, autoclear uint64, opt image.OpenOptions) error {
	switch kind {
	case extensionDataFile:
		// Refused without the feature bit too: whoever sets the bit later would find the name trusted.
		return h.refuse(image.Refused, "qcow2-data-file", "convert it with qemu-img on the machine that it was made on, if you trust it",
			"it names another file for its data, %q (CVE-2024-32498)", clip(data))
	case extensionLUKS:
		return h.refuse(image.Unsupported, "qcow2-encrypted", "decrypt it first: qemu-img convert with its secret", "it is encrypted with LUKS")
	case extensionFeatures:
		h.featureNames = map[[2]byte]string{}
		for ; len(data) >= featureNameEntry && len(h.featureNames) < 192; data = data[featureNameEntry:] {
			name, _, _ := bytes.Cut(data[2:featureNameEntry], []byte{0})
			h.featureNames[[2]byte{data[0], data[1]}] = string(name)
		}
	case extensionBitmaps:
		if len(data) != bitmapsExtensionSize {
			return h.corrupt("qcow2-extension", "the bitmaps extension has %d bytes, and must have %d", len(data), bitmapsExtensionSize)
		}
		h.bitmaps = binary.BigEndian.Uint32(data)
		if h.bitmaps == 0 {
			return nil
		}
		if autoclear&autoclearBitmaps == 0 {
			h.warnings = append(h.warnings, fmt.Sprintf("%d dirty bitmaps are no longer valid, and left out", h.bitmaps))
			return nil
		}
		if !opt.IgnoreBitmaps {
			return h.refuse(image.Refused, "qcow2-bitmaps", "remove them (qemu-img bitmap --remove), or leave them out with --ignore-bitmaps",
				"%d dirty bitmaps would be lost, by which a backup knows what has changed", h.bitmaps)
		}
		h.warnings = append(h.warnings, fmt.Sprintf("%d dirty bitmaps are left out", h.bitmaps))
	}
	return nil
}

func clip(p []byte) []byte { return p[:min(len(p), 200)] }
