package block

import (
	"fmt"
	"slices"
	"strings"

	"initd/hw/sysfs"
)

// identify computes the links in by-id and by-path of a device; whole is its disk, which for a whole disk is itself.
func identify(whole sysfs.Device, d Device) (ids, paths []string) {
	if !d.named() {
		return nil, nil
	}
	switch {
	case d.DM != nil:
		return mapperIDs(*d.DM), nil
	case d.isMD():
		return nil, nil // an array's names are in the superblock of its members: World adds them
	}
	suffix := ""
	if d.Partition != 0 {
		suffix = fmt.Sprintf("-part%d", trailing(d.Name))
	}
	for _, id := range diskIDs(whole) {
		ids = append(ids, id+suffix)
	}
	for _, path := range diskPaths(whole) {
		paths = append(paths, path+suffix)
	}
	slices.Sort(ids)
	slices.Sort(paths)
	return slices.Compact(ids), slices.Compact(paths)
}

// mapperIDs follows 60-persistent-storage-dm.rules.
func mapperIDs(m DM) []string {
	var ids []string
	if m.Name != "" {
		ids = append(ids, link("dm-name-", m.Name))
	}
	if m.UUID != "" {
		ids = append(ids, link("dm-uuid-", m.UUID))
	}
	// kpartx_id: a multipath device, and a partition on one, also answers to the names of its legs.
	uuid, suffix := m.UUID, ""
	if n := m.partition(); n != 0 {
		_, uuid, _ = strings.Cut(m.UUID, "-")
		suffix = fmt.Sprintf("-part%d", n)
	}
	if wwid, ok := strings.CutPrefix(uuid, "mpath-"); ok && len(wwid) > 1 {
		ids = append(ids, link("scsi-", wwid+suffix), link("wwn-0x", wwid[1:]+suffix))
	}
	return ids
}

// diskIDs follows 60-persistent-storage.rules, and for SCSI disks the rules of sg3-utils that stand before and after it.
func diskIDs(disk sysfs.Device) []string {
	name := disk.Name()
	switch {
	case strings.HasPrefix(name, "nvme"):
		return nvmeIDs(disk)
	case strings.HasPrefix(name, "vd"):
		if serial := attribute(disk.Inherited("serial")); serial != "" {
			return []string{link("virtio-", serial)}
		}
	case strings.HasPrefix(name, "sd"):
		if scsi, ok := disk.Above("scsi", "scsi_device"); ok {
			return scsiIDs(scsi)
		}
	case strings.HasPrefix(name, "mmcblk"):
		if card, ok := disk.Above("mmc", ""); ok {
			serial, product := attribute(card.String("serial")), attribute(card.String("name"))
			if serial != "" && product != "" {
				return []string{link("mmc-", product+"_"+serial)}
			}
		}
	case strings.HasPrefix(name, "pmem"):
		if uuid := attribute(disk.Inherited("uuid")); uuid != "" {
			return []string{link("pmem-", uuid)}
		}
	}
	return nil
}

func nvmeIDs(disk sysfs.Device) []string {
	var ids []string
	if wwid := attribute(disk.String("wwid")); wwid != "" {
		ids = append(ids, link("nvme-", wwid))
	}
	model, serial := rawInherited(disk, "model"), rawInherited(disk, "serial")
	if model == "" || serial == "" {
		return ids
	}
	// string_escape=replace: each blank inside becomes an underscore, runs are not joined.
	id := replace(attribute(model)+"_"+attribute(serial), "")
	ids = append(ids, link("nvme-", id))
	if nsid := attribute(disk.Inherited("nsid")); nsid != "" {
		ids = append(ids, link("nvme-", id+"_"+nsid))
	}
	return ids
}

// rawInherited is an inherited attribute with the white space in front of it, which udev keeps.
func rawInherited(d sysfs.Device, name string) string {
	for at, ok := d, true; ok; at, ok = at.Parent() {
		if text := strings.TrimRight(string(at.Raw(name)), " \t\n\v\f\r"); text != "" {
			return text
		}
	}
	return ""
}
