package media

import "encoding/binary"

// trace is a format that is known by its first bytes alone: enough to leave the medium be, not to name it.
type trace struct {
	name  string
	at    int64
	magic string
}

// traces are what libblkid knows beside the formats of Probe (libblkid/src/superblocks), without those whose magic is so short
// that other content has it by chance, and Ceph's (src/os/bluestore/BlueStore.h, "bluestore block device").
func traces() []trace {
	return []trace{
		{"a LUKS1 volume that is being encrypted anew", 0, "LUKS\xde\xad"}, // cryptsetup, src/utils_reencrypt_luks1.c, NOMAGIC
		{"BitLocker", 3, "-FVE-FS-"},
		{"bcache", 4096 + 24, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"},
		{"bcachefs", 4096 + 24, "\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"},
		{"a Ceph OSD", 0, "bluestore block device"},
		{"f2fs", 1024, "\x10\x20\xf5\xf2"},
		{"squashfs", 0, "hsqs"},
		{"erofs", 1024, "\xe2\xe1\xf5\xe0"},
		{"cramfs", 0, "\x45\x3d\xcd\x28"},
		{"romfs", 0, "-rom1fs-"},
		{"jfs", 32 << 10, "JFS1"},
		{"reiserfs", 64<<10 + 52, "ReIsEr"},
		{"reiser4", 64 << 10, "ReIsEr4"},
		{"gfs2", 64 << 10, "\x01\x16\x19\x70\x00\x00\x00\x01"},
		{"ocfs2", 1024, "OCFSV2"},
		{"ocfs2", 2048, "OCFSV2"},
		{"ocfs2", 4096, "OCFSV2"},
		{"apfs", 32, "NXSB"},
		{"hfsplus", 1024, "H+\x00\x04"},
		{"hfsplus", 1024, "HX\x00\x05"},
		{"ufs", 8192 + 1372, "\x54\x19\x01\x00"},
		{"ufs", 64<<10 + 1372, "\x19\x01\x54\x19"},
		{"udf", 32<<10 + 1, "BEA01"},
		{"VMFS", 1 << 20, "\x0d\xd0\x01\xc0"},
		{"VMFS", 1<<20 + 512, "\x5e\xf1\xab\x2f"},
		{"a disk of Oracle ASM", 32, "ORCLDISK"},
		{"dm-integrity", 0, "integrt\x00"},
		{"dm-verity", 0, "verity\x00\x00"},
		{"VDO", 0, "dmvdo001"},
		{"Stratis", 512 + 4, "!Stra0tis\x86\xff\x02^\x41rh"},
		{"a snapshot's store", 0, "SnAp\x01\x00\x00\x00"},
		{"an image of a hibernated system", 4096 - 10, "S1SUSPEND"},
		{"an image of a hibernated system", 4096 - 10, "S2SUSPEND"},
	}
}

// Trace names what else is on a medium that Probe finds nothing on, "" for nothing known. It is for whoever is about to take a
// medium as if it were empty.
func Trace(medium Medium) (string, error) {
	r := &reader{medium: medium}
	for _, t := range traces() {
		if r.magic(t.at, t.magic) {
			return t.name, nil
		}
	}
	if zfs(r) {
		return "a disk of a ZFS pool", r.err
	}
	return "", r.err
}

// zfs looks for uberblocks in the first two labels (ZFS On-Disk Specification, section 1.3): in whichever slots of the ring, which
// begins 128 KiB into a label of 256 KiB. It may be of the other byte order. Fewer than libblkid wants (superblocks/zfs.c, ZFS_WANT) are
// what wipefs leaves of a pool.
func zfs(r *reader) bool {
	const label, ring, magic, want = 256 << 10, 128 << 10, 0x00bab10c, 4
	found := 0
	for at := int64(ring); at < 2*label; at += label {
		area := r.at(at, ring)
		for i := 0; i+8 <= len(area); i += 1024 {
			if binary.LittleEndian.Uint64(area[i:]) == magic || binary.BigEndian.Uint64(area[i:]) == magic {
				found++
			}
		}
	}
	return found >= want
}
