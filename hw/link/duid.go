package link

import (
	"encoding/binary"
	"encoding/hex"
	"net"
	"strings"

	"initd/hw/sysfs"
)

// Types of DUIDs (RFC 8415, 11; RFC 6355).
const (
	duidLL   = 3
	duidUUID = 4
	ethernet = 1 // hardware type of IANA's list
)

// DUID names this machine to DHCPv6 servers. It is the same at each boot and in each root: made of the UUID of the machine
// (SMBIOS), which an initramfs sees as well as the system after it; else of /etc/machine-id; else of mac.
func DUID(sys *sysfs.FS, mac net.HardwareAddr) []byte {
	for _, file := range []string{"sys/class/dmi/id/product_uuid", "etc/machine-id"} {
		text, err := sys.String(file)
		if err != nil {
			continue
		}
		id, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
		if err != nil || len(id) != 16 || same(id) {
			continue
		}
		return append(binary.BigEndian.AppendUint16(nil, duidUUID), id...)
	}
	b := binary.BigEndian.AppendUint16(nil, duidLL)
	return append(binary.BigEndian.AppendUint16(b, ethernet), mac...)
}

// same: firmware that has no UUID says all 0 or all F.
func same(b []byte) bool {
	for _, x := range b {
		if x != b[0] {
			return false
		}
	}
	return true
}
