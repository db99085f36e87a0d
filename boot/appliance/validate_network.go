package appliance

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// maxLinks is more than one machine has: all VLANs of a link, and some.
const maxLinks = 5000

func (n *Network) check(c *checks, at string) {
	c.oneOf(at+".by", n.By, "host")
	if n.By == "host" && (len(n.Links) > 0 || len(n.Routes) > 0 || len(n.Rules) > 0 || n.DNS != nil) {
		c.fail(at+".by", "leave out by, or the rest", "the host configures its network: nothing else can stand in this section")
	}
	if len(n.Links) > maxLinks {
		c.fail(at+".links", "", "%d links, at most %d are taken", len(n.Links), maxLinks)
		return
	}
	for i, r := range n.Routes {
		n.checkLink(c, fmt.Sprintf("%s.routes[%d].link", at, i), "route to "+r.To, r.Link)
	}
	for i, r := range n.Rules {
		n.checkLink(c, fmt.Sprintf("%s.rules[%d].link", at, i), fmt.Sprintf("rule %d", r.Priority), r.Link)
	}
	for i, l := range n.Links {
		if l.VLAN != nil {
			n.checkLink(c, fmt.Sprintf("%s.links[%d].vlan.link", at, i), l.Name, l.VLAN.Link)
		}
	}
	n.checkStack(c, at)
	n.checkOwners(c, at)
	n.checkTwice(c, at)
	n.checkMTUs(c, at)
}

func (n *Network) checkLink(c *checks, at, who, link string) {
	if link != "" && !n.hasLink(link) {
		if c.p.Many() {
			c.fail(at, "", "%s: no link %q in this file", who, link)
			return
		}
		c.fail(at, Suggest(link, n.linkNames()), "%s: no link %q in this file", who, link)
	}
}

// checkStack refuses links that stand on themselves, and a port that two have.
func (n *Network) checkStack(c *checks, at string) {
	owner, stack := map[string]string{}, n.stack()
	for i, l := range n.Links {
		for _, p := range l.ports() {
			key := p.Link
			if key == "" {
				key = fmt.Sprintf("%+v", p.Match)
			}
			if first, ok := owner[key]; ok {
				c.fail(fmt.Sprintf("%s.links[%d]", at, i), "take it out of one of them", "%s: %s is taken by %s already", l.Name, p, first)
			}
			owner[key] = l.Name
		}
		seen := map[string]bool{}
		var below func(name string) bool
		below = func(name string) bool {
			if name == l.Name && len(seen) > 0 {
				return true
			}
			if seen[name] {
				return false
			}
			seen[name] = true
			return slices.ContainsFunc(stack[name], below)
		}
		if below(l.Name) {
			c.fail(fmt.Sprintf("%s.links[%d]", at, i), "", "%s stands on itself", l.Name)
		}
	}
}

// checkOwners refuses addresses on what is a part of something else.
func (n *Network) checkOwners(c *checks, at string) {
	for _, l := range n.Links {
		for _, p := range l.ports() {
			for j, other := range n.Links {
				is := other.Name == p.Link || !p.Match.Zero() && other.Match.normal() == p.Match.normal()
				if is && len(other.Addresses) > 0 {
					c.fail(fmt.Sprintf("%s.links[%d].addresses", at, j), "move them to "+l.Name, "%s is a part of %s, and cannot have addresses of its own", other.Name, l.Name)
				}
			}
		}
	}
}

// ports are the interfaces that l takes for itself.
func (l Link) ports() []Port {
	switch {
	case l.Bond != nil:
		return l.Bond.Members
	case l.Bridge != nil:
		return l.Bridge.Ports
	}
	return nil
}

// stack says of each link of this file on which others it stands.
func (n *Network) stack() map[string][]string {
	below := map[string][]string{}
	for _, l := range n.Links {
		for _, p := range l.ports() {
			if p.Link != "" {
				below[l.Name] = append(below[l.Name], p.Link)
			}
		}
		if l.VLAN != nil {
			below[l.Name] = append(below[l.Name], l.VLAN.Link)
		}
	}
	return below
}

