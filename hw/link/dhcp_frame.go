package link

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Ports of DHCP (RFC 2131, 4.1).
const (
	dhcpServerPort = 67
	dhcpClientPort = 68
)

const (
	ipv4Header = 20
	udpHeader  = 8
)

// dhcpFilter lets unfragmented UDP to the client's port through, of all that is on the link.
func dhcpFilter() []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: 9, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP, SkipTrue: 5},
		bpf.LoadAbsolute{Off: 6, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x3fff, SkipTrue: 3}, // MF and the offset
		bpf.LoadMemShift{Off: 0},
		bpf.LoadIndirect{Off: 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: dhcpClientPort, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: 1 << 16},
	}
}

// frame puts IPv4 and UDP headers before a message for everybody (RFC 791, RFC 768).
func frame(message []byte, from netip.Addr) []byte {
	b := make([]byte, ipv4Header+udpHeader, ipv4Header+udpHeader+len(message))
	b[0] = 4<<4 | ipv4Header/4
	b[1] = 0xc0 // DSCP CS6: network control
	binary.BigEndian.PutUint16(b[2:], uint16(ipv4Header+udpHeader+len(message)))
	b[8], b[9] = 64, unix.IPPROTO_UDP
	copy(b[12:], from.AsSlice())
	copy(b[16:], "\xff\xff\xff\xff")
	binary.BigEndian.PutUint16(b[10:], ^sum(0, b[:ipv4Header]))
	u := b[ipv4Header:]
	binary.BigEndian.PutUint16(u, dhcpClientPort)
	binary.BigEndian.PutUint16(u[2:], dhcpServerPort)
	binary.BigEndian.PutUint16(u[4:], uint16(udpHeader+len(message)))
	b = append(b, message...)
	check := ^sum(pseudo(b, udpHeader+len(message)), b[ipv4Header:])
	if check == 0 {
		check = 0xffff // 0 is 'none' (RFC 768)
	}
	binary.BigEndian.PutUint16(b[ipv4Header+6:], check)
	return b
}

// errFrame is a packet that is not for us, or damaged.
var errFrame = errors.New("no DHCP message")

// unframe takes the headers off; the result lies within b. Without checked the UDP checksum means nothing.
func unframe(b []byte, checked bool) (message []byte, from netip.Addr, err error) {
	if len(b) < ipv4Header+udpHeader || b[0]>>4 != 4 {
		return nil, from, errFrame
	}
	header, total := int(b[0]&0xf)*4, int(binary.BigEndian.Uint16(b[2:]))
	if header < ipv4Header || total < header+udpHeader || total > len(b) || b[9] != unix.IPPROTO_UDP ||
		binary.BigEndian.Uint16(b[6:])&0x3fff != 0 || sum(0, b[:header]) != 0xffff {
		return nil, from, errFrame
	}
	u := b[header:total]
	length := int(binary.BigEndian.Uint16(u[4:]))
	if length < udpHeader || length > len(u) || binary.BigEndian.Uint16(u) != dhcpServerPort || binary.BigEndian.Uint16(u[2:]) != dhcpClientPort {
		return nil, from, errFrame
	}
	u = u[:length]
	if checked && binary.BigEndian.Uint16(u[6:]) != 0 && sum(pseudo(b, length), u) != 0xffff {
		return nil, from, errFrame
	}
	return u[udpHeader:], netip.AddrFrom4([4]byte(b[12:16])), nil
}

// pseudo sums the pseudo header of UDP over IPv4 (RFC 768).
func pseudo(ip []byte, length int) uint32 {
	return uint32(sum(uint32(unix.IPPROTO_UDP)+uint32(length), ip[12:20]))
}

// sum is the ones' complement sum of 16-bit words (RFC 1071).
func sum(start uint32, b []byte) uint16 {
	s := start
	for ; len(b) > 1; b = b[2:] {
		s += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}
