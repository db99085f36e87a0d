// Package link brings network interfaces up, gives them addresses and routes, and answers whether there is a way to an
// address.
//
// It owns rtnetlink (RFC 3549, rtnetlink(7)), bonds, VLANs, bridges and dummies, duplicate address detection of both families
// (RFC 4862, RFC 5227), the clients of DHCPv4 (RFC 2131) and DHCPv6 (RFC 8415), what routers advertise as far as the kernel
// does not (RFC 8106), and resolv.conf. It needs CAP_NET_ADMIN and, for DHCPv4 and probes, CAP_NET_RAW; sysfs where interfaces
// are found by path or driver. It takes an interface down only to put it into a bond, or to rename it where the kernel cannot
// do that otherwise, and never one over which a disk is reached (Carriers); it never removes an address or a route that it did
// not add. Everything acts in the network namespace of the calling thread.
package link

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Interface is one link as the kernel shows it.
type Interface struct {
	Index     int
	Name      string
	MAC       string // "52:54:00:00:00:01"; empty where there is none
	Permanent string // the hardware's own MAC, where the driver tells; a bond's members change the other
	MTU       int    // bytes
	MaxMTU    int    // what its driver can do; 0: the kernel does not say
	Up        bool   // administratively
	Carrier   bool   // IFF_LOWER_UP
	Losses    uint32 // how often the carrier was lost; a short loss shows here only
	Kind      string // of virtual ones: "veth", "vlan", "bond"
	Path      string // as udev's ID_PATH: "pci-0000:00:04.0"; empty for virtual ones
	Driver    string // kernel driver; empty for virtual ones
	Loop      bool
	Flags6    uint32 // IF_RA_*: what routers have said on it
	Master    int    // index of the bond or bridge that it is a part of; 0: none
	Lower     int    // index of the interface that a VLAN is on; 0: none, or of another namespace
	VLAN      VLAN   // of Kind "vlan"
	Bond      Bond   // of Kind "bond"
	Port      Port   // of a part of a bond or bridge
	STP       bool   // of Kind "bridge": the kernel's own spanning tree protocol is on
}

// VLAN is what a link of kind "vlan" is.
type VLAN struct {
	ID       int
	Protocol uint16 // ETH_P_8021Q or ETH_P_8021AD
}

// Bond is what a link of kind "bond" is.
type Bond struct {
	Mode    int    // BOND_MODE_*
	Partner string // 802.3ad: MAC of the switch at the other end; empty while none has answered
	Active  int    // active-backup: index of the member in use
}

// Port is how a part of a bond or bridge stands.
type Port struct {
	Kind       string // "bond", "bridge"
	Backup     bool   // bond: not in use
	Aggregator int    // 802.3ad: the group of members that it belongs to
	Blocked    bool   // bridge: its state is not forwarding
}

// Address is one address of an interface.
type Address struct {
	Index      int
	Prefix     netip.Prefix // the address with its prefix length, not masked
	Tentative  bool         // duplicate address detection is under way (IFA_F_TENTATIVE and not optimistic)
	Duplicate  bool         // it failed (IFA_F_DADFAILED)
	Deprecated bool         // its preferred lifetime is over
	LinkLocal  bool
	Dynamic    bool // it has a lifetime: a lease, or as a router advertises
}

// Route is one next hop of a route.
type Route struct {
	To     netip.Prefix // the zero prefix of its family for a default route
	Via    netip.Addr   // invalid: on the link
	Index  int
	Metric int
	Source netip.Addr // invalid: the kernel chooses
	// Refused: an unreachable, prohibit, blackhole or throw route; Type says which.
	Refused bool
	Type    uint8 // RTN_*
	OnLink  bool  // Via need not be within a prefix of the link
	Proto   uint8 // who made it: RTPROT_*
	Table   int   // 0: the main table
}

// Neighbour is one that does not answer (NUD_FAILED).
type Neighbour struct {
	Index   int
	Address netip.Addr
}

// Match finds an interface; all fields given must match.
type Match struct{ MAC, Path, Name, Driver string }

func (m Match) String() string {
	var s []string
	for _, f := range []struct{ key, value string }{{"mac", m.MAC}, {"path", m.Path}, {"name", m.Name}, {"driver", m.Driver}} {
		if f.value != "" {
			s = append(s, f.key+" "+f.value)
		}
	}
	return strings.Join(s, ", ")
}

// stacked are kinds of interfaces that borrow the MAC of the one below them (or of a member): a MAC means the hardware.
var stacked = []string{"vlan", "macvlan", "macvtap", "ipvlan", "bond", "team", "bridge"}

func (m Match) is(i Interface) bool {
	mac := m.MAC
	if hw, err := net.ParseMAC(m.MAC); err == nil {
		mac = hw.String()
	}
	switch {
	case i.Loop && m.Name == "":
		return false
	case mac != "" && (slices.Contains(stacked, i.Kind) && m.Name == "" || !i.hasMAC(mac)):
		return false
	}
	return (m.Path == "" || i.Path == m.Path) && (m.Name == "" || i.Name == m.Name) && (m.Driver == "" || i.Driver == m.Driver)
}

// hasMAC: the members of a bond all have the same one, and their own is the permanent one.
func (i Interface) hasMAC(mac string) bool {
	if i.Port.Kind == "bond" && i.Permanent != "" {
		return i.Permanent == mac
	}
	return i.MAC == mac || i.Permanent == mac
}

// Find returns the one interface that matches, or an error that says why there is none.
func (s *State) Find(m Match) (Interface, error) {
	var found []Interface
	for _, i := range s.Interfaces {
		if m.is(i) {
			found = append(found, i)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return Interface{}, fmt.Errorf("no interface has %s; there are %s", m, s.names())
	}
	return Interface{}, fmt.Errorf("%d interfaces have %s: %s, %s", len(found), m, found[0].Name, found[1].Name)
}

func (s *State) names() string {
	var list []string
	for _, i := range s.Interfaces {
		if !i.Loop {
			list = append(list, strings.TrimSpace(i.Name+" "+i.MAC))
		}
	}
	if len(list) == 0 {
		return "none at all"
	}
	return strings.Join(list, ", ")
}
