package link

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
)

func machine() *State {
	return &State{
		Interfaces: []Interface{
			{Index: 1, Name: "lo", Up: true, Carrier: true, Loop: true},
			{Index: 2, Name: "eth0", MAC: "52:54:00:00:00:01", Up: true, Carrier: true, Path: "pci-0000:00:03.0"},
			{Index: 3, Name: "eth1", MAC: "52:54:00:00:00:02", Up: true},
			{Index: 4, Name: "eth2", MAC: "52:54:00:00:00:03"},
		},
		Addresses: []Address{
			{Index: 2, Prefix: netip.MustParsePrefix("192.0.2.17/24")},
			{Index: 2, Prefix: netip.MustParsePrefix("2001:db8::17/64"), Tentative: true},
			{Index: 2, Prefix: netip.MustParsePrefix("fe80::1/64"), LinkLocal: true},
			{Index: 3, Prefix: netip.MustParsePrefix("198.51.100.1/24")},
		},
		Routes: []Route{
			{To: netip.MustParsePrefix("192.0.2.0/24"), Index: 2},
			{To: netip.MustParsePrefix("2001:db8::/64"), Index: 2},
			{To: netip.MustParsePrefix("198.51.100.0/24"), Index: 3},
			{To: netip.MustParsePrefix("203.0.113.0/24"), Via: netip.MustParseAddr("192.0.2.1"), Index: 2},
			{To: netip.MustParsePrefix("203.0.113.128/25"), Index: 2, Refused: true},
		},
		Failed: map[netip.Addr]bool{netip.MustParseAddr("192.0.2.1"): true},
	}
}

func TestWay(t *testing.T) {
	tests := []struct {
		name, dst string
		ok        bool
		reason    string
	}{
		{"on the link", "192.0.2.22", true, ""},
		{"itself", "127.0.0.1", true, ""},
		{"by a gateway that does not answer", "203.0.113.5", true, "192.0.2.1 does not answer on eth0"},
		{"by a longer prefix that refuses", "203.0.113.200", false, "the route to 203.0.113.128/25 refuses"},
		{"no carrier", "198.51.100.9", false, "eth1: no carrier"},
		{"no route, and what may be why", "8.8.8.8", false, "no route to 8.8.8.8 (eth1: no carrier, eth2 is down)"},
		{"an address that is still checked", "2001:db8::22", false, "2001:db8::17 on eth0 is still checked for duplicates"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ok, reason := machine().Way(netip.MustParseAddr(tt.dst))
			if ok != tt.ok || reason != tt.reason {
				t.Errorf("got %v, %q; want %v, %q", ok, reason, tt.ok, tt.reason)
			}
		})
	}
}

func TestFindNamesWhatThereIs(t *testing.T) {
	s := machine()
	if i, err := s.Find(Match{MAC: "52-54-00-00-00-01"}); err != nil || i.Name != "eth0" {
		t.Errorf("by MAC: got %v, %v", i.Name, err)
	}
	if i, err := s.Find(Match{Path: "pci-0000:00:03.0"}); err != nil || i.Name != "eth0" {
		t.Errorf("by path: got %v, %v", i.Name, err)
	}
	_, err := s.Find(Match{Name: "eth9"})
	if want := "no interface has name eth9; there are eth0 52:54:00:00:00:01, eth1 52:54:00:00:00:02, eth2 52:54:00:00:00:03"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func ack(mod ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{
		dhcpv4.WithMessageType(dhcpv4.MessageTypeAck),
		dhcpv4.WithYourIP(net.IPv4(192, 0, 2, 50)),
		dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
		dhcpv4.WithLeaseTime(3600),
		dhcpv4.WithServerIP(net.IPv4(192, 0, 2, 1)),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(192, 0, 2, 1))),
	}, mod...)...)
	if err != nil {
		panic(err)
	}
	return m
}

func TestLeaseOf(t *testing.T) {
	l, err := leaseOf(ack(
		dhcpv4.WithRouter(net.IPv4(192, 0, 2, 1)),
		dhcpv4.WithDNS(net.IPv4(192, 0, 2, 53)),
		dhcpv4.WithOption(dhcpv4.OptDomainName("example.net")),
		dhcpv4.WithOption(dhcpv4.OptHostName("bad\nname")),
	), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	l.ACK = nil
	want := Lease{
		Address: netip.MustParsePrefix("192.0.2.50/24"), Server: netip.MustParseAddr("192.0.2.1"),
		Routes: []LeaseRoute{{To: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("192.0.2.1")}},
		DNS:    []netip.Addr{netip.MustParseAddr("192.0.2.53")}, Search: []string{"example.net"},
		T1: 30 * time.Minute, T2: 52*time.Minute + 30*time.Second, Length: time.Hour, Obtained: time.Minute,
	}
	if diff := cmp.Diff(want, l, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("lease (-want +got):\n%s", diff)
	}
	for name, bad := range map[string]*dhcpv4.DHCPv4{
		"no address":          ack(dhcpv4.WithYourIP(net.IPv4zero)),
		"multicast":           ack(dhcpv4.WithYourIP(net.IPv4(224, 0, 0, 1))),
		"a lease of a second": ack(dhcpv4.WithLeaseTime(1)),
		"no mask":             ack(dhcpv4.WithNetmask(net.IPMask{0, 0, 0, 0})),
	} {
		if _, err := leaseOf(bad, 0); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzLeaseOf(f *testing.F) {
	f.Add(ack().ToBytes())
	f.Add(ack(dhcpv4.WithRouter(net.IPv4(192, 0, 2, 1)), dhcpv4.WithDNS(net.IPv4(1, 1, 1, 1))).ToBytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := dhcpv4.FromBytes(b)
		if err != nil {
			return
		}
		l, err := leaseOf(m, 0)
		if err == nil && (!l.Address.IsValid() || l.T1 <= 0 || l.T1 >= l.T2 || l.T2 >= l.Length) {
			t.Fatalf("a lease that cannot be: %+v", l)
		}
	})
}

func TestResolv(t *testing.T) {
	if got, want := Resolv([]string{"192.0.2.53"}, []string{"a.example", "b.example"}), "search a.example b.example\nnameserver 192.0.2.53\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
