// Package network gives a peer machine its addresses: links found by MAC
// address, static addresses and routes, ready only when duplicate address
// detection is through.
//
// It owns the links of a machine that has no other network configuration, and
// changes nothing back. Configuration of real appliances is hw/link's.
package network

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// dadGuard bounds duplicate address detection: RFC 4862 takes about 2 s with the kernel's defaults.
const dadGuard = 30 * time.Second

// Link is one interface, found by its MAC address.
type Link struct {
	MAC       string   `json:"mac"`
	Addresses []string `json:"addresses"` // in CIDR notation
	MTU       int      `json:"mtu,omitempty"`
	// VLANs of it by their number, with addresses in CIDR notation; they are called vlanNUMBER. The module 8021q is needed.
	VLANs map[int][]string `json:"vlans,omitempty"`
	// Bond makes a bond of that name of it alone, with LACP. The module bonding is needed.
	Bond   string  `json:"bond,omitempty"`
	Routes []Route `json:"routes,omitempty"`
}

// Route is a static route; To is CIDR, Via an address.
type Route struct {
	To  string `json:"to"`
	Via string `json:"via"`
}

// Up configures lo and all links, and returns when each address may be used.
// The names of the links come back in their order.
func Up(ctx context.Context, links []Link) ([]string, error) {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, fmt.Errorf("find lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return nil, fmt.Errorf("set lo up: %w", err)
	}
	// Subscribed before any address is set, so that no end of a detection is missed.
	updates, stop := make(chan netlink.AddrUpdate, 64), make(chan struct{})
	defer close(stop)
	if err := netlink.AddrSubscribeWithOptions(updates, stop, netlink.AddrSubscribeOptions{}); err != nil {
		return nil, fmt.Errorf("subscribe to addresses: %w", err)
	}
	pending := map[string]bool{}
	var names []string
	for _, l := range links {
		name, err := l.up(pending)
		if err != nil {
			return nil, fmt.Errorf("link %s: %w", l.MAC, err)
		}
		names = append(names, name)
	}
	if err := await(ctx, updates, pending); err != nil {
		return nil, err
	}
	for _, l := range links {
		for _, r := range l.Routes {
			if err := r.add(); err != nil {
				return nil, err
			}
		}
	}
	return names, nil
}

func (l Link) up(pending map[string]bool) (string, error) {
	dev, err := byMAC(l.MAC)
	if err != nil {
		return "", err
	}
	if l.MTU > 0 {
		if err := netlink.LinkSetMTU(dev, l.MTU); err != nil {
			return "", fmt.Errorf("set MTU %d: %w", l.MTU, err)
		}
	}
	if l.Bond != "" {
		if dev, err = bondOf(dev, l.Bond); err != nil {
			return "", fmt.Errorf("bond %s: %w", l.Bond, err)
		}
	}
	if err := netlink.LinkSetUp(dev); err != nil {
		return "", fmt.Errorf("set up: %w", err)
	}
	if err := addAddresses(dev, l.Addresses, pending); err != nil {
		return "", err
	}
	for id, addresses := range l.VLANs {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.ParentIndex = fmt.Sprintf("vlan%d", id), dev.Attrs().Index
		v := &netlink.Vlan{LinkAttrs: attrs, VlanId: id, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q}
		if err := netlink.LinkAdd(v); err != nil {
			return "", fmt.Errorf("VLAN %d: %w", id, err)
		}
		if err := netlink.LinkSetUp(v); err != nil {
			return "", fmt.Errorf("VLAN %d: set up: %w", id, err)
		}
		if err := addAddresses(v, addresses, pending); err != nil {
			return "", fmt.Errorf("VLAN %d: %w", id, err)
		}
	}
	return dev.Attrs().Name, nil
}

// bondOf makes a bond of one link.
func bondOf(member netlink.Link, name string) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	b := netlink.NewLinkBond(attrs)
	b.Mode, b.LacpRate, b.Miimon = netlink.BOND_MODE_802_3AD, netlink.BOND_LACP_RATE_FAST, 100
	if err := netlink.LinkAdd(b); err != nil {
		return nil, err
	}
	return b, netlink.LinkSetMaster(member, b)
}

func addAddresses(dev netlink.Link, addresses []string, pending map[string]bool) error {
	for _, a := range addresses {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			return fmt.Errorf("address %q: want ADDRESS/BITS: %w", a, err)
		}
		if addr.IP.To4() == nil {
			pending[addr.IP.String()] = true
		}
		if err := netlink.AddrAdd(dev, addr); err != nil {
			return fmt.Errorf("add %s: %w", a, err)
		}
	}
	return nil
}

func byMAC(mac string) (netlink.Link, error) {
	all, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	var have []string
	for _, l := range all {
		if strings.EqualFold(l.Attrs().HardwareAddr.String(), mac) {
			return l, nil
		}
		have = append(have, l.Attrs().HardwareAddr.String())
	}
	return nil, fmt.Errorf("no interface has this MAC address; there are %v", have)
}

// await returns when no address in pending is tentative any more (RFC 4862, section 5.4).
func await(ctx context.Context, updates <-chan netlink.AddrUpdate, pending map[string]bool) error {
	ctx, cancel := context.WithTimeout(ctx, dadGuard)
	defer cancel()
	for len(pending) > 0 {
		select {
		case <-ctx.Done():
			return fmt.Errorf("duplicate address detection of %v: %w", pending, ctx.Err())
		case u, ok := <-updates:
			ip := u.LinkAddress.IP.String()
			switch {
			case !ok:
				return fmt.Errorf("the kernel's news of addresses ended")
			case !u.NewAddr || !pending[ip]:
			case u.Flags&unix.IFA_F_DADFAILED != 0:
				return fmt.Errorf("address %s is taken by another machine", ip)
			case u.Flags&unix.IFA_F_TENTATIVE == 0:
				delete(pending, ip)
			}
		}
	}
	return nil
}

func (r Route) add() error {
	_, to, err := net.ParseCIDR(r.To)
	if err != nil {
		return fmt.Errorf("route to %q: want ADDRESS/BITS: %w", r.To, err)
	}
	via := net.ParseIP(r.Via)
	if via == nil {
		return fmt.Errorf("route to %s via %q: want an address", r.To, r.Via)
	}
	if err := netlink.RouteAdd(&netlink.Route{Dst: to, Gw: via}); err != nil {
		return fmt.Errorf("route to %s via %s: %w", r.To, r.Via, err)
	}
	return nil
}
