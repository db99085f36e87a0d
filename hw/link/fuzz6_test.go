package link

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
)

// captured is every file of testdata whose name begins so: bytes as a kernel, or a server, has sent them.
func captured(t testing.TB, pattern string) [][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no captures %s: %v", pattern, err)
	}
	var list [][]byte
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, b)
	}
	return list
}

// userOption is a datagram of the kernel's with one option of a router (struct nlmsghdr, struct nduseroptmsg).
func userOption(index int, option []byte) []byte {
	b := make([]byte, 16+sizeofNDUserOpt)
	binary.NativeEndian.PutUint32(b, uint32(len(b)+len(option)))
	binary.NativeEndian.PutUint16(b[4:], rtmNewNDUserOpt)
	b[16], b[24] = 10, icmpAdvertisement // AF_INET6
	binary.NativeEndian.PutUint16(b[18:], uint16(len(option)))
	binary.NativeEndian.PutUint32(b[20:], uint32(index))
	return append(b, option...)
}

// option is one of neighbour discovery (RFC 8106, 5), padded to a multiple of 8.
func option(kind byte, seconds uint32, content ...byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{kind, 0, 0, 0}, seconds)
	b = append(b, content...)
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	b[1] = byte(len(b) / 8)
	return b
}

func bytesOf(addresses ...string) []byte {
	var b []byte
	for _, a := range addresses {
		b = append(b, netip.MustParseAddr(a).AsSlice()...)
	}
	return b
}

func routersIn(b []byte) []RouterDNS {
	var list []RouterDNS
	for _, m := range splitMessages(b) {
		if d, ok := parseRouterDNS(m); ok {
			list = append(list, d)
		}
	}
	return list
}

func TestWhatRoutersSayAboutNameServers(t *testing.T) {
	name := []byte("\x01a\x07example\x00\x03a..\x00\x04bad \x00\x02ok\x00")
	for _, c := range []struct {
		name string
		b    []byte
		want []RouterDNS
	}{
		{"two servers, one of them link-local, and what can be none", userOption(3, option(optionRDNSS, 600, bytesOf("2001:db8::53", "fe80::1", "::", "ff02::1", "2001:db8::53")...)),
			[]RouterDNS{{Index: 3, Servers: []netip.Addr{netip.MustParseAddr("2001:db8::53"), netip.MustParseAddr("fe80::1")}, Lifetime: 10 * time.Minute}}},
		{"they are taken back", userOption(3, option(optionRDNSS, 0, bytesOf("2001:db8::53")...)), []RouterDNS{{Index: 3, Servers: []netip.Addr{netip.MustParseAddr("2001:db8::53")}}}},
		{"a search list with names that are none", userOption(2, option(optionDNSSL, 60, name...)), []RouterDNS{{Index: 2, Search: []string{"a.example", "ok"}, Lifetime: time.Minute}}},
		{"another option", userOption(2, option(3, 60, 1, 2, 3)), nil},
		{"an option that is longer than the message", userOption(2, append([]byte{optionRDNSS, 9}, make([]byte, 22)...)), nil},
		{"an option of no length", userOption(2, make([]byte, 24)), nil},
		{"half an address", userOption(2, option(optionRDNSS, 60, 1, 2, 3)), nil},
		{"no interface", userOption(0, option(optionRDNSS, 60, bytesOf("2001:db8::53")...)), nil},
		{"two in one datagram", append(userOption(3, option(optionRDNSS, 1, bytesOf("2001:db8::1")...)), userOption(4, option(optionRDNSS, 2, bytesOf("2001:db8::2")...))...), []RouterDNS{
			{Index: 3, Servers: []netip.Addr{netip.MustParseAddr("2001:db8::1")}, Lifetime: time.Second},
			{Index: 4, Servers: []netip.Addr{netip.MustParseAddr("2001:db8::2")}, Lifetime: 2 * time.Second}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, routersIn(c.b), compare()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// What a kernel handed on of an advertisement by dnsmasq: a prefix, a search list, two name servers.
func TestCapturedWordsOfARouter(t *testing.T) {
	var got []RouterDNS
	for _, b := range captured(t, "rtnetlink/useropt-*") {
		got = append(got, routersIn(b)...)
	}
	want := []RouterDNS{
		{Index: 2, Search: []string{"a.example", "b.example"}, Lifetime: 10 * time.Minute},
		{Index: 2, Servers: []netip.Addr{netip.MustParseAddr("2001:db8::53"), netip.MustParseAddr("fe80::2c41:c4ff:fe54:153f")}, Lifetime: 10 * time.Minute},
	}
	if diff := cmp.Diff(want, got, compare()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestLinkLocalNameServersAreNamedWithTheirInterface(t *testing.T) {
	in := []netip.Addr{netip.MustParseAddr("2001:db8::53"), netip.MustParseAddr("fe80::1"), netip.MustParseAddr("169.254.0.1")}
	got := Resolv([]string{Scoped(in, "eth1")[0].String(), Scoped(in, "eth1")[1].String(), Scoped(in, "eth1")[2].String()}, nil)
	if want := "nameserver 2001:db8::53\nnameserver fe80::1%eth1\nnameserver 169.254.0.1\n"; got != want || in[1].Zone() != "" {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzRouterDNS(f *testing.F) {
	f.Add(userOption(3, option(optionRDNSS, 600, bytesOf("2001:db8::53", "fe80::1")...)))
	f.Add(userOption(2, option(optionDNSSL, 60, []byte("\x01a\x07example\x00\x01b\x00")...)))
	for _, b := range captured(f, "rtnetlink/useropt-*") {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, d := range routersIn(b) {
			if d.Index <= 0 || d.Lifetime < 0 || len(d.Servers) > maxLeaseServers || len(d.Search) > maxLeaseSearch {
				t.Fatalf("what cannot be: %+v", d)
			}
			checkDNS(t, d.Servers, d.Search)
		}
	})
}

// checkDNS: what goes into resolv.conf.
func checkDNS(t *testing.T, servers []netip.Addr, search []string) {
	t.Helper()
	for _, a := range servers {
		if !a.Is6() || a.Is4In6() || a.IsMulticast() || a.IsUnspecified() || a.Zone() != "" {
			t.Fatalf("%s is no server", a)
		}
	}
	for i, s := range search {
		if s == "" || strings.ContainsAny(s, " \t\r\n\x00#;") || slices.Contains(search[:i], s) {
			t.Fatalf("a name that breaks resolv.conf: %q", s)
		}
	}
}

func iaid6() [4]byte { return [4]byte{0, 0, 0, 1} }

// reply6 is a server's answer as it goes over the wire.
func reply6(t testing.TB, change func(*dhcpv6.Message)) []byte {
	t.Helper()
	m, err := dhcpv6.NewMessage()
	if err != nil {
		t.Fatal(err)
	}
	m.MessageType, m.TransactionID = dhcpv6.MessageTypeReply, dhcpv6.TransactionID{1, 2, 3}
	mac := net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}
	m.AddOption(dhcpv6.OptClientID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: mac}))
	m.AddOption(dhcpv6.OptServerID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: mac}))
	ia := &dhcpv6.OptIANA{IaId: iaid6(), T1: time.Minute, T2: 2 * time.Minute}
	ia.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: net.ParseIP("2001:db8::100"), PreferredLifetime: 3 * time.Minute, ValidLifetime: 4 * time.Minute})
	m.AddOption(ia)
	m.AddOption(dhcpv6.OptDNS(net.ParseIP("2001:db8::53"), net.ParseIP("fe80::1"), net.IPv4(192, 0, 2, 1)))
	if change != nil {
		change(m)
	}
	return m.ToBytes()
}

