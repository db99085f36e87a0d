package link

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"
)

func FuzzLeaseOf(f *testing.F) {
	f.Add(ack().ToBytes())
	f.Add(ack(dhcpv4.WithRouter(net.IPv4(192, 0, 2, 1)), dhcpv4.WithDNS(net.IPv4(1, 1, 1, 1))).ToBytes())
	f.Add(ack(dhcpv4.WithGeneric(dhcpv4.OptionClasslessStaticRoute, []byte{24, 203, 0, 113, 192, 0, 2, 7, 0, 192, 0, 2, 1, 33})).ToBytes())
	f.Add(ack(dhcpv4.WithGeneric(dhcpv4.OptionDNSDomainSearchList, []byte{3, 'a', 'b', 'c', 0xc0, 0})).ToBytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := dhcpv4.FromBytes(b)
		if err != nil {
			return
		}
		l, err := leaseOf(m, 0)
		if err != nil {
			return
		}
		if !l.Address.IsValid() || !l.Server.Is4() || l.T1 <= 0 || l.T1 >= l.T2 || l.T2 >= l.Length || l.Length > maxLease {
			t.Fatalf("a lease that cannot be: %+v", l)
		}
		if len(l.Routes) > maxLeaseRoutes || len(l.DNS) > maxLeaseServers || len(l.NTP) > maxLeaseServers || len(l.Search) > maxLeaseSearch {
			t.Fatalf("a lease without bounds: %+v", l)
		}
		for _, r := range l.Routes {
			if !r.To.IsValid() || r.To != r.To.Masked() || r.Via.IsValid() && r.Via.IsUnspecified() {
				t.Fatalf("a route that cannot be: %+v", r)
			}
		}
		for _, s := range append(l.Search, l.Host) {
			if bytes.ContainsAny([]byte(s), " \n#;") {
				t.Fatalf("a name that breaks resolv.conf: %q", s)
			}
		}
	})
}

func FuzzUnframe(f *testing.F) {
	f.Add(frame([]byte("message"), netip.IPv4Unspecified()), true)
	f.Add(frame(nil, serverA), false)
	answer := frame([]byte("answer"), serverA)
	answer[ipv4Header+1], answer[ipv4Header+3] = dhcpServerPort, dhcpClientPort // the other way: the sum stays
	f.Add(answer, true)
	f.Fuzz(func(t *testing.T, b []byte, checked bool) {
		message, from, err := unframe(b, checked)
		if err == nil && (len(message) > len(b)-ipv4Header-udpHeader || !from.Is4()) {
			t.Fatalf("%d bytes from %v out of %d", len(message), from, len(b))
		}
	})
}

func TestFramesArriveAndDamagedOnesDoNot(t *testing.T) {
	message := []byte("a message of an odd length")
	message = message[:len(message)-1]
	b := frame(message, serverA)
	b[ipv4Header+1], b[ipv4Header+3] = dhcpServerPort, dhcpClientPort // as a server would send it; sums do not change
	got, from, err := unframe(append(bytes.Clone(b), "padding"...), true)
	if err != nil || !bytes.Equal(got, message) || from != serverA {
		t.Fatalf("got %q from %v, %v", got, from, err)
	}
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 0x10
		if _, _, err := unframe(bad, true); err == nil {
			t.Errorf("byte %d was changed, and nobody noticed", i)
		}
	}
	for n := range b {
		if _, _, err := unframe(b[:n], true); err == nil {
			t.Errorf("%d of %d bytes were taken for all", n, len(b))
		}
	}
	b[len(b)-1] ^= 1
	if _, _, err := unframe(b, false); err != nil {
		t.Errorf("a sum that hardware would have filled in: %v", err)
	}
}

// captures are payloads that a kernel sent (6.18), one a file, named by their message type.
func captures(f *testing.F) {
	f.Helper()
	for name, typ := range map[string]uint16{"link": unix.RTM_NEWLINK, "addr": unix.RTM_NEWADDR, "neigh": unix.RTM_NEWNEIGH, "route": unix.RTM_NEWROUTE, "rule": unix.RTM_NEWRULE} {
		files, err := filepath.Glob(filepath.Join("testdata", "rtnetlink", name+"-*"))
		if err != nil || len(files) == 0 {
			f.Fatalf("no captures of %s: %v", name, err)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(typ, b)
		}
	}
}

func FuzzMessage(f *testing.F) {
	captures(f)
	f.Fuzz(func(t *testing.T, typ uint16, b []byte) {
		s := &State{}
		events, _ := parse(typ, b)
		for _, e := range events {
			s.Fold(e)
		}
		for _, r := range parseRoute(b) {
			if !r.To.IsValid() {
				t.Fatalf("a route that cannot be: %+v", r)
			}
			s.Fold(Event{Kind: RouteIs, Route: r})
		}
		if r, ok := parseRule(b); ok {
			s.Fold(Event{Kind: RuleIs, Rule: r})
		}
		if len(s.Routes) > maxNexthops {
			t.Fatalf("%d next hops", len(s.Routes))
		}
		for _, a := range s.Addresses {
			if !a.Prefix.IsValid() || a.Index <= 0 {
				t.Fatalf("an address that cannot be: %+v", a)
			}
		}
		s.Way(netip.MustParseAddr("192.0.2.1"))
		s.Way(netip.MustParseAddr("2001:db8::1"))
	})
}

func FuzzARP(f *testing.F) {
	f.Add(arpPacket{op: arpRequest, senderMAC: ourMAC, sender: serverA, targetAddr: serverB}.bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, ok := parseARP(b)
		if !ok {
			return
		}
		again, ok := parseARP(p.bytes())
		if !ok || again.sender != p.sender || again.targetAddr != p.targetAddr || again.op != p.op || !bytes.Equal(again.senderMAC, p.senderMAC) {
			t.Fatalf("%+v became %+v", p, again)
		}
		p.conflict(serverA, ourMAC)
	})
}
