package media

import (
	"encoding/binary"
	"fmt"
)

// probeTable reads the partition table, nil where there is none.
func probeTable(r *reader) *Table {
	if table := probeGPT(r); table != nil {
		return table
	}
	return probeDOS(r)
}

// The master boot record and its extended partitions (kernel, block/partitions/msdos.c).
const (
	mbrSize        = 512
	mbrSignatureAt = 510
	mbrIDAt        = 440
	mbrEntriesAt   = 446
	mbrEntrySize   = 16
	mbrEntries     = 4
	mbrTypeAt      = 4
	mbrStartAt     = 8
	mbrLengthAt    = 12

	mbrTypeProtective = 0xee
	// dosMaxLogical bounds the chain of extended partitions, which may be a loop; the kernel's bound is the same order.
	dosMaxLogical = 100
)

type mbrEntry struct {
	kind          byte
	boot          byte
	start, length uint64 // sectors
}

func mbrEntryAt(sector []byte, i int) mbrEntry {
	e := sector[mbrEntriesAt+i*mbrEntrySize:]
	return mbrEntry{
		kind: e[mbrTypeAt], boot: e[0],
		start:  uint64(binary.LittleEndian.Uint32(e[mbrStartAt:])),
		length: uint64(binary.LittleEndian.Uint32(e[mbrLengthAt:])),
	}
}

func (e mbrEntry) extended() bool { return e.kind == 0x05 || e.kind == 0x0f || e.kind == 0x85 }

func probeDOS(r *reader) *Table {
	mbr := r.at(0, mbrSize)
	if mbr == nil || mbr[mbrSignatureAt] != 0x55 || mbr[mbrSignatureAt+1] != 0xaa {
		return nil
	}
	// The same two bytes end the boot sector of a file system that has no table at all.
	if _, fat := parseFATBoot(mbr); fat {
		return nil
	}
	if probeNTFS(r) != nil || probeExFAT(r) != nil {
		return nil
	}
	id := binary.LittleEndian.Uint32(mbr[mbrIDAt:])
	table := &Table{Type: "dos"}
	if id != 0 {
		table.UUID = fmt.Sprintf("%08x", id)
	}
	var extended []mbrEntry
	for i := range mbrEntries {
		e := mbrEntryAt(mbr, i)
		if e.boot != 0 && e.boot != 0x80 || e.kind == mbrTypeProtective {
			return nil
		}
		if e.length == 0 {
			continue
		}
		table.add(r, i+1, e.start, e.length, e.kind)
		if e.extended() {
			extended = append(extended, e)
		}
	}
	number := mbrEntries + 1
	for _, e := range extended {
		number = logical(r, table, e, number)
	}
	return table
}

// logical walks the chain of an extended partition; the first of each record's entries is a partition, the next one that is
// itself extended leads on.
func logical(r *reader, table *Table, outer mbrEntry, number int) int {
	at := outer.start
	for range dosMaxLogical {
		record := r.at(int64(at)*int64(r.medium.SectorSize), mbrSize)
		if record == nil || record[mbrSignatureAt] != 0x55 || record[mbrSignatureAt+1] != 0xaa {
			return number
		}
		next, leads := mbrEntry{}, false
		for i := range mbrEntries {
			e := mbrEntryAt(record, i)
			switch {
			case e.length == 0:
			case e.extended():
				if !leads {
					next, leads = e, true
				}
			case i < 2 || e.start+e.length <= outer.length:
				table.add(r, number, at+e.start, e.length, e.kind)
				number++
			}
		}
		if !leads {
			return number
		}
		at = outer.start + next.start
	}
	return number
}

func (t *Table) add(r *reader, number int, start, length uint64, kind byte) {
	sector := uint64(r.medium.SectorSize)
	p := Partition{Number: number, Start: start * sector, Size: length * sector, Type: fmt.Sprintf("%#x", kind)}
	if t.UUID != "" {
		p.UUID = fmt.Sprintf("%s-%02x", t.UUID, number)
	}
	t.Partitions = append(t.Partitions, p)
}
