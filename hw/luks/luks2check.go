package luks

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// fromJSON fills h from the JSON area of a header of size bytes.
func (h *Header) fromJSON(area []byte, size uint64, source headerSource) error {
	m, err := parseJSON(area)
	if err != nil {
		return err
	}
	h.Flags = persistentFlags(m.Config.Flags)
	segmentID, err := h.setSegment(m, source)
	if err != nil {
		return err
	}
	slotsEnd := 2*size + uint64(m.Config.KeyslotsSize)
	switch {
	case m.Config.KeyslotsSize%4096 != 0 || m.Config.KeyslotsSize > 128<<20:
		return damaged("an area of %d bytes for key slots", m.Config.KeyslotsSize)
	case !source.detached && h.Offset*SectorSize < slotsEnd:
		return damaged("the data at byte %d overlaps the key slots, which end at byte %d", h.Offset*SectorSize, slotsEnd)
	}
	var used []span
	for _, id := range m.Keyslots.ids() {
		k := m.Keyslots[id]
		if uint64(k.Area.Size) > slotsEnd || uint64(k.Area.Offset) < 2*size || uint64(k.Area.Offset) > slotsEnd-uint64(k.Area.Size) {
			return damaged("the area of slot %d lies outside the area for key slots", id)
		}
		used = append(used, span{uint64(k.Area.Offset), uint64(k.Area.Offset + k.Area.Size), "slot " + strconv.Itoa(id)})
	}
	if err := checkOverlap(used); err != nil {
		return err
	}
	return h.setSlots(m, segmentID)
}

// setSegment takes over the one segment with data, and returns its number.
func (h *Header) setSegment(m *metadata, source headerSource) (int, error) {
	var found []int
	for _, id := range m.Segments.ids() {
		if !slices.ContainsFunc(m.Segments[id].Flags, func(f string) bool { return strings.HasPrefix(f, "backup-") }) {
			found = append(found, id)
		}
	}
	if len(found) != 1 {
		return 0, unsupported("%s of data (a volume that is being encrypted anew, or none)", count(len(found), "segment"))
	}
	s := m.Segments[found[0]]
	switch {
	case s.Type != "crypt":
		return 0, unsupported("a segment of type %.40q", s.Type)
	case len(s.Integrity) > 0 && string(s.Integrity) != "null":
		return 0, unsupported("authenticated encryption (dm-integrity)")
	case len(s.Flags) > 0:
		return 0, unsupported("a segment with the flag %.40q", s.Flags[0])
	case s.SectorSize != 512 && s.SectorSize != 1024 && s.SectorSize != 2048 && s.SectorSize != 4096:
		return 0, damaged("sectors of %d bytes", s.SectorSize)
	}
	if err := checkCipher(s.Encryption); err != nil {
		return 0, err
	}
	h.Cipher, h.SectorSize, h.IVOffset = s.Encryption, s.SectorSize, uint64(s.IVTweak)
	var length uint64
	if s.Size != "dynamic" {
		var err error
		if length, err = strconv.ParseUint(s.Size, 10, 64); err != nil || length == 0 {
			return 0, damaged("a segment of %.40q bytes", s.Size)
		}
	}
	return found[0], h.setData(uint64(s.Offset), length, source.dataSize)
}

// setSlots takes over the slots that lead to the segment: preferred ones first, ignored ones not at all. A slot of a
// kind that is not known stays in the list and fails when it is its turn, because another may do.
func (h *Header) setSlots(m *metadata, segmentID int) error {
	for _, preferred := range []bool{true, false} {
		for _, id := range m.Keyslots.ids() {
			k := m.Keyslots[id]
			priority := 1
			if k.Priority != nil {
				priority = *k.Priority
			}
			if priority == 0 || (priority == 2) != preferred {
				continue
			}
			d, ok := m.digestOf(id, segmentID)
			if !ok {
				continue // it holds some other key
			}
			s, err := newSlot(id, k, d)
			if err != nil {
				return err
			}
			h.slots = append(h.slots, s)
		}
	}
	return nil
}

func (m *metadata) digestOf(slotID, segmentID int) (digest2, bool) {
	for _, id := range m.Digests.ids() {
		d := m.Digests[id]
		if slices.Contains(d.Keyslots, strconv.Itoa(slotID)) && slices.Contains(d.Segments, strconv.Itoa(segmentID)) {
			return d, true
		}
	}
	return digest2{}, false
}

