package media

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// The FAT boot sector and directory entry (Microsoft, FAT32 File System Specification 1.03).
const (
	fatBootSize       = 512
	fatSectorSizeAt   = 11
	fatClusterSizeAt  = 13
	fatReservedAt     = 14
	fatCountAt        = 16
	fatRootEntriesAt  = 17
	fatSectors16At    = 19
	fatMediaAt        = 21
	fatLength16At     = 22
	fatSectors32At    = 32
	fat16SerialAt     = 39
	fat16TypeAt       = 54
	fat32LengthAt     = 36
	fat32RootAt       = 44
	fat32SerialAt     = 67
	fat32TypeAt       = 82
	fatSignatureAt    = 510
	fatEntrySize      = 32
	fatEntryAttribute = 11
	fatEntryHighAt    = 20
	fatEntryLowAt     = 26

	fatAttributeVolume = 0x08
	fatAttributeDir    = 0x10
	fatAttributeLong   = 0x0f
	fatAttributeMask   = 0x3f

	fat12Clusters = 0xff4
	fat16Clusters = 0xfff4
	fat32Clusters = 0x0ffffff6
	fatMaxCluster = 0x0fffffff

	// fatMaxRoot bounds the directory clusters that are searched for a label; a loop in the chain ends here too.
	fatMaxRoot = 100
	// fatMaxCluster64K is the largest cluster in bytes that anything makes.
	fatMaxClusterBytes = 256 << 10
)

// fatBoot is what is used of a boot sector.
type fatBoot struct {
	sector, cluster         int64 // bytes, sectors
	reserved, tables        int64 // sectors
	rootEntries, rootSector int64
	clusters                int64
	fat32                   bool
	rootCluster             uint32
	serial                  []byte
}

func probeVFAT(r *reader) *Signature {
	boot := r.at(0, fatBootSize)
	if boot == nil {
		return nil
	}
	b, ok := parseFATBoot(boot)
	if !ok {
		return nil
	}
	signature := &Signature{Type: "vfat", Usage: Filesystem}
	s := b.serial
	if !allZero(s) {
		signature.UUID = fmt.Sprintf("%02X%02X-%02X%02X", s[3], s[2], s[1], s[0])
	}
	switch {
	case b.fat32:
		signature.Version = "FAT32"
		signature.Label = fat32Label(r, b)
	case b.clusters < fat12Clusters:
		signature.Version = "FAT12"
		signature.Label, _ = fatLabel(r, b.rootSector*b.sector, b.rootEntries*fatEntrySize)
	default:
		signature.Version = "FAT16"
		signature.Label, _ = fatLabel(r, b.rootSector*b.sector, b.rootEntries*fatEntrySize)
	}
	return signature
}

// parseFATBoot checks a boot sector as libblkid does (superblocks/vfat.c): there is no real magic, many other boot sectors
// look alike.
func parseFATBoot(boot []byte) (fatBoot, bool) {
	u16 := func(at int) int64 { return int64(binary.LittleEndian.Uint16(boot[at:])) }
	u32 := func(at int) int64 { return int64(binary.LittleEndian.Uint32(boot[at:])) }
	if !fatMagic(boot) {
		return fatBoot{}, false
	}
	media := boot[fatMediaAt]
	b := fatBoot{sector: u16(fatSectorSizeAt), cluster: int64(boot[fatClusterSizeAt]), reserved: u16(fatReservedAt)}
	sane := boot[fatCountAt] != 0 && b.reserved != 0 && (media >= 0xf8 || media == 0xf0) &&
		bits.OnesCount64(uint64(b.cluster)) == 1 &&
		bits.OnesCount64(uint64(b.sector)) == 1 && b.sector >= 512 && b.sector <= 4096
	if !sane {
		return fatBoot{}, false
	}
	length := u16(fatLength16At)
	b.fat32 = length == 0 && u32(fat32LengthAt) != 0
	if b.fat32 {
		length = u32(fat32LengthAt)
	}
	b.rootEntries = u16(fatRootEntriesAt)
	b.tables = length * int64(boot[fatCountAt])
	sectors := u16(fatSectors16At)
	if sectors == 0 {
		sectors = u32(fatSectors32At)
	}
	rootSize := (b.rootEntries*fatEntrySize + b.sector - 1) / b.sector
	b.rootSector = b.reserved + b.tables
	b.clusters = (sectors - (b.reserved + b.tables + rootSize)) / b.cluster
	most := int64(fat12Clusters)
	switch {
	case b.fat32:
		most = fat32Clusters
	case b.clusters > fat12Clusters:
		most = fat16Clusters
	}
	if b.clusters < 0 || b.clusters > most || length == 0 {
		return fatBoot{}, false
	}
	if b.fat32 {
		b.rootCluster = uint32(u32(fat32RootAt))
		b.serial = boot[fat32SerialAt:][:4]
	} else {
		b.serial = boot[fat16SerialAt:][:4]
	}
	return b, true
}

