package vm

import (
	"encoding/binary"
	"net/netip"
)

// Ethernet types (IEEE 802 numbers) and IP protocols (IANA) that frames are matched by.
const (
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
	protoTCP  = 6
	protoUDP  = 17
)

// EtherType of the frame; 0 if it is too short to have one.
func (f Frame) EtherType() uint16 {
	if len(f.Data) < 14 {
		return 0
	}
	return binary.BigEndian.Uint16(f.Data[12:])
}

// etherVLAN is the tag of IEEE 802.1Q.
const etherVLAN = 0x8100

// OnVLAN matches frames with the tag of a VLAN.
func OnVLAN(id int) func(Frame) bool {
	return func(f Frame) bool {
		return f.EtherType() == etherVLAN && len(f.Data) >= 16 && int(binary.BigEndian.Uint16(f.Data[14:])&0xfff) == id
	}
}

// packet is what frames are matched by above Ethernet.
type packet struct {
	src, dst         netip.Addr
	proto            uint8
	srcPort, dstPort uint16 // TCP and UDP
}

// ip reads the IP header (RFC 791, RFC 8200; IPv6 extension headers are not followed) and the ports.
func (f Frame) ip() (packet, bool) {
	if len(f.Data) < 14 {
		return packet{}, false
	}
	var p packet
	body := f.Data[14:]
	switch f.EtherType() {
	case etherIPv4:
		if len(body) < 20 {
			return packet{}, false
		}
		p.src, _ = netip.AddrFromSlice(body[12:16])
		p.dst, _ = netip.AddrFromSlice(body[16:20])
		p.proto = body[9]
		body = body[min(len(body), int(body[0]&0x0f)*4):]
	case etherIPv6:
		if len(body) < 40 {
			return packet{}, false
		}
		p.src, _ = netip.AddrFromSlice(body[8:24])
		p.dst, _ = netip.AddrFromSlice(body[24:40])
		p.proto = body[6]
		body = body[40:]
	default:
		return packet{}, false
	}
	if (p.proto == protoTCP || p.proto == protoUDP) && len(body) >= 4 {
		p.srcPort, p.dstPort = binary.BigEndian.Uint16(body), binary.BigEndian.Uint16(body[2:])
	}
	return p, true
}

// Between matches all frames between two machines, in both directions.
func Between(a, b string) func(Frame) bool {
	return func(f Frame) bool { return f.From == a && f.To == b || f.From == b && f.To == a }
}

// To matches frames to one machine.
func To(machine string) func(Frame) bool {
	return func(f Frame) bool { return f.To == machine }
}

// ToAddr matches IP packets (v4 and v6) to an address.
func ToAddr(addr netip.Addr) func(Frame) bool {
	return func(f Frame) bool {
		p, ok := f.ip()
		return ok && p.dst == addr
	}
}

// ToPort matches TCP and UDP packets to an address and port.
func ToPort(addr netip.AddrPort) func(Frame) bool {
	return func(f Frame) bool {
		p, ok := f.ip()
		return ok && p.dst == addr.Addr() && p.dstPort == addr.Port() && p.dstPort != 0
	}
}