func (p Port) String() string {
	for _, s := range []string{p.Link, p.Match.MAC, p.Match.Path, p.Match.Name, p.Match.Driver} {
		if s != "" {
			return s
		}
	}
	return "nothing"
}

func (n *Network) linkNames() []string {
	var s []string
	for _, l := range n.Links {
		s = append(s, l.Name)
	}
	return s
}

func (n *Network) hasLink(name string) bool {
	return slices.ContainsFunc(n.Links, func(l Link) bool { return l.Name == name })
}

// Virtual tells whether the link is made, and not found.
func (l Link) Virtual() bool { return l.Bond != nil || l.VLAN != nil || l.Bridge != nil || l.Dummy }

func (l *Link) check(c *checks, at string) {
	if len(l.Name) > 15 || strings.ContainsAny(l.Name, "/ :") || l.Name == "." || l.Name == ".." {
		c.fail(at+".name", "at most 15 characters, no space, slash or colon", "%q cannot name a link", l.Name)
	}
	kinds := 0
	for _, is := range []bool{l.Bond != nil, l.VLAN != nil, l.Bridge != nil, l.Dummy} {
		if is {
			kinds++
		}
	}
	switch {
	case kinds > 1:
		c.fail(at, "make a link of each, and name one in the other", "%s: a link is one of bond, vlan, bridge and dummy", l.Name)
	case kinds == 1 && !l.Match.Zero():
		c.fail(at+".match", "leave match out", "%s: a link that is made is not looked for", l.Name)
	case l.Rename && l.Match.Zero():
		c.fail(at+".rename", "add match: {mac: …} or {path: …}", "%s: without a match there is nothing to rename", l.Name)
	case l.Rename && l.Match.Name != "":
		c.fail(at+".match.name", "write mac or path there", "%s: by its old name nobody finds it once it has its new one", l.Name)
	}
	if l.MTU != 0 && (l.MTU < 576 || l.MTU > 65535) {
		c.fail(at+".mtu", "from 576 to 65535", "mtu %d is out of range", l.MTU)
	}
	l.checkAddresses(c, at)
}

func (m *LinkMatch) check(c *checks, at string) {
	if m.MAC == "" {
		return
	}
	if hw, err := net.ParseMAC(m.MAC); err != nil || len(hw) != 6 {
		c.fail(at+".mac", "write it as \"52:54:00:00:00:01\"", "%q is no hardware address", m.MAC)
	}
}

func (l *Link) checkAddresses(c *checks, at string) {
	words := []string{AddressDHCP4, AddressDHCP6, AddressRA}
	seen := map[string]bool{}
	for i, s := range l.Addresses {
		here := fmt.Sprintf("%s.addresses[%d]", at, i)
		key := s
		p, err := netip.ParsePrefix(s)
		if err == nil {
			key = p.Addr().String()
		}
		if seen[key] {
			c.fail(here, "remove one of them", "%s: %s stands twice", l.Name, key)
		}
		seen[key] = true
		if slices.Contains(words, s) {
			continue
		}
		if err == nil {
			if a := p.Addr(); a.IsMulticast() || a.IsUnspecified() || p.Bits() == 0 {
				c.fail(here, "", "%q cannot be the address of a link", s)
			}
			continue
		}
		hint := Suggest(s, words)
		if a, err := netip.ParseAddr(s); err == nil {
			hint = fmt.Sprintf("write its prefix length too, such as %s/%d", a, map[bool]int{true: 24, false: 64}[a.Is4()])
		}
		c.fail(here, hint, "%q is no address with a prefix length, nor %s", s, strings.Join(words[:2], ", ")+" or "+words[2])
	}
	if l.MTU != 0 && l.MTU < 1280 && slices.ContainsFunc(l.Addresses, func(s string) bool { return s == AddressRA || s == AddressDHCP6 || strings.Contains(s, ":") }) {
		c.fail(at+".mtu", "at least 1280 for IPv6", "mtu %d is too small for the IPv6 addresses of %s", l.MTU, l.Name)
	}
}

