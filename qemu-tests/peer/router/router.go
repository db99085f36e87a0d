// Package router is an IPv6 router for the links of test machines, in so far as a booting machine meets one: it advertises a
// prefix (RFC 4861, 4.2) and gives one address by DHCPv6 (RFC 8415).
//
// It owns what it says. It is for tests: it forwards nothing, answers no solicitation (it advertises every second), and
// gives the same address to whoever asks.
package router

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/dhcpv6/server6"
	"golang.org/x/net/ipv6"
)

// Config is a router on one link, by the interface's name.
type Config struct {
	Link string `json:"link"`
	// Prefix is advertised for addresses that machines make themselves, if it is given.
	Prefix netip.Prefix `json:"prefix,omitzero"`
	// Address is given by DHCPv6, if it is given here.
	Address netip.Addr `json:"address,omitzero"`
}

// Serve is the router until ctx ends.
func Serve(ctx context.Context, c Config) error {
	link, err := net.InterfaceByName(c.Link)
	if err != nil {
		return fmt.Errorf("router: %w", err)
	}
	failed := make(chan error, 2)
	if c.Prefix.IsValid() {
		go func() { failed <- advertise(ctx, link, c.Prefix) }()
	}
	if c.Address.IsValid() {
		s, err := server6.NewServer(c.Link, nil, func(conn net.PacketConn, to net.Addr, m dhcpv6.DHCPv6) {
			if b := answer(link, c.Address, m); b != nil {
				_, _ = conn.WriteTo(b, to) // who does not hear it asks again
			}
		})
		if err != nil {
			return fmt.Errorf("router on %s: DHCPv6: %w", c.Link, err)
		}
		context.AfterFunc(ctx, func() { s.Close() })
		go func() { failed <- s.Serve() }()
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("router on %s: %w", c.Link, err)
	}
}

// advertisement is a router advertisement with one option, the prefix (RFC 4861, 4.2 and 4.6.2). The kernel fills in the
// checksum.
func advertisement(p netip.Prefix) []byte {
	const lifetime = 1800
	b := make([]byte, 16, 48)
	b[0], b[4] = 134, 64 // its type; hops
	binary.BigEndian.PutUint16(b[6:], lifetime)
	o := make([]byte, 32)
	o[0], o[1], o[2], o[3] = 3, 4, byte(p.Bits()), 0xc0 // on the link, for addresses of one's own
	binary.BigEndian.PutUint32(o[4:], lifetime)
	binary.BigEndian.PutUint32(o[8:], lifetime)
	a := p.Masked().Addr().As16()
	copy(o[16:], a[:])
	return append(b, o...)
}

func advertise(ctx context.Context, link *net.Interface, p netip.Prefix) error {
	conn, err := net.ListenPacket("ip6:ipv6-icmp", "::")
	if err != nil {
		return err
	}
	defer conn.Close()
	pc := ipv6.NewPacketConn(conn)
	if err := pc.SetMulticastHopLimit(255); err != nil { // RFC 4861, 6.1.2
		return err
	}
	pace := time.NewTicker(time.Second)
	defer pace.Stop()
	for {
		// Without a link-local address yet, or with a cable that is out: the next one will do.
		_, _ = pc.WriteTo(advertisement(p), &ipv6.ControlMessage{IfIndex: link.Index}, &net.IPAddr{IP: net.IPv6linklocalallnodes, Zone: link.Name})
		select {
		case <-pace.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// answer to a client's message; nil for none.
func answer(link *net.Interface, address netip.Addr, m dhcpv6.DHCPv6) []byte {
	in, err := m.GetInnerMessage()
	if err != nil || in.Options.OneIANA() == nil {
		return nil
	}
	const lifetime = time.Hour
	modifiers := []dhcpv6.Modifier{
		dhcpv6.WithServerID(&dhcpv6.DUIDLL{HWType: 1, LinkLayerAddr: link.HardwareAddr}),
		dhcpv6.WithIANA(dhcpv6.OptIAAddress{IPv6Addr: address.AsSlice(), PreferredLifetime: lifetime, ValidLifetime: lifetime}),
		dhcpv6.WithIAID(in.Options.OneIANA().IaId),
	}
	var out *dhcpv6.Message
	if in.MessageType == dhcpv6.MessageTypeSolicit {
		out, err = dhcpv6.NewAdvertiseFromSolicit(in, modifiers...)
	} else {
		out, err = dhcpv6.NewReplyFromMessage(in, modifiers...)
	}
	if err != nil {
		return nil
	}
	return out.ToBytes()
}
