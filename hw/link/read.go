package link

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Read asks the kernel for the whole state.
func Read() (*State, error) {
	s := &State{Failed: map[netip.Addr]bool{}}
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		s.Interfaces = append(s.Interfaces, interfaceOf(l))
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if p, ok := prefixOf(a.IPNet.IP, a.IPNet.Mask); ok {
			s.Addresses = append(s.Addresses, Address{
				Index: a.LinkIndex, Prefix: p,
				Tentative: a.Flags&unix.IFA_F_TENTATIVE != 0, Duplicate: a.Flags&unix.IFA_F_DADFAILED != 0,
				LinkLocal: p.Addr().IsLinkLocalUnicast(),
			})
		}
	}
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		s.Routes = append(s.Routes, routesOf(r)...)
	}
	neighbours, err := netlink.NeighList(0, 0)
	if err != nil {
		return nil, fmt.Errorf("list neighbours: %w", err)
	}
	for _, n := range neighbours {
		if a, ok := netip.AddrFromSlice(n.IP); ok && n.State == netlink.NUD_FAILED {
			s.Failed[a.Unmap()] = true
		}
	}
	return s, nil
}

func interfaceOf(l netlink.Link) Interface {
	a := l.Attrs()
	return Interface{
		Index: a.Index, Name: a.Name, MAC: a.HardwareAddr.String(), MTU: a.MTU,
		Up: a.RawFlags&unix.IFF_UP != 0, Carrier: a.RawFlags&unix.IFF_LOWER_UP != 0,
		Loop: a.RawFlags&unix.IFF_LOOPBACK != 0,
		Path: devicePath(a.Name), Driver: driver(a.Name),
	}
}

// devicePath is udev's ID_PATH of an interface: the PCI device that its own
// device hangs below (udev-builtin-path_id.c; a virtio device adds nothing).
func devicePath(name string) string {
	dev, err := filepath.EvalSymlinks(filepath.Join("/sys/class/net", name, "device"))
	if err != nil {
		return ""
	}
	for ; len(dev) > len("/sys/devices"); dev = filepath.Dir(dev) {
		base := filepath.Base(dev)
		sub, err := os.Readlink(filepath.Join(dev, "subsystem"))
		if err != nil {
			continue
		}
		switch filepath.Base(sub) {
		case "pci":
			return "pci-" + base
		case "platform":
			return "platform-" + base
		}
	}
	return ""
}

func driver(name string) string {
	to, err := os.Readlink(filepath.Join("/sys/class/net", name, "device/driver"))
	if err != nil {
		return ""
	}
	return filepath.Base(to)
}

func prefixOf(ip, mask []byte) (netip.Prefix, bool) {
	a, ok := netip.AddrFromSlice(ip)
	if !ok {
		return netip.Prefix{}, false
	}
	a = a.Unmap()
	ones := 0
	for _, b := range mask {
		for ; b&0x80 != 0; b <<= 1 {
			ones++
		}
	}
	if len(mask) == 16 && a.Is4() {
		ones -= 96
	}
	p := netip.PrefixFrom(a, ones)
	return p, p.IsValid()
}

// routesOf is one Route for each next hop.
func routesOf(r netlink.Route) []Route {
	out := Route{Index: r.LinkIndex, Metric: r.Priority}
	switch r.Type {
	case unix.RTN_UNICAST, 0:
	case unix.RTN_UNREACHABLE, unix.RTN_PROHIBIT, unix.RTN_BLACKHOLE:
		out.Refused = true
	default:
		return nil
	}
	switch {
	case r.Dst != nil:
		p, ok := prefixOf(r.Dst.IP, r.Dst.Mask)
		if !ok {
			return nil
		}
		out.To = p
	case r.Family == netlink.FAMILY_V6:
		out.To = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	default:
		out.To = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	if a, ok := netip.AddrFromSlice(r.Gw); ok {
		out.Via = a.Unmap()
	}
	if a, ok := netip.AddrFromSlice(r.Src); ok {
		out.Source = a.Unmap()
	}
	if len(r.MultiPath) == 0 {
		return []Route{out}
	}
	var list []Route
	for _, hop := range r.MultiPath {
		one := out
		one.Index = hop.LinkIndex
		if a, ok := netip.AddrFromSlice(hop.Gw); ok {
			one.Via = a.Unmap()
		}
		list = append(list, one)
	}
	return list
}

// trimmed names a prefix as ip(8) does.
func trimmed(p netip.Prefix) string { return strings.TrimSuffix(p.String(), "/0") }