func (b *Bond) check(c *checks, at string) {
	c.oneOf(at+".mode", b.Mode, BondLACP, BondActiveBackup)
	c.oneOf(at+".lacp-rate", b.LACP, "slow", "fast")
	c.oneOf(at+".xmit-hash", b.Hash, "layer2", "layer2+3", "layer3+4")
	if len(b.Members) == 0 {
		c.fail(at+".members", "write members: [eth0, eth1]", "a bond without members carries nothing")
	}
	for i := range b.Members {
		b.Members[i].checkPort(c, fmt.Sprintf("%s.members[%d]", at, i))
	}
	if b.Mode == BondActiveBackup {
		for key, given := range map[string]bool{"lacp-rate": b.LACP != "", "xmit-hash": b.Hash != "", "min-links": b.Min != 0} {
			if given {
				c.fail(at+"."+key, "leave it out", "%s means nothing to an active-backup bond", key)
			}
		}
	}
	if b.Primary != nil {
		b.Primary.checkPort(c, at+".primary")
		switch {
		case b.Mode == BondLACP:
			c.fail(at+".primary", "leave it out", "primary means nothing to an 802.3ad bond")
		case !slices.ContainsFunc(b.Members, func(p Port) bool { return p.Link == b.Primary.Link && p.Match == b.Primary.Match }):
			c.fail(at+".primary", "write one of the members, as it stands there", "%s is no member", b.Primary)
		}
	}
	if d := time.Duration(b.MIIMon); d != 0 && (d < time.Millisecond || d > 10*time.Second || d%time.Millisecond != 0) {
		c.fail(at+".miimon", "from 1ms to 10s", "miimon %s is out of range", d)
	}
	if b.Min < 0 || b.Min > len(b.Members) {
		c.fail(at+".min-links", fmt.Sprintf("from 1 to %d", len(b.Members)), "%d members cannot work, of %d", b.Min, len(b.Members))
	}
}

func (p *Port) checkPort(c *checks, at string) {
	switch {
	case p.Link == "" && p.Match.Zero():
		c.fail(at, "write a name, or {mac: …}", "nothing says which interface this is")
	case len(p.Link) > 15 || strings.ContainsAny(p.Link, "/ :"):
		c.fail(at, "a name, or {mac: \"52:54:00:00:00:01\"}", "%q cannot name a link", p.Link)
	}
	p.Match.check(c, at)
}

func (v *VLAN) check(c *checks, at string) {
	c.oneOf(at+".protocol", v.Kind, "802.1Q", "802.1ad")
	if v.ID < 1 || v.ID > 4094 {
		c.fail(at+".id", "from 1 to 4094", "VLAN %d does not exist", v.ID)
	}
}

func (b *Bridge) check(c *checks, at string) {
	for i := range b.Ports {
		b.Ports[i].checkPort(c, fmt.Sprintf("%s.ports[%d]", at, i))
	}
	if d := time.Duration(b.Delay); d != 0 && (!b.STP || d < 2*time.Second || d > 30*time.Second) { // IEEE 802.1D-2004, table 17-1
		c.fail(at+".forward-delay", "from 2s to 30s, with stp: true", "forward-delay %s is nothing that a bridge takes here", d)
	}
}

func (r *Route) check(c *checks, at string) {
	c.oneOf(at+".type", r.Kind, "unicast", "blackhole", "unreachable", "prohibit")
	to := c.prefix(at+".to", r.To, "default")
	c.address(at+".via", r.Via)
	c.address(at+".source", r.Source)
	refuses := r.Kind != "" && r.Kind != "unicast"
	switch {
	case refuses && (r.Via != "" || r.Link != "" || r.OnLink || r.Source != ""):
		c.fail(at, "leave out via, link, source and onlink", "a route of type %s leads nowhere", r.Kind)
	case refuses && r.To == "default":
		c.fail(at+".to", "write 0.0.0.0/0 or ::/0", "nothing says of which family this default is")
	case !refuses && r.Via == "" && r.Link == "":
		c.fail(at, "give via, link or both", "the route to %s leads nowhere", r.To)
	case r.OnLink && (r.Via == "" || r.Link == ""):
		c.fail(at+".onlink", "give via and link", "onlink says that the gateway via is on link, and one of them is missing")
	}
	c.sameFamily(at, to, r.Via, r.Source)
	c.within(at+".table", r.Table, 0, 1<<31-1)
	if r.Metric < 0 {
		c.fail(at+".metric", "0 or more", "metric %d is out of range", r.Metric)
	}
}

