package block

import (
	"encoding/hex"
	"fmt"
	"strings"

	"initd/hw/sysfs"
)

// SCSI standard INQUIRY data and vital product data pages 80h and 83h (SPC-4, sections 6.4.2 and 7.8).
const (
	inquiryVendorAt    = 8
	inquiryVendorSize  = 8
	inquiryProductAt   = 16
	inquiryProductSize = 16

	vpdHeaderSize = 4
	vpdSerial     = 0x80
	vpdDevice     = 0x83

	designatorHeaderSize = 4
	designatorMax        = 128

	codeSetBinary = 1

	associationLUN = 0

	designatorVendor = 0
	designatorT10    = 1
	designatorEUI64  = 2
	designatorNAA    = 3
	designatorName   = 8

	naaExtended           = 2
	naaLocal              = 3
	naaRegistered         = 5
	naaRegisteredExtended = 6
)

// scsiIdentity is what the pages say of a logical unit, as sg_inq --export shows it.
type scsiIdentity struct {
	vendor, product, serial                string
	naaRegExt, naaReg, naaExt, naaLoc, eui string
	name, t10, ata, vendorID               string
}

// scsiIDs follows 55-scsi-sg3_id.rules, 58-scsi-sg3_symlink.rules and the SCSI part of 60-persistent-storage.rules. The
// latter alone, with its scsi_id and ata_id programs, gives a subset of these names.
func scsiIDs(unit sysfs.Device) []string {
	id := readSCSI(unit.Raw("inquiry"), unit.Raw("vpd_pg80"), unit.Raw("vpd_pg83"))
	product := id.vendor + "_" + id.product + "_"
	var ids []string
	add := func(prefix, value string) {
		if value != "" {
			ids = append(ids, link(prefix, value))
		}
	}
	if id.serial != "" {
		add("scsi-S", product+id.serial)
	}
	add("scsi-3", id.naaRegExt)
	add("scsi-3", id.naaReg)
	add("scsi-3", id.naaExt)
	add("scsi-2", id.eui)
	add("scsi-8", id.name)
	add("scsi-1", id.t10)
	add("scsi-3", id.naaLoc)
	if id.vendorID != "" {
		add("scsi-0", product+id.vendorID)
	}
	add("ata-", id.ata)
	for _, naa := range []string{id.naaRegExt, id.naaReg, id.naaExt, id.naaLoc} {
		if naa != "" {
			add("wwn-0x", naa)
			break
		}
	}
	return ids
}

// readSCSI parses the pages; what is missing or damaged stays empty.
func readSCSI(inquiry, page80, page83 []byte) scsiIdentity {
	var id scsiIdentity
	if len(inquiry) >= inquiryProductAt+inquiryProductSize {
		id.vendor = underscores(string(inquiry[inquiryVendorAt:][:inquiryVendorSize]))
		id.product = underscores(string(inquiry[inquiryProductAt:][:inquiryProductSize]))
	}
	id.serial = printable(vpd(page80, vpdSerial))
	rest := vpd(page83, vpdDevice)
	for len(rest) >= designatorHeaderSize {
		length := int(rest[3])
		if len(rest) < designatorHeaderSize+length {
			break
		}
		if association := rest[1] >> 4 & 3; association == associationLUN {
			id.designator(rest[0]&0xf, rest[1]&0xf, rest[designatorHeaderSize:][:length])
		}
		rest = rest[designatorHeaderSize+length:]
	}
	return id
}

func (id *scsiIdentity) designator(codeSet, kind byte, value []byte) {
	if len(value) == 0 || len(value) > designatorMax {
		return
	}
	text := printable(value)
	if codeSet == codeSetBinary {
		text = hex.EncodeToString(value)
	}
	switch kind {
	case designatorVendor:
		id.vendorID = text
	case designatorT10:
		id.t10 = text
		// SAT has the model and serial number of an ATA disk here.
		if ata, ok := strings.CutPrefix(text, "ATA_"); ok {
			id.ata = ata
		}
	case designatorEUI64:
		id.eui = hex.EncodeToString(value)
	case designatorNAA:
		text = hex.EncodeToString(value)
		switch value[0] >> 4 {
		case naaExtended:
			id.naaExt = text
		case naaLocal:
			id.naaLoc = text
		case naaRegistered:
			id.naaReg = text
		case naaRegisteredExtended:
			id.naaRegExt = text
		}
	case designatorName:
		id.name = printable(value)
	}
}

// vpd is a page's payload, nil if it is not that page.
func vpd(page []byte, code byte) []byte {
	if len(page) < vpdHeaderSize || page[1] != code {
		return nil
	}
	length := int(page[2])<<8 | int(page[3])
	return page[vpdHeaderSize:][:min(length, len(page)-vpdHeaderSize)]
}

// printable is a text field as sg_inq exports it: without white space, other bytes outside udev's set as \xNN.
func printable(value []byte) string {
	s, _, _ := strings.Cut(string(value), "\x00")
	s = underscores(s)
	var out strings.Builder
	for i := range len(s) {
		if allowedByte(s[i], "") {
			out.WriteByte(s[i])
		} else {
			fmt.Fprintf(&out, `\x%02x`, s[i])
		}
	}
	return out.String()
}
