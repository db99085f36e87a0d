package link

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"
)

// nameServer answers every question for an IPv4 address with a, on loopback, and counts them.
func nameServer(t *testing.T, a netip.Addr) (address netip.AddrPort, asked chan struct{}) {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	asked = make(chan struct{}, 100)
	go func() {
		b := make([]byte, 512)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			asked <- struct{}{}
			m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
					Body:   &dnsmessage.AResource{A: a.As4()},
				}}
			}
			if out, err := m.Pack(); err == nil {
				_, _ = c.WriteTo(out, from)
			}
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).AddrPort(), asked
}

func TestTheResolverAsksItsServersAndLeavesOneThatIsDead(t *testing.T) {
	want := netip.MustParseAddr("192.0.2.22")
	alive, asked := nameServer(t, want)
	gone, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := gone.LocalAddr().(*net.UDPAddr).AddrPort()
	gone.Close() // its port answers that nobody is there
	r := &rotation{servers: []netip.AddrPort{dead, alive}}
	resolver := &net.Resolver{PreferGo: true, Dial: r.dial}
	for range 3 {
		got, err := resolver.LookupNetIP(deadline(t), "ip4", "kms-a.example.net.")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]netip.Addr{want}, got, compare()); diff != "" {
			t.Errorf("addresses (-want +got):\n%s", diff)
		}
	}
	if failures := r.current.Load(); failures != 1 || len(asked) != 3 {
		t.Errorf("%d failures and %d questions, want 1 and 3: it stays with the server that answers", failures, len(asked))
	}
	if _, err := Resolver(nil).LookupNetIP(deadline(t), "ip4", "kms-a.example.net."); err == nil {
		t.Error("without servers: no error")
	}
}

func TestTheResolverSpeaksWithAServer(t *testing.T) {
	want := netip.MustParseAddr("192.0.2.23")
	alive, _ := nameServer(t, want)
	ctx := deadline(t)
	start := time.Now()
	got, err := Resolver([]netip.AddrPort{alive}).LookupNetIP(ctx, "ip4", "kms-b.example.net.")
	if err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("got %v, %v after %v; want %s", got, err, time.Since(start), want)
	}
}
