package media

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// The GUID partition table (UEFI 2.10, section 5.3).
const (
	gptSignature     = "EFI PART"
	gptHeaderMin     = 92
	gptHeaderSizeAt  = 12
	gptChecksumAt    = 16
	gptMyLBAAt       = 24
	gptFirstAt       = 40
	gptLastAt        = 48
	gptDiskGUIDAt    = 56
	gptEntriesLBAAt  = 72
	gptEntryCountAt  = 80
	gptEntrySizeAt   = 84
	gptEntriesSumAt  = 88
	gptEntryMin      = 128
	gptEntryUniqueAt = 16
	gptEntryFirstAt  = 32
	gptEntryLastAt   = 40
	gptEntryNameAt   = 56
	gptEntryNameSize = 72

	// gptMaxEntries bounds the array in bytes; what everything writes is 16 KiB.
	gptMaxEntries = 1 << 20
)

var errNoGPT = errors.New("no GPT header")

// probeGPT reads the primary header or, where that is damaged, the backup in the last sector. A protective MBR must stand in front,
// or else the header is the remains of a table that something else has replaced.
func probeGPT(r *reader) *Table {
	mbr := r.at(0, mbrSize)
	if mbr == nil || mbr[mbrSignatureAt] != 0x55 || mbr[mbrSignatureAt+1] != 0xaa || !protective(mbr) {
		return nil
	}
	table, primary := readGPT(r, 1)
	if primary == nil {
		return table
	}
	last := r.medium.Size/int64(r.medium.SectorSize) - 1
	table, backup := readGPT(r, uint64(last))
	if backup != nil {
		return &Table{
			Type:   "PMBR",
			Damage: fmt.Sprintf("a protective MBR, but no GPT: primary: %v; backup: %v", primary, backup),
		}
	}
	table.Damage = fmt.Sprintf("primary header: %v; read from the backup at the end of the disk", primary)
	return table
}

func protective(mbr []byte) bool {
	for i := range mbrEntries {
		if mbrEntryAt(mbr, i).kind == mbrTypeProtective {
			return true
		}
	}
	return false
}

func readGPT(r *reader, lba uint64) (*Table, error) {
	sector := int64(r.medium.SectorSize)
	if lba > uint64(r.medium.Size/sector) {
		return nil, errNoGPT
	}
	header := r.at(int64(lba)*sector, int(sector))
	if header == nil || string(header[:len(gptSignature)]) != gptSignature {
		return nil, errNoGPT
	}
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(header[at:]) }
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(header[at:]) }
	size := u32(gptHeaderSizeAt)
	if size < gptHeaderMin || int64(size) > sector {
		return nil, fmt.Errorf("a header of %d bytes", size)
	}
	sum := u32(gptChecksumAt)
	copied := append([]byte(nil), header[:size]...)
	copy(copied[gptChecksumAt:], []byte{0, 0, 0, 0})
	if crc32.ChecksumIEEE(copied) != sum {
		return nil, errors.New("bad checksum")
	}
	if u64(gptMyLBAAt) != lba {
		return nil, fmt.Errorf("it says it lies in sector %d, not %d", u64(gptMyLBAAt), lba)
	}
	first, last := u64(gptFirstAt), u64(gptLastAt)
	sectors := uint64(r.medium.Size / sector)
	if first > last || last >= sectors {
		return nil, fmt.Errorf("usable sectors %d to %d of %d", first, last, sectors)
	}
	entries, entrySize, err := gptEntries(r, u64(gptEntriesLBAAt), u32(gptEntryCountAt), u32(gptEntrySizeAt), u32(gptEntriesSumAt))
	if err != nil {
		return nil, err
	}
	table := &Table{Type: "gpt", UUID: guid(header[gptDiskGUIDAt:][:16])}
	for number := 1; len(entries) >= entrySize; number, entries = number+1, entries[entrySize:] {
		if p, ok := gptPartition(entries[:entrySize], number, first, last, uint64(sector)); ok {
			table.Partitions = append(table.Partitions, p)
		}
	}
	return table, nil
}

func gptEntries(r *reader, lba uint64, count, size, sum uint32) ([]byte, int, error) {
	bytes := uint64(count) * uint64(size)
	if size < gptEntryMin || size%8 != 0 || count == 0 || bytes > gptMaxEntries {
		return nil, 0, fmt.Errorf("%d entries of %d bytes", count, size)
	}
	sector := uint64(r.medium.SectorSize)
	if lba > uint64(r.medium.Size)/sector {
		return nil, 0, fmt.Errorf("entries in sector %d, beyond the end", lba)
	}
	entries := r.at(int64(lba*sector), int(bytes))
	if entries == nil {
		return nil, 0, fmt.Errorf("entries in sector %d cannot be read", lba)
	}
	if crc32.ChecksumIEEE(entries) != sum {
		return nil, 0, errors.New("bad checksum of the entries")
	}
	return entries, int(size), nil
}

func gptPartition(entry []byte, number int, first, last, sector uint64) (Partition, bool) {
	if allZero(entry[:16]) {
		return Partition{}, false
	}
	from := binary.LittleEndian.Uint64(entry[gptEntryFirstAt:])
	to := binary.LittleEndian.Uint64(entry[gptEntryLastAt:])
	if from < first || to > last || from > to {
		return Partition{}, false // the kernel leaves it out too
	}
	return Partition{
		Number: number, Start: from * sector, Size: (to - from + 1) * sector,
		UUID: guid(entry[gptEntryUniqueAt:][:16]), Type: guid(entry[:16]),
		Label: wide(entry[gptEntryNameAt:][:gptEntryNameSize], binary.LittleEndian.Uint16),
	}, true
}