func newSlot(id int, k keyslot, d digest2) (slot, error) {
	bad := func(format string, args ...any) (slot, error) {
		return slot{}, damaged("slot %d has %s", id, fmt.Sprintf(format, args...))
	}
	switch {
	case k.Type != "luks2" || k.Area.Type != "raw" || k.AF.Type != "luks1" || d.Type != "pbkdf2":
		return slot{number: id, err: unsupported("its types are %.20q, %.20q, %.20q, %.20q", k.Type, k.Area.Type, k.AF.Type, d.Type)}, nil
	case k.KeySize < 1 || k.KeySize > maxKeySize || k.Area.KeySize < 1 || k.Area.KeySize > maxKeySize:
		return bad("keys of %d and %d bytes", k.KeySize, k.Area.KeySize)
	case k.AF.Stripes != stripes:
		return bad("%d stripes", k.AF.Stripes)
	case uint64(k.Area.Size) < uint64(k.KeySize)*stripes:
		return bad("an area of %d bytes, which is too small", k.Area.Size)
	case d.Iterations < 1 || d.Iterations > maxIterations:
		return bad("a digest of %d iterations", d.Iterations)
	case d.Hash == "md5": // 16 bytes; the only hash of cryptsetup's that is shorter than what is told apart here
		return slot{number: id, err: unsupported("the hash %q", d.Hash)}, nil
	case len(d.Digest) < 20 || len(d.Digest) > 64: // 20 is what a LUKS1 header that was converted brings along
		return bad("a digest of %d bytes", len(d.Digest))
	}
	s := slot{
		number: id, keySize: k.KeySize, hash: k.AF.Hash,
		area:   area{offset: uint64(k.Area.Offset), size: uint64(k.KeySize) * stripes, cipher: k.Area.Encryption, keySize: k.Area.KeySize},
		digest: digest{hash: d.Hash, iterations: int(d.Iterations), salt: d.Salt, want: d.Digest},
		kdf:    kdf{kind: k.KDF.Type, hash: k.KDF.Hash, salt: k.KDF.Salt},
	}
	s.err = checkCipher(s.area.cipher)
	switch k.KDF.Type {
	case "pbkdf2":
		if k.KDF.Iterations < 1 || k.KDF.Iterations > maxIterations {
			return bad("%d iterations, at most %d are possible", k.KDF.Iterations, maxIterations)
		}
		s.kdf.iterations = int(k.KDF.Iterations)
	case "argon2i", "argon2id":
		if k.KDF.Time < 1 || k.KDF.Time > maxIterations || k.KDF.Memory < 8 || k.KDF.Memory > math.MaxUint32 || k.KDF.CPUs < 1 || k.KDF.CPUs > 255 {
			return bad("argon2 costs of time %d, memory %d KiB, %d threads", k.KDF.Time, k.KDF.Memory, k.KDF.CPUs)
		}
		s.kdf.time, s.kdf.memoryKiB, s.kdf.threads = uint32(k.KDF.Time), uint32(k.KDF.Memory), uint8(k.KDF.CPUs)
	}
	return s, nil
}

// kernelFlags are the flags of a header that dm-crypt knows, by its names (table of section 3.6, and dm-crypt.rst).
func kernelFlags() map[string]string {
	return map[string]string{
		"allow-discards":         "allow_discards",
		"same-cpu-crypt":         "same_cpu_crypt",
		"submit-from-crypt-cpus": "submit_from_crypt_cpus",
		"no-read-workqueue":      "no_read_workqueue",
		"no-write-workqueue":     "no_write_workqueue",
	}
}

// persistentFlags translates the flags of a header. Unknown ones are left out, as cryptsetup does: what must be
// understood is a requirement.
func persistentFlags(flags []string) []string {
	known := kernelFlags()
	var kernel []string
	for _, flag := range flags {
		if name, ok := known[flag]; ok && !slices.Contains(kernel, name) {
			kernel = append(kernel, name)
		}
	}
	return kernel
}

func knownFlag(kernel string) bool {
	for _, name := range kernelFlags() {
		if name == kernel {
			return true
		}
	}
	return false
}