func FuzzLease6(f *testing.F) {
	f.Add(reply6(f, nil))
	f.Add(reply6(f, func(m *dhcpv6.Message) {
		m.AddOption(&dhcpv6.OptStatusCode{StatusCode: iana.StatusNoAddrsAvail, StatusMessage: "all are taken"})
	}))
	f.Add(reply6(f, func(m *dhcpv6.Message) {
		ia := &dhcpv6.OptIANA{IaId: [4]byte{9}}
		ia.Options.Add(&dhcpv6.OptStatusCode{StatusCode: iana.StatusNotOnLink})
		m.AddOption(ia)
	}))
	f.Add(append(reply6(f, nil), 0, 24, 0, 8, 1, 'a', 7, 'e', 'x', 0xc0, 0, 0))
	for _, b := range captured(f, "dhcp6/*") {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := parse6(b)
		if m == nil {
			return
		}
		_, _ = clientID(m), statusOf(m)
		const now = time.Hour
		info := informationOf(m, now)
		if len(info.DNS) > maxLeaseServers || len(info.NTP) > maxLeaseServers || len(info.Search) > maxLeaseSearch {
			t.Fatalf("information without bounds: %+v", info)
		}
		checkDNS(t, slices.Concat(info.DNS, info.NTP), info.Search)
		iaid := iaid6()
		if all := m.Options.IANA(); len(all) > 0 {
			iaid = all[0].IaId
		}
		l, err := leaseOf6(m, iaid, now)
		if err != nil {
			return
		}
		if !l.Address.IsGlobalUnicast() || !l.Address.Is6() || l.Address.Is4In6() || len(l.Server) == 0 || !bytes.Equal(l.Server, serverID(m)) {
			t.Fatalf("a lease that cannot be: %+v", l)
		}
		if l.T1 <= 0 || l.T1 > l.T2 || l.T2 > l.Valid || l.Preferred > l.Valid || l.Valid < minLease || l.Valid > maxLease || l.Ends() <= now {
			t.Fatalf("times that cannot be: %+v", l)
		}
	})
}
