package link

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Lease is a DHCPv4 lease (RFC 2131, RFC 2132). It marshals, so that a successor process can go on renewing it.
type Lease struct {
	Address netip.Prefix  `json:"address"`
	Server  netip.Addr    `json:"server"`
	Routes  []LeaseRoute  `json:"routes,omitempty"`
	DNS     []netip.Addr  `json:"dns,omitempty"`
	Search  []string      `json:"search,omitempty"`
	NTP     []netip.Addr  `json:"ntp,omitempty"`  // information only
	Host    string        `json:"host,omitempty"` // what the server calls this machine; information only
	MTU     int           `json:"mtu,omitempty"`  // bytes; set where DHCP.MTU says so
	T1      time.Duration `json:"t1"`             // renew after
	T2      time.Duration `json:"t2"`             // rebind after
	Length  time.Duration `json:"length"`
	// Obtained is CLOCK_BOOTTIME, which outlives the process that reads it, though not the boot.
	Obtained time.Duration `json:"obtained"`
}

// LeaseRoute is a route that comes with a lease; an invalid Via is on the link.
type LeaseRoute struct {
	To  netip.Prefix `json:"to"`
	Via netip.Addr   `json:"via,omitzero"`
}

// Ends is when the lease does, by CLOCK_BOOTTIME.
func (l Lease) Ends() time.Duration { return l.Obtained + l.Length }

const (
	// maxLease is the longest lease that is believed: nothing is lost by asking again after ten years. The protocol's
	// 'for ever' is 2^32-1 seconds.
	maxLease = 10 * 365 * 24 * time.Hour
	// minLease is the shortest: a machine that renews more often does nothing else.
	minLease = 10 * time.Second
	// maxLeaseRoutes, maxLeaseServers and maxLeaseSearch bound what one message can make us configure.
	maxLeaseRoutes  = 64
	maxLeaseServers = 8
	maxLeaseSearch  = 8
	// Bounds of an MTU (RFC 2132, 5.1, and what IPv6 needs to work beside it, RFC 8200, 5).
	minMTU = 1280
	maxMTU = 9216
)

// errLease is a lease that cannot be used.
var errLease = errors.New("the server's answer cannot be used")

// leaseOf reads an OFFER or ACK. It trusts nothing: an address that nobody can have, or a length of nothing, is an error;
// an option that makes no sense is left out.
func leaseOf(m *dhcpv4.DHCPv4, now time.Duration) (Lease, error) {
	a, ok := ipv4(m.YourIPAddr)
	if !ok || !a.IsGlobalUnicast() {
		return Lease{}, fmt.Errorf("%w: it gives the address %v", errLease, m.YourIPAddr)
	}
	ones, bits := m.SubnetMask().Size()
	if bits != 32 || ones == 0 {
		return Lease{}, fmt.Errorf("%w: it gives %s no subnet mask", errLease, a)
	}
	l := Lease{
		Address: netip.PrefixFrom(a, ones), Obtained: now,
		Length: min(m.IPAddressLeaseTime(0), maxLease),
		Host:   hostName(m.HostName()),
		DNS:    servers(m.DNS()), NTP: servers(m.NTPServers()),
	}
	if l.Length < minLease {
		return Lease{}, fmt.Errorf("%w: it lends %s for %v", errLease, a, l.Length)
	}
	if l.Server, ok = ipv4(m.ServerIdentifier()); !ok || l.Server.IsUnspecified() || l.Server.IsMulticast() {
		return Lease{}, fmt.Errorf("%w: it does not say who it is", errLease)
	}
	l.T1, l.T2 = m.IPAddressRenewalTime(l.Length/2), m.IPAddressRebindingTime(l.Length/8*7)
	if l.T1 <= 0 || l.T1 >= l.T2 || l.T2 >= l.Length { // RFC 2131, 4.4.5
		l.T1, l.T2 = l.Length/2, l.Length/8*7
	}
	l.Routes = routes(m, l.Address)
	l.Search = search(m)
	if b := m.Options.Get(dhcpv4.OptionInterfaceMTU); len(b) == 2 {
		if mtu := int(b[0])<<8 | int(b[1]); mtu >= minMTU && mtu <= maxMTU {
			l.MTU = mtu
		}
	}
	return l, nil
}

func ipv4(ip net.IP) (netip.Addr, bool) { return netip.AddrFromSlice(ip.To4()) }

func servers(list []net.IP) []netip.Addr {
	var out []netip.Addr
	for _, ip := range list {
		if a, ok := ipv4(ip); ok && a.IsGlobalUnicast() && len(out) < maxLeaseServers && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// routes are the classless ones, which replace the routers where there are any (RFC 3442), or the first router.
func routes(m *dhcpv4.DHCPv4, own netip.Prefix) []LeaseRoute {
	var out []LeaseRoute
	for _, r := range m.ClasslessStaticRoute() {
		if r == nil || r.Dest == nil {
			continue
		}
		to, ok := ipv4(r.Dest.IP)
		ones, bits := r.Dest.Mask.Size()
		via, okVia := ipv4(r.Router)
		if !ok || !okVia || bits != 32 || len(out) == maxLeaseRoutes || to.IsLoopback() || to.IsMulticast() || via.IsLoopback() || via.IsMulticast() {
			continue
		}
		route := LeaseRoute{To: netip.PrefixFrom(to, ones).Masked(), Via: via}
		if via.IsUnspecified() || via == own.Addr() {
			route.Via = netip.Addr{}
		}
		if !slices.Contains(out, route) {
			out = append(out, route)
		}
	}
	if len(out) > 0 {
		return out
	}
	for _, r := range m.Router() {
		if via, ok := ipv4(r); ok && via.IsGlobalUnicast() && via != own.Addr() {
			return []LeaseRoute{{To: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Via: via}}
		}
	}
	return nil
}

// search is the search list (RFC 3397), or the domain.
func search(m *dhcpv4.DHCPv4) []string {
	labels := []string{m.DomainName()}
	if s := m.DomainSearch(); s != nil && len(s.Labels) > 0 {
		labels = s.Labels
	}
	var out []string
	for _, d := range labels {
		if d = hostName(d); d != "" && len(out) < maxLeaseSearch && !slices.Contains(out, d) {
			out = append(out, d)
		}
	}
	return out
}

// hostName keeps what can be a host name (RFC 1123, 2.1): the text goes into files that other programs read.
func hostName(s string) string {
	if len(s) > 253 || len(s) > 0 && (s[0] == '-' || s[0] == '.') || strings.Contains(s, "..") {
		return ""
	}
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_' {
			return ""
		}
	}
	return s
}
