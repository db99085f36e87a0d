package firmware

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// acpiHeader is the size of the header of every ACPI table (ACPI 6.5, 5.2.6).
const acpiHeader = 36

// ErrTable is a table of which nothing can be used.
var ErrTable = errors.New("the table cannot be used")

// acpiTable checks signature, length and checksum, and returns the bytes that the table says are its.
func acpiTable(b []byte, signature string) ([]byte, error) {
	if len(b) < acpiHeader {
		return nil, fmt.Errorf("%w: %d bytes are less than a header", ErrTable, len(b))
	}
	if !strings.EqualFold(string(b[:4]), signature) {
		return nil, fmt.Errorf("%w: its signature is %q, not %q", ErrTable, b[:4], signature)
	}
	length := binary.LittleEndian.Uint32(b[4:])
	if length < acpiHeader || length > maxTable || int(length) > len(b) {
		return nil, fmt.Errorf("%w: it says that it has %d bytes, and there are %d", ErrTable, length, len(b))
	}
	b = b[:length]
	var sum byte
	for _, x := range b {
		sum += x
	}
	if sum != 0 {
		return nil, fmt.Errorf("%w: its checksum is wrong (the firmware wrote it badly, or it was cut off)", ErrTable)
	}
	return b, nil
}

// within returns b[offset:offset+size]; false if the table does not have that.
func within(b []byte, offset, size int) ([]byte, bool) {
	if offset < 0 || size < 0 || offset > len(b) || size > len(b)-offset {
		return nil, false
	}
	return b[offset : offset+size], true
}

// maxText bounds a text of a table: an NQN has 223 bytes at most (NVMe Base 2.0, 4.5), an iSCSI name too (RFC 7143, 4.2.7.1).
const maxText = 1024

// textOf is a text without its NULs; what could not be shown in a report, or would end a line of a file, is no text.
func textOf(b []byte) (string, error) {
	s := strings.TrimRight(string(b), "\x00 ")
	if len(s) > maxText {
		return "", fmt.Errorf("a text of %d bytes is too long", len(s))
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return "", fmt.Errorf("a text has the byte %#02x in it", c)
		}
	}
	return s, nil
}

// addressOf reads 16 bytes, an IPv4 address mapped into them; the unspecified ones mean that there is none.
func addressOf(b []byte) netip.Addr {
	if len(b) == 4 {
		b = append(make([]byte, 10, 16), 0xff, 0xff, b[0], b[1], b[2], b[3])
	}
	if len(b) != 16 {
		return netip.Addr{}
	}
	a := netip.AddrFrom16([16]byte(b)).Unmap()
	if a.IsUnspecified() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return netip.Addr{}
	}
	return a
}

// prefixOf joins an address and the length of its prefix; invalid if there is no address.
func prefixOf(a netip.Addr, bits int) (netip.Prefix, error) {
	if !a.IsValid() {
		return netip.Prefix{}, nil
	}
	if a.IsMulticast() || a.IsLoopback() {
		return netip.Prefix{}, fmt.Errorf("%s cannot be the address of an interface", a)
	}
	if a.Is4() && bits > 96 && bits <= 128 { // some count the bits of the mapped address
		bits -= 96
	}
	if bits < 1 || bits > a.BitLen() {
		return netip.Prefix{}, fmt.Errorf("the prefix of %s has %d bits", a, bits)
	}
	return netip.PrefixFrom(a, bits), nil
}

func macOf(b []byte) string {
	if len(b) != 6 || [6]byte(b) == [6]byte{} {
		return ""
	}
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5])
}

// servers leaves out those that there are not.
func servers(list ...netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, a := range list {
		if a.IsValid() && !a.IsMulticast() && (len(out) == 0 || out[0] != a) {
			out = append(out, a)
		}
	}
	return out
}

// maxVLAN is the last of 802.1Q that can be used.
const maxVLAN = 4094

func vlanOf(v uint16) (int, error) {
	id := int(v & 0xfff)
	if id > maxVLAN {
		return 0, fmt.Errorf("the VLAN %d does not exist", id)
	}
	return id, nil
}
