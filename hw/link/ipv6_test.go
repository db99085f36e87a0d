package link

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"initd/hw/sysfs"
)

// keeping6 is keeping for IPv6.
func keeping6(t *testing.T, c DHCP6, l Lease6) (next func() (Lease6, error), stop func()) {
	t.Helper()
	type change struct {
		l   Lease6
		err error
	}
	ctx, cancel := context.WithCancel(t.Context())
	changes, ended := make(chan change, 100), make(chan struct{})
	go func() {
		defer close(ended)
		c.Keep(ctx, l, func(l Lease6, err error) { changes <- change{l, err} })
	}()
	stop = func() { cancel(); <-ended }
	t.Cleanup(stop)
	return func() (Lease6, error) {
		t.Helper()
		select {
		case x := <-changes:
			return x.l, x.err
		case <-time.After(hang):
			t.Fatal("nothing became of the lease")
			return Lease6{}, nil
		}
	}, stop
}

// A whole life with a real server and a real router: an address by DHCPv6, routes by advertisements; renewed, rebound,
// confirmed when the carrier returns, and lost on another network.
func TestLifeOfAnIPv6AddressWithDnsmasq(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	p := wireUp(t, "near", "far")
	p.ip("addr", "add", "2001:db8::1/64", "dev", "far", "nodad")
	d := newDnsmasq(t, p, "far", "--enable-ra", "--ra-param=far,10",
		"--dhcp-range=2001:db8::100,2001:db8::1ff,64,10m",
		"--dhcp-option=option6:dns-server,[2001:db8::53]", "--dhcp-option=option6:domain-search,a.example,b.example")
	duid := append([]byte{0, 4}, bytes.Repeat([]byte{7, 9}, 8)...)
	var heard RouterDNS
	said := make(chan RouterDNS, 100)
	go func() { _ = WatchRouterDNS(t.Context(), func(x RouterDNS) { said <- x }) }()
	c := Config{Name: "near", Match: Match{Name: "near"}, RA: RARoutes}
	if _, err := Apply(deadline(t), c, func(string) {}); err != nil {
		t.Fatal(err)
	}
	advertised, err := AwaitRouters(deadline(t), "near", false, func(string) {})
	if err != nil || !advertised.Managed {
		t.Errorf("routers say %+v, %v; want that addresses come by DHCPv6", advertised, err)
	}
	client := DHCP6{Link: "near", DUID: duid}
	l, err := client.Acquire(deadline(t), func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	want := Lease6{
		Address: l.Address, Server: l.Server, DNS: []netip.Addr{netip.MustParseAddr("2001:db8::53")}, Search: []string{"a.example", "b.example"},
		T1: l.T1, T2: l.T2, Preferred: 10 * time.Minute, Valid: 10 * time.Minute, Obtained: l.Obtained,
	}
	if diff := cmp.Diff(want, l, compare()); diff != "" || !netip.MustParsePrefix("2001:db8::/64").Contains(l.Address) {
		t.Errorf("lease (-want +got):\n%s", diff)
	}
	s := reaches(t, "a way out", func(s *State) bool { ok, _ := s.Way(netip.MustParseAddr("2001:db8:ffff::1")); return ok })
	i, _ := s.Find(Match{Name: "near"})
	if slices.ContainsFunc(s.Addresses, func(a Address) bool { return a.Index == i.Index && a.Dynamic && a.Prefix.Bits() == 64 && !a.LinkLocal }) {
		t.Errorf("the kernel has made an address by itself: %v", s.Addresses)
	}
	if answer, why, err := Check(s, c); answer != Same || err != nil {
		t.Errorf("check: %s %s %v", answer, why, err)
	}
	for len(heard.Servers) == 0 {
		select {
		case heard = <-said:
		case <-time.After(hang):
			t.Fatal("no router said anything about name servers")
		}
	}

	// Its time has come; then the server has another name; then the wire was out.
	l.T1, l.T2 = 0, l.Valid-time.Second
	next, stop := keeping6(t, client, l)
	d.says("DHCPRENEW(far)")
	renewed, err := next()
	if err != nil || renewed.Address != l.Address || renewed.T1 < time.Minute {
		t.Errorf("renewed: %+v, %v", renewed, err)
	}
	stop()
	moved := renewed
	moved.T1, moved.T2 = 0, 0
	next, _ = keeping6(t, client, moved)
	d.says("DHCPREBIND(far)")
	if l, err := next(); err != nil || l.Address != renewed.Address {
		t.Errorf("rebound: %+v, %v", l, err)
	}
	flapWire(t, p)
	p.ip("addr", "replace", "2001:db8::1/64", "dev", "far", "nodad") // the flap took it
	d.says("DHCPCONFIRM(far)")
	if l, err := next(); err != nil || l.Address != renewed.Address {
		t.Errorf("confirmed: %+v, %v", l, err)
	}

	// Another network.
	d.stop()
	p.ip("addr", "flush", "dev", "far", "scope", "global")
	p.ip("addr", "add", "2001:db8:2::1/64", "dev", "far", "nodad")
	d.leases += "2"
	d.start("far", "--enable-ra", "--dhcp-range=2001:db8:2::100,2001:db8:2::1ff,64,10m")
	flapWire(t, p)
	p.ip("addr", "replace", "2001:db8:2::1/64", "dev", "far", "nodad")
	if l, err := next(); err == nil {
		t.Errorf("on the other network: %+v is good", l)
	}
	other, err := next()
	if err != nil || !netip.MustParsePrefix("2001:db8:2::/64").Contains(other.Address) {
		t.Fatalf("on the other network: %+v, %v", other, err)
	}
	if s := read(t); s.Has(i.Index, renewed.Prefix()) {
		t.Error("the address of the first network is still there")
	}
}

func TestAddressesAndNameServersAsRoutersAdvertise(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	p := wireUp(t, "near", "far")
	up(t, "near") // before anything is said: nobody solicits for us
	if err := RANothing.set(Interface{Name: "near"}, false); err != nil {
		t.Fatal(err)
	}
	p.ip("addr", "add", "2001:db8::1/64", "dev", "far", "nodad")
	newDnsmasq(t, p, "far", "--enable-ra", "--dhcp-range=2001:db8::,ra-stateless", "--dhcp-option=option6:dns-server,[2001:db8::53],[2001:db8::54]",
		"--dhcp-option=option6:domain-search,a.example")
	c := Config{Name: "near", Match: Match{Name: "near"}, RA: RAAddresses}
	if _, err := Apply(deadline(t), c, func(string) {}); err != nil {
		t.Fatal(err)
	}
	advertised, err := AwaitRouters(deadline(t), "near", true, func(string) {})
	if want := (Advertised{Other: true, Address: true}); err != nil || advertised != want {
		t.Errorf("got %+v, %v; want %+v", advertised, err, want)
	}
	l, err := DHCP6{Link: "near", DUID: []byte{0, 4, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}}.Inform(deadline(t), func(string) {})
	if err != nil || len(l.DNS) != 2 || l.Address.IsValid() || len(l.Search) != 1 {
		t.Errorf("information: %+v, %v", l, err)
	}
}

// The server, the client and a third machine are on a bridge of this one.
func TestAnAddressThatAnotherMachineHasIsDeclined(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	server := wireUp(t, "near", "far")
	third := wireUp(t, "near2", "far2")
	server.ip("addr", "add", "2001:db8::1/64", "dev", "far", "nodad")
	d := newDnsmasq(t, server, "far", "--enable-ra", "--dhcp-range=2001:db8::100,2001:db8::101,64,10m")
	c := Config{Name: "lan", Make: Made{Bridge: &BridgeConfig{Ports: []Match{{Name: "near"}, {Name: "near2"}}}}, RA: RARoutes}
	if _, err := Apply(deadline(t), c, func(string) {}); err != nil {
		t.Fatal(err)
	}
	client := DHCP6{Link: "lan", DUID: []byte{0, 3, 0, 1, 2, 0, 0, 0, 0, 9}}
	first, err := client.Acquire(deadline(t), func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	mine(t, "addr", "del", first.Prefix().String(), "dev", "lan")
	third.ip("addr", "add", first.Address.String()+"/64", "dev", "far2", "nodad")
	second, err := client.Acquire(deadline(t), func(why string) { t.Log(why) })
	if err != nil || second.Address == first.Address {
		t.Errorf("got %+v, %v; want the address that nobody has", second, err)
	}
	d.says("DHCPDECLINE(far)")
	if s := read(t); s.Has(find(t, s, "lan").Index, first.Prefix()) {
		t.Error("the other machine's address is still here")
	}
}

func find(t *testing.T, s *State, name string) Interface {
	t.Helper()
	i, err := s.Find(Match{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestWithoutARouterTheReasonIsSaid(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	wireUp(t, "near", "far")
	if _, err := Apply(deadline(t), Config{Name: "near", Match: Match{Name: "near"}, RA: RAAddresses}, func(string) {}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := AwaitRouters(ctx, "near", true, func(why string) {
		if why == "near: no router has answered" {
			cancel()
		}
	})
	if err == nil || ctx.Err() == nil {
		t.Errorf("got %v", err)
	}
}

func TestDUIDIsTheMachines(t *testing.T) {
	mac := net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s + "\n")} }
	for _, c := range []struct {
		name string
		tree fstest.MapFS
		want []byte
	}{
		{"the firmware's, whatever the root says", fstest.MapFS{"sys/class/dmi/id/product_uuid": file("550E8400-E29B-41D4-A716-446655440000"), "etc/machine-id": file("00000000000000000000000000000001")},
			append([]byte{0, 4}, 0x55, 0x0e, 0x84, 0, 0xe2, 0x9b, 0x41, 0xd4, 0xa7, 0x16, 0x44, 0x66, 0x55, 0x44, 0, 0)},
		{"firmware that has none", fstest.MapFS{"sys/class/dmi/id/product_uuid": file("FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"), "etc/machine-id": file("0123456789abcdef0123456789abcdef")},
			append([]byte{0, 4}, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef)},
		{"a first boot", fstest.MapFS{"etc/machine-id": file("uninitialized")}, append([]byte{0, 3, 0, 1}, mac...)},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := DUID(sysfs.New(c.tree), mac); !bytes.Equal(got, c.want) {
				t.Errorf("got %x, want %x", got, c.want)
			}
		})
	}
}
