package link

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// ARP for IPv4 over Ethernet (RFC 826).
const (
	arpSize       = 28
	arpRequest    = 1
	arpEthernet   = 1
	arpIPv4       = 0x0800
	arpProbeCount = 3 // PROBE_NUM, RFC 5227, 1.1
)

// arpPacket is a request or a reply.
type arpPacket struct {
	op         uint16
	senderMAC  net.HardwareAddr
	sender     netip.Addr
	targetAddr netip.Addr
}

func (p arpPacket) bytes() []byte {
	b := make([]byte, 0, arpSize)
	b = binary.BigEndian.AppendUint16(b, arpEthernet)
	b = binary.BigEndian.AppendUint16(b, arpIPv4)
	b = append(b, 6, 4)
	b = binary.BigEndian.AppendUint16(b, p.op)
	b = append(b, p.senderMAC...)
	b = append(b, p.sender.AsSlice()...)
	b = append(b, 0, 0, 0, 0, 0, 0)
	return append(b, p.targetAddr.AsSlice()...)
}

func parseARP(b []byte) (arpPacket, bool) {
	if len(b) < arpSize || binary.BigEndian.Uint16(b) != arpEthernet || binary.BigEndian.Uint16(b[2:]) != arpIPv4 || b[4] != 6 || b[5] != 4 {
		return arpPacket{}, false
	}
	return arpPacket{
		op: binary.BigEndian.Uint16(b[6:]), senderMAC: net.HardwareAddr(bytes.Clone(b[8:14])),
		sender: netip.AddrFrom4([4]byte(b[14:18])), targetAddr: netip.AddrFrom4([4]byte(b[24:28])),
	}, true
}

// conflict tells whether p shows that a machine other than mac has, or is about to take, address (RFC 5227, 2.1.1).
func (p arpPacket) conflict(address netip.Addr, mac net.HardwareAddr) bool {
	if bytes.Equal(p.senderMAC, mac) {
		return false
	}
	return p.sender == address || p.op == arpRequest && p.sender.IsUnspecified() && p.targetAddr == address
}

func openARP(name string) (*packetSocket, error) {
	return openPacketSocket(name, unix.ETH_P_ARP, []bpf.Instruction{bpf.RetConstant{Val: 1 << 16}})
}

// Probe asks on an interface, which is up, whether another machine has address, and listens for wait. The answer is that
// machine's MAC, nil if nobody has it. RFC 5227 wants 6 s; networks that answer at all answer within milliseconds.
func Probe(ctx context.Context, name string, address netip.Addr, wait time.Duration) (net.HardwareAddr, error) {
	s, err := openARP(name)
	if err != nil {
		return nil, fmt.Errorf("probe %s on %s: %w", address, name, err)
	}
	owners := make(chan net.HardwareAddr, 1)
	go func() {
		defer close(owners)
		buf := make([]byte, 1500)
		for {
			b, _, err := s.receive(buf)
			if err != nil {
				return // closed
			}
			if p, ok := parseARP(b); ok && p.conflict(address, s.mac) {
				owners <- p.senderMAC
				return
			}
		}
	}()
	defer func() {
		s.close()
		for range owners {
		}
	}()
	probe := arpPacket{op: arpRequest, senderMAC: s.mac, sender: netip.IPv4Unspecified(), targetAddr: address}.bytes()
	again := time.NewTicker(max(wait/arpProbeCount, time.Millisecond))
	defer again.Stop()
	end := time.NewTimer(wait)
	defer end.Stop()
	for {
		// ENOBUFS: there is a carrier, and no way out yet, as on a bond whose switch does not speak LACP (bond_start_xmit drops).
		if err := s.broadcast(probe); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return nil, fmt.Errorf("probe %s on %s: %w", address, name, err)
		}
		select {
		case owner, ok := <-owners:
			if !ok {
				return nil, fmt.Errorf("probe %s on %s: the socket broke", address, name)
			}
			return owner, nil
		case <-again.C:
		case <-end.C:
			return nil, nil
		case <-ctx.Done():
			return nil, fmt.Errorf("probe %s on %s: %w", address, name, context.Cause(ctx))
		}
	}
}

// Announce tells everybody on the link that address is here now (RFC 5227, 2.3), for switches and caches that knew it
// elsewhere.
func Announce(name string, address netip.Addr) error {
	s, err := openARP(name)
	if err != nil {
		return fmt.Errorf("announce %s on %s: %w", address, name, err)
	}
	defer s.close()
	if err := s.broadcast(arpPacket{op: arpRequest, senderMAC: s.mac, sender: address, targetAddr: address}.bytes()); err != nil {
		return fmt.Errorf("announce %s on %s: %w", address, name, err)
	}
	return nil
}
