package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Ports and the group of DHCPv6 (RFC 8415, 7.1, 7.2).
const (
	dhcp6ClientPort = 546
	dhcp6ServerPort = 547
)

var allServers6 = netip.MustParseAddr("ff02::1:2")

// kernelHost6 is this machine.
type kernelHost6 struct {
	DHCP6
	leased
}

func newKernelHost6(d DHCP6) *kernelHost6 { return &kernelHost6{d, leased{d.Link, d.Carries}} }

func (h *kernelHost6) open(ctx context.Context) (wire6, net.HardwareAddr, error) {
	own, err := awaitLinkLocal(ctx, h.Link)
	if err != nil {
		return nil, nil, err
	}
	i, err := net.InterfaceByName(h.Link)
	if err != nil {
		return nil, nil, err
	}
	config := net.ListenConfig{Control: boundTo(h.Link)}
	c, err := config.ListenPacket(ctx, "udp6", netip.AddrPortFrom(own, dhcp6ClientPort).String())
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, nil, fmt.Errorf("another DHCPv6 client runs on %s (its port 546 is taken)", h.Link)
	}
	if err != nil {
		return nil, nil, err
	}
	return &udpWire{c: c, to: net.UDPAddrFromAddrPort(netip.AddrPortFrom(allServers6.WithZone(h.Link), dhcp6ServerPort)), buf: make([]byte, 64<<10)}, i.HardwareAddr, nil
}

// awaitLinkLocal waits for the address that a message comes from: it is checked for duplicates first.
func awaitLinkLocal(ctx context.Context, name string) (netip.Addr, error) {
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	var own netip.Addr
	err := Watch(watch, func(s *State) {
		if a := s.linkLocal(name); a.IsValid() && !own.IsValid() {
			own = a
			cancel()
		}
	})
	switch {
	case own.IsValid():
		return own, nil
	case err != nil:
		return own, err
	}
	return own, fmt.Errorf("%s has no link-local address yet: %w", name, context.Cause(ctx))
}

type udpWire struct {
	c   net.PacketConn
	to  net.Addr
	buf []byte
}

func (w *udpWire) send(message []byte) error {
	_, err := w.c.WriteTo(message, w.to)
	return err
}

func (w *udpWire) receive() ([]byte, error) {
	n, _, err := w.c.ReadFrom(w.buf)
	if err != nil {
		return nil, err
	}
	return slices.Clone(w.buf[:n]), nil
}

func (w *udpWire) close() { w.c.Close() }

// apply gives the address the lifetimes of the lease, and waits for the end of duplicate address detection.
func (h *kernelHost6) apply(ctx context.Context, l, old Lease6) error {
	dev, err := netlink.LinkByName(h.Link)
	if err != nil {
		return fmt.Errorf("DHCPv6 on %s: %w", h.Link, err)
	}
	carries := h.disk() != ""
	if old.Address.IsValid() && old.Address != l.Address && !carries {
		h.remove(old)
	}
	left := l.Ends() - Boottime()
	if left <= 0 {
		return fmt.Errorf("DHCPv6 on %s: the lease of %s has run out", h.Link, l.Address)
	}
	a := &netlink.Addr{IPNet: ipnet(l.Prefix())}
	if !carries {
		a.ValidLft = int((left + time.Second - 1) / time.Second)
		a.PreferedLft = int(min(max(l.Obtained+l.Preferred-Boottime(), 0), left) / time.Second)
	}
	if err := netlink.AddrReplace(dev, a); err != nil {
		return fmt.Errorf("DHCPv6 on %s: add %s: %w", h.Link, l.Address, err)
	}
	err = settle(ctx, Config{Name: h.Link, Addresses: []netip.Prefix{l.Prefix()}}, dev.Attrs().Index, func(string) {})
	if err == nil {
		// The kernel marks only an address without an end as a duplicate; one with a lifetime it takes away
		// (addrconf_dad_stop, net/ipv6/addrconf.c).
		var s *State
		if s, err = Read(); err == nil && !s.Has(dev.Attrs().Index, l.Prefix()) {
			err = &DuplicateError{Link: h.Link, Address: l.Address}
		}
	}
	if errors.As(err, new(*DuplicateError)) {
		h.remove(l)
	}
	return err
}

func (h *kernelHost6) hold(l Lease6) string {
	if !l.Address.IsValid() {
		return ""
	}
	return h.leased.hold(l.Prefix())
}

func (h *kernelHost6) remove(l Lease6) {
	if l.Address.IsValid() {
		h.leased.remove(l.Prefix())
	}
}