func fatMagic(boot []byte) bool {
	switch string(boot[fat32TypeAt:][:8]) {
	case "FAT32   ":
		return true
	}
	if string(boot[fat32TypeAt:][:5]) == "MSWIN" {
		return true
	}
	switch string(boot[fat16TypeAt:][:8]) {
	case "FAT16   ", "FAT12   ", "FAT     ":
		return true
	case "JFS     ", "HPFS    ", "NTFS    ":
		return false // they carry a FAT-like header in front
	}
	if string(boot[fat16TypeAt:][:5]) == "MSDOS" {
		return true
	}
	jump := boot[0] == 0xeb || boot[0] == 0xe9
	return jump && boot[fatSignatureAt] == 0x55 && boot[fatSignatureAt+1] == 0xaa
}

// fatLabel looks for the volume label among directory entries; more says that the directory does not end here.
func fatLabel(r *reader, offset, length int64) (label string, more bool) {
	if length <= 0 || length > fatMaxClusterBytes*8 {
		return "", false
	}
	directory := r.at(offset, int(length))
	for ; len(directory) >= fatEntrySize; directory = directory[fatEntrySize:] {
		entry := directory[:fatEntrySize]
		attribute := entry[fatEntryAttribute]
		switch {
		case entry[0] == 0:
			return "", false
		case entry[0] == 0xe5, attribute&fatAttributeMask == fatAttributeLong,
			binary.LittleEndian.Uint16(entry[fatEntryHighAt:]) != 0, binary.LittleEndian.Uint16(entry[fatEntryLowAt:]) != 0:
			continue
		}
		if attribute&(fatAttributeVolume|fatAttributeDir) == fatAttributeVolume {
			name := append([]byte(nil), entry[:11]...)
			if name[0] == 0x05 {
				name[0] = 0xe5
			}
			return text(name), false
		}
	}
	return "", true
}

// fat32Label walks the clusters of the root directory.
func fat32Label(r *reader, b fatBoot) string {
	size := b.cluster * b.sector
	if size > fatMaxClusterBytes {
		return ""
	}
	next := b.rootCluster
	for range fatMaxRoot {
		if next < 2 || int64(next) > b.clusters+1 {
			return ""
		}
		label, more := fatLabel(r, (b.rootSector+int64(next-2)*b.cluster)*b.sector, size)
		if !more {
			return label
		}
		entry := r.at(b.reserved*b.sector+int64(next)*4, 4)
		if entry == nil {
			return ""
		}
		next = binary.LittleEndian.Uint32(entry) & fatMaxCluster
	}
	return ""
}

// NTFS and exFAT are here so that their boot sectors are not taken for something else, and so that what they are can be said.
func probeNTFS(r *reader) *Signature {
	boot := r.at(0, fatBootSize)
	if boot == nil || string(boot[3:11]) != "NTFS    " {
		return nil
	}
	// NTFS wants zero where FAT has reserved, fats, root entries, sectors and FAT length.
	if !allZero(boot[14:21]) || boot[22] != 0 || boot[23] != 0 {
		return nil
	}
	return &Signature{Type: "ntfs", Usage: Filesystem, UUID: fmt.Sprintf("%016X", binary.LittleEndian.Uint64(boot[72:]))}
}

func probeExFAT(r *reader) *Signature {
	boot := r.at(0, fatBootSize)
	if boot == nil || string(boot[3:11]) != "EXFAT   " || boot[fatSignatureAt] != 0x55 || boot[fatSignatureAt+1] != 0xaa ||
		!allZero(boot[11:64]) {
		return nil
	}
	s := boot[100:104]
	return &Signature{
		Type: "exfat", Usage: Filesystem, Version: fmt.Sprintf("%d.%d", boot[105], boot[104]),
		UUID: fmt.Sprintf("%02X%02X-%02X%02X", s[3], s[2], s[1], s[0]),
	}
}
