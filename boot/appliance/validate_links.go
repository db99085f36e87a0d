package appliance

import (
	"fmt"
	"net"
	"net/netip"
)

// checkTwice refuses what two links cannot both be or have: an interface, a
// VLAN, an address.
func (n *Network) checkTwice(c *checks, at string) {
	first := map[string]string{}
	once := func(here, what, key, who, hint string) {
		if other, ok := first[key]; ok {
			c.fail(here, hint, "%s: %s is %s's already", who, what, other)
			return
		}
		first[key] = who
	}
	for i, l := range n.Links {
		here := fmt.Sprintf("%s.links[%d]", at, i)
		if !l.Virtual() {
			m := l.Match.normal()
			if m.Zero() {
				m.Name = l.Name
			}
			once(here+".match", "the interface that has "+Port{Match: m}.String(), fmt.Sprintf("match %+v", m), l.Name, "write one link, with all of the addresses")
		}
		if v := l.VLAN; v != nil {
			kind := v.Kind
			if kind == "" {
				kind = "802.1Q"
			}
			once(here+".vlan", fmt.Sprintf("VLAN %d on %s", v.ID, v.Link), fmt.Sprintf("vlan %s %d %s", kind, v.ID, v.Link), l.Name, "write one link, with all of the addresses")
		}
		for j, s := range l.Addresses {
			if p, err := netip.ParsePrefix(s); err == nil && !p.Addr().IsLinkLocalUnicast() {
				once(fmt.Sprintf("%s.addresses[%d]", here, j), p.Addr().String(), "address "+p.Addr().String(), l.Name, "take it from one of them")
			}
		}
	}
}

// normal is m with its hardware address as the kernel writes it.
func (m LinkMatch) normal() LinkMatch {
	if hw, err := net.ParseMAC(m.MAC); err == nil {
		m.MAC = hw.String()
	}
	return m
}

// checkMTUs refuses a VLAN that is to take larger packets than what it is on.
func (n *Network) checkMTUs(c *checks, at string) {
	for i, l := range n.Links {
		if l.VLAN == nil || l.MTU == 0 {
			continue
		}
		for _, below := range n.Links {
			if below.Name == l.VLAN.Link && below.MTU != 0 && below.MTU < l.MTU {
				c.fail(fmt.Sprintf("%s.links[%d].mtu", at, i), fmt.Sprintf("at most %d, or give %s more", below.MTU, below.Name),
					"mtu %d of %s is more than that of %s below it, %d", l.MTU, l.Name, below.Name, below.MTU)
			}
		}
	}
}