func (c *checks) within(at string, v, low, high int) {
	if v < low || v > high {
		c.fail(at, fmt.Sprintf("from %d to %d", low, high), "%s %d is out of range", at[strings.LastIndex(at, ".")+1:], v)
	}
}

// prefix checks one; the result is invalid where it is none, or the word.
func (c *checks) prefix(at, s, word string) netip.Prefix {
	p, err := netip.ParsePrefix(s)
	switch {
	case s == "" || s == word && word != "":
		return netip.Prefix{}
	case err != nil && word != "":
		c.fail(at, "write a prefix such as 203.0.113.0/24, or "+word, "%q is no destination", s)
	case err != nil:
		c.fail(at, "write a prefix such as 203.0.113.0/24", "%q is no prefix", s)
	case p.Masked() != p:
		c.fail(at, fmt.Sprintf("write %s", p.Masked()), "%q has bits set beyond its prefix", s)
	}
	return p
}

// sameFamily refuses IPv4 beside IPv6. An IPv6 gateway may lead to IPv4
// (RFC 5549): that is the first of addresses.
func (c *checks) sameFamily(at string, p netip.Prefix, via string, more ...string) {
	family := 0
	of := func(a netip.Addr) int { return map[bool]int{true: 4, false: 6}[a.Is4()] }
	if p.IsValid() {
		family = of(p.Addr())
	} else if a, err := netip.ParseAddr(via); err == nil {
		family = of(a)
	}
	if a, err := netip.ParseAddr(via); err == nil && family == 6 && of(a) == 4 {
		c.fail(at+".via", "write an IPv6 gateway", "%s cannot lead to %s", via, p)
	}
	for _, s := range more {
		if a, err := netip.ParseAddr(s); err == nil && family != 0 && of(a) != family {
			c.fail(at+".source", "write an address of the destination's family", "packets to %s cannot come from %s", p, s)
		}
	}
}

func (r *Rule) check(c *checks, at string) {
	from, to := c.prefix(at+".from", r.From, ""), c.prefix(at+".to", r.To, "")
	if from.IsValid() && to.IsValid() && from.Addr().Is4() != to.Addr().Is4() {
		c.fail(at, "", "a rule from %s to %s can never match", r.From, r.To)
	}
	if r.From == "" && r.To == "" && r.Link == "" && r.Mark == 0 {
		c.fail(at, "give from, to, link or mark", "the rule with priority %d would apply to everything", r.Priority)
	}
	c.within(at+".priority", r.Priority, 1, 32765)
	c.within(at+".table", r.Table, 1, 1<<31-1)
	c.within(at+".mark", r.Mark, 0, 1<<31-1)
}

func (d *DNS) check(c *checks, at string) {
	c.resolver(at, d.Servers, d.Search)
}

func (d *LinkDNS) check(c *checks, at string) {
	c.resolver(at, d.Servers, d.Search)
	c.within(at+".priority", d.Priority, -100, 100)
}

func (c *checks) resolver(at string, servers, search []string) {
	for i, s := range servers {
		c.address(fmt.Sprintf("%s.servers[%d]", at, i), s)
	}
	for i, s := range search {
		if here := fmt.Sprintf("%s.search[%d]", at, i); !hostName().MatchString(s) || len(s) > 253 {
			c.fail(here, "write a domain such as example.net", "%q is no domain", s)
		}
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
