package iscsi

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"initd/hw/sysfs"
)

// unit is the SCSI device of a session for a LUN, a disk or not.
func (k *Kernel) unit(session uint32, lun uint64) (dir string, ok bool) {
	real, err := k.sys.Real(fmt.Sprintf("sys/class/iscsi_session/session%d/device", session))
	if err != nil {
		return "", false
	}
	list := units(k.sys, real)
	i := slices.IndexFunc(list, func(u string) bool {
		n, err := strconv.ParseUint(u[strings.LastIndexByte(u, ':')+1:], 10, 64)
		return err == nil && slices.Contains(Addresses(lun), n)
	})
	if i < 0 {
		return "", false
	}
	return list[i], true
}

// whatIs says what a SCSI device is by its peripheral device type (SPC-5, 6.7.2), in words, and whether the kernel makes a disk of it (sd_probe,
// drivers/scsi/sd.c): of a type that is not told yet it may.
func whatIs(sys *sysfs.FS, unit string) (what string, disk bool) {
	inquiry, err := sys.Bytes(unit+"/inquiry", sysfs.MaxAttribute)
	if err == nil && len(inquiry) > 0 && inquiry[0]>>5 != 0 {
		return "no unit that is connected (peripheral qualifier " + strconv.Itoa(int(inquiry[0]>>5)) + ")", false
	}
	text, err := sys.String(unit + "/type")
	if err != nil {
		return "", true
	}
	switch text {
	case "0", "7", "14", "20": // a disk, an optical memory, a simplified disk, a zoned one
		return "", true
	case "1":
		return "a tape", false
	case "2":
		return "a printer", false
	case "3":
		return "a processor", false
	case "4":
		return "a write-once device", false
	case "5":
		return "a CD or DVD drive", false
	case "6":
		return "a scanner", false
	case "8":
		return "a medium changer", false
	case "12":
		return "the controller of a storage array", false
	case "13":
		return "an enclosure", false
	case "17":
		return "an object store", false
	case "30":
		return "a well-known logical unit", false
	}
	return "a device of type " + text, false
}
