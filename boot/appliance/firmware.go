package appliance

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Firmware is what one table of the machine's firmware asks for: links that
// it used, and the fabrics that it found its disks on. It is a fact about the
// machine, and no part of a file.
type Firmware struct {
	From     string          `json:"from"` // "iBFT", "NBFT", "NBFT1"
	Links    []FirmwareLink  `json:"links,omitempty"`
	NVMe     []FirmwareNVMe  `json:"nvme,omitempty"`
	ISCSI    []FirmwareISCSI `json:"iscsi,omitempty"`
	Problems []string        `json:"problems,omitempty"` // entries that make no sense
}

// FirmwareLink is a network interface of a table, and a VLAN on it where VLAN
// is not 0.
type FirmwareLink struct {
	Index    int          `json:"index"` // in the table
	MAC      string       `json:"mac"`
	Path     string       `json:"path,omitempty"` // as udev's ID_PATH, where the table says
	VLAN     int          `json:"vlan,omitempty"`
	Address  netip.Prefix `json:"address,omitzero"`
	DHCP     bool         `json:"dhcp,omitempty"`
	Gateway  netip.Addr   `json:"gateway,omitzero"`
	Default  bool         `json:"default,omitempty"` // the gateway leads to everywhere
	Metric   int          `json:"metric,omitempty"`
	DNS      []netip.Addr `json:"dns,omitempty"`
	Reaching []netip.Addr `json:"reaching,omitempty"` // portals that the table reaches over it
}

// FirmwareNVMe is an NVMe subsystem, or discovery controllers if it has no NQN.
type FirmwareNVMe struct {
	Index   int            `json:"index"`
	NQN     string         `json:"nqn,omitempty"`
	Paths   []FirmwarePath `json:"paths"`
	HostNQN string         `json:"hostNQN,omitempty"`
	HostID  string         `json:"hostID,omitempty"`
	// Authenticates: the subsystem refuses hosts without DH-HMAC-CHAP, and the
	// table holds no secret.
	Authenticates bool `json:"authenticates,omitempty"`
	TLS           bool `json:"tls,omitempty"` // it takes connections by TLS only
	HeaderDigest  bool `json:"headerDigest,omitempty"`
	DataDigest    bool `json:"dataDigest,omitempty"`
}

// FirmwarePath is one way to a target.
type FirmwarePath struct {
	Address netip.AddrPort `json:"address"`
	From    netip.Addr     `json:"from,omitzero"` // this machine's address
}

// FirmwareISCSI is an iSCSI target with its portals.
type FirmwareISCSI struct {
	Index     int            `json:"index"` // of the first entry, whose secrets are the target's
	Target    string         `json:"target"`
	Portals   []FirmwarePath `json:"portals"`
	LUNs      []uint64       `json:"luns"`
	Initiator string         `json:"initiator,omitempty"`
	User      string         `json:"user,omitempty"` // CHAP
	Mutual    bool           `json:"mutual,omitempty"`
	Reverse   string         `json:"reverse,omitempty"` // user of the target
}

// Values of the key firmware.
const (
	FirmwareAuto   = "auto"   // what the tables ask for is a part of the plan
	FirmwareUse    = "use"    // and an image carries what that needs, although the file does not name it
	FirmwareIgnore = "ignore" // it is not
)

// WithFirmware returns the appliance with what the firmware asks for, and what
// there is to say about that. What the file says wins, for each interface and
// each target; a is not changed.
func (a *Appliance) WithFirmware(list []Firmware) (*Appliance, []string) {
	if len(list) == 0 {
		return a, nil
	}
	if a.Firmware == FirmwareIgnore {
		return a, []string{fmt.Sprintf("what the firmware asks for (%s) is ignored, as this file says", list[0].From)}
	}
	whole := *a
	whole.positions = maps.Clone(a.positions)
	if whole.positions == nil {
		whole.positions = map[string]Pos{}
	}
	m := &firmwareMerge{a: &whole, file: a, made: map[string]string{}}
	for _, f := range list {
		for _, p := range f.Problems {
			m.note("%s: left out: %s", f.From, p)
		}
		m.network(f)
		for _, n := range f.NVMe {
			m.nvme(f.From, n)
		}
		for _, i := range f.ISCSI {
			m.iscsi(f.From, i)
		}
	}
	return &whole, m.notes
}

// FromFirmware tells whether the entry at path came from the firmware. At
// names the table then.
func (a *Appliance) FromFirmware(path string) bool {
	return a.At(path).Line == 0 && a.At(path).File != ""
}

type firmwareMerge struct {
	a, file *Appliance // the whole, and what the file says
	made    map[string]string
	notes   []string
}

func (m *firmwareMerge) note(format string, args ...any) {
	m.notes = append(m.notes, fmt.Sprintf(format, args...))
}

// origin says of an entry that was added where it is from.
func (m *firmwareMerge) origin(path, from string) { m.a.positions[path] = Pos{File: from} }

