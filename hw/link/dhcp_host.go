package link

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// kernelHost is this machine.
type kernelHost struct {
	DHCP
	leased
}

func newKernelHost(d DHCP) *kernelHost { return &kernelHost{d, leased{d.Link, d.Carries}} }

func (h *kernelHost) open() (wire, net.HardwareAddr, error) {
	s, err := openPacketSocket(h.Link, unix.ETH_P_IP, dhcpFilter())
	if err != nil {
		return nil, nil, err
	}
	return &packetWire{s: s, link: h.Link, buf: make([]byte, 64<<10)}, s.mac, nil
}

// packetWire is the wire of an interface, configured or not.
type packetWire struct {
	s    *packetSocket
	link string
	buf  []byte
	// udp, once it is there, has the client's port, so that the kernel does not answer the server that nobody is there.
	udp *net.UDPConn
}

func (w *packetWire) broadcast(message []byte, from netip.Addr) error {
	return w.s.broadcast(frame(message, from))
}

func (w *packetWire) receive() ([]byte, error) {
	for {
		b, checked, err := w.s.receive(w.buf)
		if err != nil {
			return nil, err
		}
		if message, _, err := unframe(b, checked); err == nil {
			return slices.Clone(message), nil
		}
	}
}

func (w *packetWire) unicast(message []byte, from, to netip.Addr) error {
	if w.udp != nil {
		w.udp.Close()
	}
	d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, dhcpClientPort)), Control: boundTo(w.link)}
	c, err := d.Dial("udp4", netip.AddrPortFrom(to, dhcpServerPort).String())
	if err != nil {
		return err
	}
	w.udp, _ = c.(*net.UDPConn)
	_, err = c.Write(message)
	return err
}

func (w *packetWire) close() {
	if w.udp != nil {
		w.udp.Close()
	}
	w.s.close()
}

func (h *kernelHost) probe(ctx context.Context, address netip.Addr) (net.HardwareAddr, error) {
	if h.Probe <= 0 {
		return nil, nil
	}
	return Probe(ctx, h.Link, address, h.Probe)
}

// apply gives the address the lifetime of the lease, so that it ends with it even if nobody is there any more.
func (h *kernelHost) apply(l, old Lease) error {
	dev, err := netlink.LinkByName(h.Link)
	if err != nil {
		return fmt.Errorf("DHCP on %s: %w", h.Link, err)
	}
	carries := h.disk() != ""
	if old.Address.IsValid() && old.Address != l.Address && !carries {
		if err := removeAddress(dev, old.Address); err != nil {
			return fmt.Errorf("DHCP on %s: remove %s: %w", h.Link, old.Address, err)
		}
	}
	left := (l.Ends() - Boottime() + time.Second - 1) / time.Second
	if left <= 0 {
		return fmt.Errorf("DHCP on %s: the lease of %s has run out", h.Link, l.Address.Addr())
	}
	if carries {
		left = 0 // for ever
	}
	if err := addAddress(dev, l.Address, int(left)); err != nil {
		return fmt.Errorf("DHCP on %s: add %s: %w", h.Link, l.Address, err)
	}
	if h.MTU && l.MTU != 0 && l.MTU != dev.Attrs().MTU {
		if err := netlink.LinkSetMTU(dev, l.MTU); err != nil {
			return fmt.Errorf("DHCP on %s: set MTU %d: %w", h.Link, l.MTU, err)
		}
	}
	for _, r := range old.Routes {
		if old.Address == l.Address && !slices.Contains(l.Routes, r) {
			_ = netlink.RouteDel(h.route(dev, old, r)) // gone already is fine, and what remains is only one too many
		}
	}
	for _, r := range onLinkFirst(l.Routes) {
		if err := netlink.RouteReplace(h.route(dev, l, r)); err != nil {
			return fmt.Errorf("DHCP on %s: route to %s: %w", h.Link, trimmed(r.To), err)
		}
	}
	return nil
}

// onLinkFirst puts routes without a gateway first: a gateway of another one may be within.
func onLinkFirst(list []LeaseRoute) []LeaseRoute {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b LeaseRoute) int {
		switch {
		case a.Via.IsValid() == b.Via.IsValid():
			return 0
		case b.Via.IsValid():
			return -1
		}
		return 1
	})
	return list
}

// route has the address as its source, so that the kernel removes it with the address.
func (h *kernelHost) route(dev netlink.Link, l Lease, r LeaseRoute) *netlink.Route {
	route := &netlink.Route{
		LinkIndex: dev.Attrs().Index, Priority: h.Metric, Protocol: unix.RTPROT_DHCP,
		Dst: ipnet(r.To), Src: l.Address.Addr().AsSlice(),
	}
	if !r.Via.IsValid() {
		route.Scope = unix.RT_SCOPE_LINK
		return route
	}
	route.Gw = r.Via.AsSlice()
	if !l.Address.Masked().Contains(r.Via) || l.Address.IsSingleIP() { // a gateway beyond the subnet, as clouds have it
		route.SetFlag(netlink.FLAG_ONLINK)
	}
	return route
}

func (h *kernelHost) hold(l Lease) string { return h.leased.hold(l.Address) }

func (h *kernelHost) remove(l Lease) { h.leased.remove(l.Address) }
