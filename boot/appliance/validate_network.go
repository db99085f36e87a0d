package appliance

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// AddressDHCP4 stands in a link's addresses for a lease by DHCPv4.
const AddressDHCP4 = "dhcp4"

func (n *Network) check(c *checks, at string) {
	c.oneOf(at+".by", n.By, "host")
	if n.By == "host" && (len(n.Links) > 0 || len(n.Routes) > 0 || n.DNS != nil) {
		c.fail(at+".by", "leave out by, or the rest", "the host configures its network: nothing else can stand in this section")
	}
	for i, r := range n.Routes {
		here := fmt.Sprintf("%s.routes[%d]", at, i)
		if r.Link != "" && !n.hasLink(r.Link) {
			c.fail(here+".link", Suggest(r.Link, n.linkNames()), "route to %s: no link %q in this file", r.To, r.Link)
		}
	}
}

func (n *Network) linkNames() []string {
	var s []string
	for _, l := range n.Links {
		s = append(s, l.Name)
	}
	return s
}

func (n *Network) hasLink(name string) bool {
	for _, l := range n.Links {
		if l.Name == name {
			return true
		}
	}
	return false
}

func (l *Link) check(c *checks, at string) {
	if len(l.Name) > 15 || strings.ContainsAny(l.Name, "/ :") {
		c.fail(at+".name", "at most 15 characters, no space, slash or colon", "%q cannot name a link", l.Name)
	}
	if m := l.Match.MAC; m != "" {
		if hw, err := net.ParseMAC(m); err != nil || len(hw) != 6 {
			c.fail(at+".match.mac", "write it as \"52:54:00:00:00:01\"", "%q is no hardware address", m)
		}
	}
	if l.MTU != 0 && (l.MTU < 576 || l.MTU > 65535) {
		c.fail(at+".mtu", "from 576 to 65535", "mtu %d is out of range", l.MTU)
	}
	for i, s := range l.Addresses {
		if s == AddressDHCP4 {
			continue
		}
		here := fmt.Sprintf("%s.addresses[%d]", at, i)
		if _, err := netip.ParsePrefix(s); err == nil {
			continue
		}
		hint := Suggest(s, []string{AddressDHCP4})
		if a, err := netip.ParseAddr(s); err == nil {
			hint = fmt.Sprintf("write its prefix length too, such as %s/%d", a, map[bool]int{true: 24, false: 64}[a.Is4()])
		}
		c.fail(here, hint, "%q is no address with a prefix length, nor %s", s, AddressDHCP4)
	}
}

func (r *Route) check(c *checks, at string) {
	if p, err := netip.ParsePrefix(r.To); err != nil && r.To != "default" && r.To != "" {
		c.fail(at+".to", "write a prefix such as 203.0.113.0/24, or default", "%q is no destination", r.To)
	} else if err == nil && p.Masked() != p {
		c.fail(at+".to", fmt.Sprintf("write %s", p.Masked()), "%q has bits set beyond its prefix", r.To)
	}
	c.address(at+".via", r.Via)
	if r.Via == "" && r.Link == "" {
		c.fail(at, "give via, link or both", "the route to %s leads nowhere", r.To)
	}
}

func (d *DNS) check(c *checks, at string) {
	for i, s := range d.Servers {
		c.address(fmt.Sprintf("%s.servers[%d]", at, i), s)
	}
}

func (t *Time) check(c *checks, at string) {
	for i, s := range t.Servers {
		here := fmt.Sprintf("%s.servers[%d]", at, i)
		if _, _, err := net.SplitHostPort(s); err == nil {
			c.hostPort(here, s)
		} else {
			c.host(here, s)
		}
	}
}
