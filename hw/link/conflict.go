package link

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	probeSpacing   = time.Second      // PROBE_MIN, RFC 5227, 1.1
	defendInterval = 10 * time.Second // DEFEND_INTERVAL
)

// Conflict is another machine on the link that uses an IPv4 address of this one.
type Conflict struct {
	Address netip.Addr
	Owner   net.HardwareAddr
}

// Defend watches an interface, which has these IPv4 addresses, for other machines that use one of them, until ctx ends
// (RFC 5227, 2.4): late answers to the question that Probe asked too, which is asked a few times more in the background.
// heard is told of each such machine at most once in 10 s; if it says that the address is to be defended, one announcement is
// made, and it is kept (2.4, c). An interface that is not Ethernet has no such conflicts.
func Defend(ctx context.Context, name string, addresses []netip.Addr, heard func(Conflict) (defend bool)) error {
	addresses = slices.DeleteFunc(slices.Clone(addresses), func(a netip.Addr) bool { return !a.Is4() })
	if len(addresses) == 0 {
		return nil
	}
	if i, err := net.InterfaceByName(name); err == nil && len(i.HardwareAddr) != 6 {
		return nil
	}
	s, err := openPacketSocket(name, unix.ETH_P_ARP, senders(addresses))
	if err != nil {
		return fmt.Errorf("watch the addresses of %s: %w", name, err)
	}
	ended := context.AfterFunc(ctx, s.close)
	defer func() {
		if ended() {
			s.close()
		}
	}()
	go askAgain(ctx, s, addresses)
	said := map[string]time.Time{}
	buf := make([]byte, 1500)
	for {
		b, _, err := s.receive(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watch the addresses of %s: %w", name, err)
		}
		p, ok := parseARP(b)
		if !ok || !slices.Contains(addresses, p.sender) || ours(p.senderMAC) {
			continue
		}
		key, now := p.sender.String()+" "+p.senderMAC.String(), time.Now()
		if last, ok := said[key]; ok && now.Sub(last) < defendInterval {
			continue
		}
		if len(said) >= maxConflicts {
			clear(said)
		}
		said[key] = now
		if heard(Conflict{Address: p.sender, Owner: p.senderMAC}) {
			_ = s.broadcast(arpPacket{op: arpRequest, senderMAC: s.mac, sender: p.sender, targetAddr: p.sender}.bytes())
		}
	}
}

// maxConflicts bounds what a flood of made-up senders costs.
const maxConflicts = 64

// askAgain asks whether others have the addresses, as RFC 5227, 2.1.1 does before they are taken: whoever did not answer in
// time is heard now.
func askAgain(ctx context.Context, s *packetSocket, addresses []netip.Addr) {
	t := time.NewTicker(probeSpacing)
	defer t.Stop()
	for range arpProbeCount {
		for _, a := range addresses {
			if s.broadcast(arpPacket{op: arpRequest, senderMAC: s.mac, sender: netip.IPv4Unspecified(), targetAddr: a}.bytes()) != nil {
				return
			}
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// ours tells whether an interface of this machine has that MAC: with two of them on one link, each answers for the other's
// addresses (net.ipv4.conf.*.arp_ignore is 0 by default).
func ours(mac net.HardwareAddr) bool {
	list, err := net.Interfaces()
	return err == nil && slices.ContainsFunc(list, func(i net.Interface) bool { return bytes.Equal(i.HardwareAddr, mac) })
}

// senders is a filter for ARP packets of these senders (their protocol address is at offset 14, RFC 826): a busy network
// wakes nobody.
func senders(addresses []netip.Addr) []bpf.Instruction {
	program := []bpf.Instruction{bpf.LoadAbsolute{Off: 14, Size: 4}}
	for _, a := range addresses {
		b := a.As4()
		program = append(program, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]), SkipTrue: 1},
			bpf.RetConstant{Val: 1 << 16})
	}
	return append(program, bpf.RetConstant{Val: 0})
}

// GiveUp takes an address away again, because another machine was there first.
func GiveUp(name string, p netip.Prefix) error {
	l, err := netlink.LinkByName(name)
	if err == nil {
		err = removeAddress(l, p)
	}
	if err != nil {
		return fmt.Errorf("give up %s on %s: %w", p.Addr(), name, err)
	}
	return nil
}
