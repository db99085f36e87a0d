package appliance

import (
	"reflect"

	"go.yaml.in/yaml/v4"
)

// Network is the section of links, routes and name servers.
type Network struct {
	Pos    Pos     `yaml:"-"`
	By     string  `yaml:"by" doc:"host: the host configures its network; initd waits and changes nothing"`
	Links  []Link  `yaml:"links" doc:"network interfaces"`
	Routes []Route `yaml:"routes" doc:"static routes"`
	Rules  []Rule  `yaml:"rules" doc:"policy rules: which routing table is asked"`
	DNS    *DNS    `yaml:"dns" doc:"name servers"`
}

// Link is a network interface and its addresses.
type Link struct {
	Pos       Pos       `yaml:"-"`
	Name      string    `yaml:"name" want:"required" doc:"what this file calls it, and its kernel name where no match is given"`
	Match     LinkMatch `yaml:"match" doc:"which interface it is (default: the one of that name)"`
	Rename    bool      `yaml:"rename" doc:"give the matched interface this name in the kernel too (default false)"`
	Bond      *Bond     `yaml:"bond" doc:"make a bond of several interfaces"`
	VLAN      *VLAN     `yaml:"vlan" doc:"make a VLAN of another link of this file"`
	Bridge    *Bridge   `yaml:"bridge" doc:"make a bridge"`
	Dummy     bool      `yaml:"dummy" doc:"make an interface that leads nowhere, for addresses of the machine itself"`
	MTU       int       `yaml:"mtu" doc:"bytes"`
	Addresses []string  `yaml:"addresses" doc:"ADDRESS/PREFIX, dhcp4, dhcp6, or ra (as routers advertise)"`
	DNS       *LinkDNS  `yaml:"dns" doc:"name servers that are reached over this link"`
	Policy    `yaml:",inline"`
}

// Words that stand in a link's addresses.
const (
	AddressDHCP4 = "dhcp4" // a lease by DHCPv4
	AddressDHCP6 = "dhcp6" // a lease by DHCPv6; routes as routers advertise
	AddressRA    = "ra"    // addresses and routes as routers advertise; DHCPv6 where they ask for it
)

// LinkMatch finds an interface; all keys given must match.
type LinkMatch struct {
	MAC    string `yaml:"mac" json:"MAC,omitempty" doc:"hardware address"`
	Path   string `yaml:"path" json:"Path,omitempty" doc:"as udev's ID_PATH: pci-0000:00:04.0"`
	Name   string `yaml:"name" json:"Name,omitempty" doc:"kernel name"`
	Driver string `yaml:"driver" json:"Driver,omitempty" doc:"kernel driver"`
}

// Zero tells whether no key is given.
func (m LinkMatch) Zero() bool { return m == LinkMatch{} }

// Port is an interface below another one: a link of this file or a kernel
// name, written as one word, or a match.
type Port struct {
	Pos   Pos
	Link  string // one word
	Match LinkMatch
}

func (p *Port) decodeNode(d *decoder, n *yaml.Node, path string) {
	p.Pos = d.at(n)
	if n.Kind == yaml.ScalarNode {
		p.Link = n.Value
		return
	}
	d.decode(n, reflect.ValueOf(&p.Match).Elem(), path)
}

// Bond is several interfaces as one.
type Bond struct {
	Pos     Pos      `yaml:"-"`
	Mode    string   `yaml:"mode" want:"required" doc:"802.3ad (LACP) or active-backup"`
	Members []Port   `yaml:"members" want:"required" doc:"interfaces: a link of this file, a kernel name, or a match such as {mac: …}"`
	MIIMon  Duration `yaml:"miimon" doc:"how often carriers are looked at (default 100ms)"`
	LACP    string   `yaml:"lacp-rate" doc:"802.3ad: slow (every 30 s, default) or fast (every second)"`
	Hash    string   `yaml:"xmit-hash" doc:"802.3ad: what picks the member for a packet: layer2, layer2+3 or layer3+4 (default)"`
	Primary *Port    `yaml:"primary" doc:"active-backup: the member that is used whenever it works"`
	Min     int      `yaml:"min-links" doc:"802.3ad: members that must work for the bond to have a carrier (default 1)"`
}

// Modes of a bond.
const (
	BondLACP         = "802.3ad"
	BondActiveBackup = "active-backup"
)

// VLAN is one network of several on a link.
type VLAN struct {
	Pos  Pos    `yaml:"-"`
	ID   int    `yaml:"id" want:"required" doc:"1 to 4094"`
	Link string `yaml:"link" want:"required" doc:"name of the link of this file that it is on"`
	Kind string `yaml:"protocol" doc:"802.1Q (default) or 802.1ad"`
}

// Bridge is a switch in software.
type Bridge struct {
	Pos   Pos      `yaml:"-"`
	Ports []Port   `yaml:"ports" doc:"interfaces, as a bond's members; without any others may be added later"`
	STP   bool     `yaml:"stp" doc:"spanning tree protocol (default false)"`
	Delay Duration `yaml:"forward-delay" doc:"how long a port listens before it forwards, with stp (default 15s)"`
}

// Route is a static route.
type Route struct {
	Pos    Pos    `yaml:"-"`
	To     string `yaml:"to" want:"required" doc:"PREFIX or default (of IPv4, where neither via nor source says; ::/0 is IPv6's)"`
	Via    string `yaml:"via" doc:"gateway address"`
	Link   string `yaml:"link" doc:"name of a link of this file"`
	Metric int    `yaml:"metric" doc:"smaller is preferred"`
	Table  int    `yaml:"table" doc:"number of the routing table (default 254, main)"`
	Source string `yaml:"source" doc:"address of this machine that packets come from"`
	OnLink bool   `yaml:"onlink" doc:"the gateway is on the link although no address of it says so (default false)"`
	Kind   string `yaml:"type" doc:"unicast (default), blackhole, unreachable or prohibit"`
}

// Rule says which routing table is asked for some packets.
type Rule struct {
	Pos      Pos    `yaml:"-"`
	From     string `yaml:"from" doc:"PREFIX of the source"`
	To       string `yaml:"to" doc:"PREFIX of the destination"`
	Link     string `yaml:"link" doc:"link of this file that packets came in by"`
	Mark     int    `yaml:"mark" doc:"firewall mark"`
	Table    int    `yaml:"table" want:"required" doc:"number of the routing table; 254 is main"`
	Priority int    `yaml:"priority" want:"required" doc:"1 to 32765; smaller is asked first"`
}

// DNS is the resolver's configuration.
type DNS struct {
	Pos     Pos      `yaml:"-"`
	Servers []string `yaml:"servers" want:"required" doc:"addresses"`
	Search  []string `yaml:"search" doc:"search domains"`
}

// LinkDNS is what a link adds to the resolver's configuration, where the file
// has no dns of its own.
type LinkDNS struct {
	Pos      Pos      `yaml:"-"`
	Servers  []string `yaml:"servers" doc:"addresses, before those that come by DHCP or from routers"`
	Search   []string `yaml:"search" doc:"search domains"`
	Priority int      `yaml:"priority" doc:"-100 to 100: links with a smaller one come first (default 0, then as in the file)"`
	Ignore   bool     `yaml:"ignore-received" doc:"leave out what comes by DHCP and from routers (default false)"`
}