// network adds the links of a table and their routes.
func (m *firmwareMerge) network(f Firmware) {
	if len(f.Links) == 0 {
		return
	}
	if m.file.Network != nil && m.file.Network.By == "host" {
		m.note("%s: its links are left to the host, whose network this is", f.From)
		return
	}
	n := Network{}
	if m.a.Network != nil {
		n = *m.a.Network
	}
	n.Links, n.Routes = slices.Clip(n.Links), slices.Clip(n.Routes)
	for _, l := range f.Links {
		m.link(&n, f.From, l)
	}
	m.a.Network = &n
}

// link adds one, unless the file has that interface.
func (m *firmwareMerge) link(n *Network, from string, l FirmwareLink) {
	if own := m.inFile(l); own != "" {
		m.note("%s: interface %s is left to this file's link %s", from, l.MAC, own)
		return
	}
	base := m.made[l.MAC]
	if base == "" {
		base = m.free(n, fmt.Sprintf("%s-%d", strings.ToLower(from), l.Index))
		m.made[l.MAC] = base
		m.addLink(n, from, Link{Name: base, Match: LinkMatch{MAC: l.MAC}})
	}
	name := base
	if l.VLAN != 0 {
		if name = m.made[fmt.Sprint(l.MAC, l.VLAN)]; name == "" {
			name = m.free(n, fmt.Sprintf("%s.%d", base, l.VLAN))
			m.made[fmt.Sprint(l.MAC, l.VLAN)] = name
			m.addLink(n, from, Link{Name: name, VLAN: &VLAN{ID: l.VLAN, Link: base}})
		}
	}
	for i := range n.Links {
		if n.Links[i].Name == name {
			l.addTo(&n.Links[i])
		}
	}
	m.routes(n, from, name, l)
}

func (m *firmwareMerge) addLink(n *Network, from string, l Link) {
	m.origin(fmt.Sprintf("network.links[%d]", len(n.Links)), from)
	n.Links = append(n.Links, l)
}

// inFile is the link of the file that has the interface, or is made of it.
func (m *firmwareMerge) inFile(l FirmwareLink) string {
	if m.file.Network == nil {
		return ""
	}
	is := func(x LinkMatch) bool {
		hw, err := net.ParseMAC(x.MAC)
		return err == nil && hw.String() == l.MAC || x.Path != "" && x.Path == l.Path
	}
	for _, own := range m.file.Network.Links {
		if is(own.Match) || slices.ContainsFunc(own.ports(), func(p Port) bool { return is(p.Match) }) {
			return own.Name
		}
	}
	return ""
}

// free is a name that no link has.
func (m *firmwareMerge) free(n *Network, name string) string {
	for i := 2; n.hasLink(name); i++ {
		name = fmt.Sprintf("%s-%d", name[:min(len(name), 12)], i)
	}
	return name
}

// addTo gives the link an address: the table's, or as it was given to the
// firmware.
func (l FirmwareLink) addTo(to *Link) {
	add := ""
	switch {
	case l.DHCP && l.Address.IsValid() && l.Address.Addr().Is6():
		add = AddressDHCP6
	case l.DHCP:
		add = AddressDHCP4
	case l.Address.IsValid():
		add = l.Address.String()
	}
	if add != "" && !slices.Contains(to.Addresses, add) {
		to.Addresses = append(slices.Clip(to.Addresses), add)
	}
	for _, s := range l.DNS {
		if to.DNS == nil {
			to.DNS = &LinkDNS{Priority: 50}
		}
		if !slices.Contains(to.DNS.Servers, s.String()) {
			to.DNS.Servers = append(to.DNS.Servers, s.String())
		}
	}
}

// beyond tells whether the gateway is on the link although the address does not
// say so, as of a machine that has a whole prefix to itself.
func (l FirmwareLink) beyond() bool {
	g := l.Gateway
	return l.Address.IsValid() && l.Address.Addr().Is4() == g.Is4() && !g.IsLinkLocalUnicast() && !l.Address.Masked().Contains(g)
}

// routes go over the gateway: to everywhere, or to the portals alone. A lease
// brings its own.
func (m *firmwareMerge) routes(n *Network, from, link string, l FirmwareLink) {
	if !l.Gateway.IsValid() || l.DHCP {
		return
	}
	add := func(to string) {
		r := Route{To: to, Via: l.Gateway.String(), Link: link, Metric: l.Metric, OnLink: l.beyond()}
		same := func(o Route) bool {
			if o.To != r.To || o.Metric != r.Metric || o.Table != 0 {
				return false
			}
			via, err := netip.ParseAddr(o.Via)
			return r.To != "default" || err != nil || via.Is4() == l.Gateway.Is4()
		}
		if i := slices.IndexFunc(n.Routes, same); i >= 0 {
			if o := n.Routes[i]; o.Via != r.Via || o.Link != r.Link {
				m.note("%s: the route to %s over %s is left out: there is another one, via %s", from, to, l.Gateway, o.Via)
			}
			return
		}
		m.origin(fmt.Sprintf("network.routes[%d]", len(n.Routes)), from)
		n.Routes = append(n.Routes, r)
	}
	if l.Default {
		add("default")
	}
	for _, a := range l.Reaching {
		if !l.Default && a.Is4() == l.Gateway.Is4() && !l.Address.Masked().Contains(a) {
			add(netip.PrefixFrom(a, a.BitLen()).String())
		}
	}
}
