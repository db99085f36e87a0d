// Package acpi builds the boot firmware tables that a VM is given (QEMU's -acpitable file=FILE): an iBFT, an NBFT.
//
// It owns their layout, written from the specifications a second time and apart from hw/firmware, which reads them: a
// mistake in one shows in the other. It can also leave a table broken in the ways that firmware does.
package acpi

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"path/filepath"
)

var le = binary.LittleEndian

// seal fills in the header of a table: signature, length, whose it is, and the checksum.
func seal(signature string, b []byte) []byte {
	copy(b, signature)
	le.PutUint32(b[4:], uint32(len(b)))
	b[8] = 1
	copy(b[10:], "INITD ")
	copy(b[16:], "TESTTABL")
	le.PutUint32(b[24:], 1)
	copy(b[28:], "TEST")
	le.PutUint32(b[32:], 1)
	b[9] = 0
	var sum byte
	for _, x := range b {
		sum += x
	}
	b[9] = -sum
	return b
}

// Write puts a table into a file below dir and returns the argument of QEMU's -acpitable for it.
func Write(dir, name string, table []byte) (argument string, err error) {
	file := filepath.Join(dir, name+".acpi")
	return "file=" + file, os.WriteFile(file, table, 0o600)
}

// ip is an address in 16 bytes, IPv4 mapped; an invalid one is all zeros.
func ip(a netip.Addr) []byte {
	if !a.IsValid() {
		return make([]byte, 16)
	}
	b := a.As16()
	return b[:]
}

func mac(s string) []byte {
	b, err := net.ParseMAC(s)
	if err != nil {
		panic(err) // a test's own constant
	}
	return b
}
