package link

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
)

// virtual runs a story in virtual time: do acts, and the diary is want.
func virtual(t *testing.T, answer func(m *dhcpv4.DHCPv4) [][]byte, do func(b *bubble), want ...string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, answer)
		do(b)
		if diff := cmp.Diff(want, b.lines()); diff != "" {
			t.Errorf("what happened (-want +got):\n%s", diff)
		}
	})
}

// acquire gets a lease within a day.
func (b *bubble) acquire(limit time.Duration) (Lease, error) {
	ctx, cancel := context.WithTimeout(b.t.Context(), limit)
	defer cancel()
	c := b.client()
	k := followCarrier(ctx, c.carrier)
	defer k.close()
	return c.acquire(ctx, k, b.waiting)
}

// keep keeps l for a while.
func (b *bubble) keep(l Lease, limit time.Duration) {
	ctx, cancel := context.WithTimeout(b.t.Context(), limit)
	defer cancel()
	keep(ctx, b.client(), l, b.changed)
}

// had is a lease that was configured when the story begins.
func (b *bubble) had() Lease {
	b.address = netip.MustParsePrefix("192.0.2.50/24")
	return Lease{Address: b.address, Server: serverA, Obtained: b.now(), Length: leaseTime, T1: leaseTime / 2, T2: leaseTime / 8 * 7}
}

// unless answers as with does, but to the first n messages not at all.
func unless(n int, with func(m *dhcpv4.DHCPv4) [][]byte) func(m *dhcpv4.DHCPv4) [][]byte {
	return func(m *dhcpv4.DHCPv4) [][]byte {
		if n--; n >= 0 {
			return nil
		}
		return with(m)
	}
}

func silent(*dhcpv4.DHCPv4) [][]byte { return nil }

func TestALeaseIsAskedForUntilThereIsOne(t *testing.T) {
	virtual(t, unless(3, good(serverA)), func(b *bubble) {
		if l, err := b.acquire(time.Hour); err != nil || l.Server != serverA {
			t.Errorf("got %v, %v", l, err)
		}
	},
		"0s waits: a DHCP server on eth0: no server answered",
		"0s discover broadcast",
		"1s discover broadcast",
		"3s discover broadcast",
		"7s discover broadcast",
		"7s request broadcast for 192.0.2.50",
		"7s apply 192.0.2.50/24")
}

func TestAskingEndsWithItsContext(t *testing.T) {
	virtual(t, silent, func(b *bubble) {
		if _, err := b.acquire(2 * time.Second); !errors.Is(err, ErrNoServer) {
			t.Errorf("got %v, want that no server answered", err)
		}
	},
		"0s waits: a DHCP server on eth0: no server answered",
		"0s discover broadcast",
		"1s discover broadcast")
}

func TestNothingIsSentWithoutACarrierAndSomethingAtOnceWithIt(t *testing.T) {
	virtual(t, good(serverA), func(b *bubble) {
		b.up = false
		go func() {
			time.Sleep(3500 * time.Millisecond)
			b.carrierIs(true)
		}()
		if _, err := b.acquire(time.Hour); err != nil {
			t.Error(err)
		}
	},
		"0s waits: eth0: no carrier",
		"3.5s carrier true",
		"3.5s waits: a DHCP server on eth0: no server answered",
		"3.5s discover broadcast",
		"3.5s request broadcast for 192.0.2.50",
		"3.5s apply 192.0.2.50/24")
}

func TestACarrierThatIsLostWhileAskingBeginsAnew(t *testing.T) {
	virtual(t, unless(2, good(serverA)), func(b *bubble) {
		go func() {
			time.Sleep(2 * time.Second)
			b.carrierIs(false)
			time.Sleep(10 * time.Second)
			b.carrierIs(true)
		}()
		if _, err := b.acquire(time.Hour); err != nil {
			t.Error(err)
		}
	},
		"0s waits: a DHCP server on eth0: no server answered",
		"0s discover broadcast",
		"1s discover broadcast",
		"2s carrier false",
		"2s waits: eth0: no carrier",
		"12s carrier true",
		"12s waits: a DHCP server on eth0: no server answered",
		"12s discover broadcast",
		"12s request broadcast for 192.0.2.50",
		"12s apply 192.0.2.50/24")
}

// A stray server sends garbage, offers without an address, offers to somebody else, and takes no part in what follows.
func TestGarbageAndStrangersAreNotHeard(t *testing.T) {
	sane := good(serverA)
	virtual(t, func(m *dhcpv4.DHCPv4) [][]byte {
		var out [][]byte
		switch m.MessageType() {
		case dhcpv4.MessageTypeDiscover:
			other := *m
			other.ClientHWAddr = net.HardwareAddr{2, 2, 2, 2, 2, 2}
			late := *m
			late.TransactionID[0]++
			out = [][]byte{
				nil, []byte("garbage"), make([]byte, 1500),
				reply(m, dhcpv4.MessageTypeOffer, serverB, dhcpv4.WithYourIP(net.IPv4zero)),
				reply(m, dhcpv4.MessageTypeOffer, serverB, dhcpv4.WithLeaseTime(1)),
				reply(&other, dhcpv4.MessageTypeOffer, serverB),
				reply(&late, dhcpv4.MessageTypeOffer, serverB),
				reply(m, dhcpv4.MessageTypeAck, serverB), // an answer to what was not asked
			}
		case dhcpv4.MessageTypeRequest:
			out = [][]byte{
				reply(m, dhcpv4.MessageTypeNak, serverB),
				reply(m, dhcpv4.MessageTypeAck, serverB, dhcpv4.WithYourIP(net.IPv4(10, 6, 6, 6))),
				reply(m, dhcpv4.MessageTypeAck, serverA, dhcpv4.WithNetmask(net.IPMask{0, 0, 0, 0})),
			}
		}
		return append(out, sane(m)...)
	}, func(b *bubble) {
		if l, err := b.acquire(time.Hour); err != nil || l.Server != serverA || l.Address != netip.MustParsePrefix("192.0.2.50/24") {
			t.Errorf("got %+v, %v", l, err)
		}
	},
		"0s waits: a DHCP server on eth0: no server answered",
		"0s discover broadcast",
		"0s waits: a DHCP server on eth0: the server's answer cannot be used: it gives the address 0.0.0.0",
		"0s waits: a DHCP server on eth0: the server's answer cannot be used: it lends 192.0.2.50 for 1s",
		"0s request broadcast for 192.0.2.50",
		"0s apply 192.0.2.50/24")
}

func TestAnOfferThatIsTakenBackIsNotTheEnd(t *testing.T) {
	refuse := true
	virtual(t, func(m *dhcpv4.DHCPv4) [][]byte {
		if m.MessageType() == dhcpv4.MessageTypeRequest && refuse {
			refuse = false
			return [][]byte{reply(m, dhcpv4.MessageTypeNak, serverA)}
		}
		return good(serverA)(m)
	}, func(b *bubble) {
		if _, err := b.acquire(time.Hour); err != nil {
			t.Error(err)
		}
	},
		"0s waits: a DHCP server on eth0: no server answered",
		"0s discover broadcast",
		"0s request broadcast for 192.0.2.50",
		"0s waits: a DHCP server on eth0: the server refused it (NAK)",
		"1s waits: a DHCP server on eth0: no server answered",
		"1s discover broadcast",
		"1s request broadcast for 192.0.2.50",
		"1s apply 192.0.2.50/24")
}

func TestAnAddressThatSomebodyHasIsDeclined(t *testing.T) {
	virtual(t, good(serverA), func(b *bubble) {
		b.owner = net.HardwareAddr{2, 0, 0, 0, 0, 9}
		go func() {
			time.Sleep(time.Second)
			b.mu.Lock()
			b.owner = nil
			b.mu.Unlock()
		}()
		if _, err := b.acquire(time.Hour); err != nil {
			t.Error(err)
		}
	},
		"0s waits: a DHCP server on eth0: no server answered",
		"0s discover broadcast",
		"0s request broadcast for 192.0.2.50",
		"0s decline broadcast for 192.0.2.50",
		"0s waits: a DHCP server on eth0: link eth0: another machine (02:00:00:00:00:09) has the address 192.0.2.50",
		"10s waits: a DHCP server on eth0: no server answered",
		"10s discover broadcast",
		"10s request broadcast for 192.0.2.50",
		"10s apply 192.0.2.50/24")
}

func TestALeaseIsRenewedAtHalfItsTime(t *testing.T) {
	virtual(t, good(serverA), func(b *bubble) { b.keep(b.had(), 61*time.Minute) },
		"30m0s request to 192.0.2.1 from 192.0.2.50",
		"30m0s apply 192.0.2.50/24",
		"30m0s changed: 192.0.2.50/24 of 192.0.2.1",
		"1h0m0s request to 192.0.2.1 from 192.0.2.50",
		"1h0m0s apply 192.0.2.50/24",
		"1h0m0s changed: 192.0.2.50/24 of 192.0.2.1")
}

// Half of what is left to T2 (52m30s) between two requests, then any server is asked.
func TestFromT2AnyServerIsAsked(t *testing.T) {
	virtual(t, func(m *dhcpv4.DHCPv4) [][]byte {
		return good(serverB)(m) // renewals name no server, so this one answers, and is not heard before T2
	}, func(b *bubble) { b.keep(b.had(), 53*time.Minute) },
		"30m0s request to 192.0.2.1 from 192.0.2.50",
		"41m15s request to 192.0.2.1 from 192.0.2.50",
		"46m52.5s request to 192.0.2.1 from 192.0.2.50",
		"49m41.25s request to 192.0.2.1 from 192.0.2.50",
		"51m5.625s request to 192.0.2.1 from 192.0.2.50",
		"52m5.625s request to 192.0.2.1 from 192.0.2.50",
		"52m30s request broadcast from 192.0.2.50",
		"52m30s apply 192.0.2.50/24",
		"52m30s changed: 192.0.2.50/24 of 192.0.2.2")
}

func TestALeaseThatRunsOutIsRemovedAndANewOneAskedFor(t *testing.T) {
	answer := silent
	virtual(t, func(m *dhcpv4.DHCPv4) [][]byte { return answer(m) }, func(b *bubble) {
		l := b.had()
		l.T1 = l.Length - 90*time.Second
		l.T2 = l.Length - 80*time.Second
		go func() {
			time.Sleep(l.Length + 2*time.Second)
			b.mu.Lock()
			answer = good(serverB)
			b.mu.Unlock()
		}()
		b.keep(l, 61*time.Minute)
	},
		"58m30s request to 192.0.2.1 from 192.0.2.50",
		"58m40s request broadcast from 192.0.2.50",
		"59m40s request broadcast from 192.0.2.50",
		"1h0m0s remove 192.0.2.50/24",
		"1h0m0s changed: DHCP on eth0: the lease of 192.0.2.50 is lost: it ran out, and no server answered",
		"1h0m0s discover broadcast",
		"1h0m1s discover broadcast",
		"1h0m3s discover broadcast",
		"1h0m3s request broadcast for 192.0.2.50",
		"1h0m3s apply 192.0.2.50/24",
		"1h0m3s changed: 192.0.2.50/24 of 192.0.2.2")
}

func TestAnAddressOverWhichADiskIsReachedOutlivesItsLease(t *testing.T) {
	virtual(t, silent, func(b *bubble) {
		b.disk = "nvme0"
		l := b.had()
		l.T1 = l.Length - 90*time.Second
		l.T2 = l.Length - 80*time.Second
		b.keep(l, 60*time.Minute+time.Second)
	},
		"58m30s request to 192.0.2.1 from 192.0.2.50",
		"58m40s hold 192.0.2.50/24",
		"58m40s request broadcast from 192.0.2.50",
		"59m40s request broadcast from 192.0.2.50",
		"1h0m0s hold 192.0.2.50/24",
		"1h0m0s changed: DHCP on eth0: the lease of 192.0.2.50 is lost (the address stays: nvme0 is reached over it): it ran out, and no server answered",
		"1h0m0s discover broadcast",
		"1h0m1s discover broadcast")
}

func TestALeaseThatIsTakenBackIsRemovedAtOnce(t *testing.T) {
	virtual(t, func(m *dhcpv4.DHCPv4) [][]byte {
		if m.MessageType() == dhcpv4.MessageTypeRequest && !m.ClientIPAddr.IsUnspecified() {
			return [][]byte{reply(m, dhcpv4.MessageTypeNak, serverB), reply(m, dhcpv4.MessageTypeNak, serverA)}
		}
		return good(serverA)(m)
	}, func(b *bubble) { b.keep(b.had(), 31*time.Minute) },
		"30m0s request to 192.0.2.1 from 192.0.2.50",
		"30m0s remove 192.0.2.50/24",
		"30m0s changed: DHCP on eth0: the lease of 192.0.2.50 is lost: the server refused it (NAK)",
		"30m0s discover broadcast",
		"30m0s request broadcast for 192.0.2.50",
		"30m0s apply 192.0.2.50/24",
		"30m0s changed: 192.0.2.50/24 of 192.0.2.1")
}

// flap loses the carrier a minute in, for a minute.
func flap(b *bubble) {
	time.Sleep(time.Minute)
	b.carrierIs(false)
	time.Sleep(time.Minute)
	b.carrierIs(true)
}

func TestWhenTheCarrierReturnsTheLeaseIsVerified(t *testing.T) {
	virtual(t, good(serverA), func(b *bubble) {
		go flap(b)
		b.keep(b.had(), 3*time.Minute)
	},
		"1m0s carrier false",
		"2m0s carrier true",
		"2m0s request broadcast for 192.0.2.50",
		"2m0s apply 192.0.2.50/24",
		"2m0s changed: 192.0.2.50/24 of 192.0.2.1")
}

func TestWhenTheCarrierReturnsOnAnotherNetworkTheLeaseIsLost(t *testing.T) {
	virtual(t, func(m *dhcpv4.DHCPv4) [][]byte {
		if m.MessageType() == dhcpv4.MessageTypeRequest && m.ServerIdentifier() == nil {
			return [][]byte{reply(m, dhcpv4.MessageTypeNak, serverB)}
		}
		return good(serverB)(m)
	}, func(b *bubble) {
		go flap(b)
		b.keep(b.had(), 3*time.Minute)
	},
		"1m0s carrier false",
		"2m0s carrier true",
		"2m0s request broadcast for 192.0.2.50", // the NAK is a stranger's: it counts when nobody else answers
		"2m1s request broadcast for 192.0.2.50",
		"2m3s remove 192.0.2.50/24",
		"2m3s changed: DHCP on eth0: the lease of 192.0.2.50 is lost: the server refused it (NAK)",
		"2m3s discover broadcast",
		"2m3s request broadcast for 192.0.2.50",
		"2m3s apply 192.0.2.50/24",
		"2m3s changed: 192.0.2.50/24 of 192.0.2.2")
}

func TestALeaseThatNobodyVerifiesIsGoodUntilItEnds(t *testing.T) {
	virtual(t, silent, func(b *bubble) {
		go flap(b)
		b.keep(b.had(), 31*time.Minute)
	},
		"1m0s carrier false",
		"2m0s carrier true",
		"2m0s request broadcast for 192.0.2.50",
		"2m1s request broadcast for 192.0.2.50",
		"2m3s changed: DHCP on eth0: the lease of 192.0.2.50 could not be verified: no server answered",
		"30m0s request to 192.0.2.1 from 192.0.2.50")
}

// The orchestrator dies five minutes before a renewal; a successor reads the lease and renews it in time.
func TestASuccessorRenewsWithoutAGap(t *testing.T) {
	virtual(t, good(serverA), func(b *bubble) {
		l := b.had()
		b.keep(l, 25*time.Minute)
		text, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		var again Lease
		if err := json.Unmarshal(text, &again); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(l, again, compare()); diff != "" {
			t.Errorf("the lease after a round trip (-before +after):\n%s", diff)
		}
		b.keep(again, 10*time.Minute)
	},
		"30m0s request to 192.0.2.1 from 192.0.2.50",
		"30m0s apply 192.0.2.50/24",
		"30m0s changed: 192.0.2.50/24 of 192.0.2.1")
}

func TestAnInterfaceThatGoesAwayIsTriedAgain(t *testing.T) {
	virtual(t, good(serverA), func(b *bubble) {
		b.broken = errors.New("no such network interface")
		go func() {
			time.Sleep(31*time.Minute + 30*time.Second)
			b.mu.Lock()
			b.broken = nil
			b.mu.Unlock()
		}()
		b.keep(b.had(), 45*time.Minute)
	},
		"41m15s request to 192.0.2.1 from 192.0.2.50",
		"41m15s apply 192.0.2.50/24",
		"41m15s changed: 192.0.2.50/24 of 192.0.2.1")
}

func TestReleaseGivesTheLeaseBack(t *testing.T) {
	virtual(t, silent, func(b *bubble) {
		if err := b.client().release(b.had()); err != nil {
			t.Error(err)
		}
	},
		"0s release to 192.0.2.1 from 192.0.2.50",
		"0s remove 192.0.2.50/24")
}

func ack(mod ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	m, err := dhcpv4.New(dhcpv4.WithHwAddr(ourMAC))
	if err != nil {
		panic(err)
	}
	a, err := dhcpv4.FromBytes(reply(m, dhcpv4.MessageTypeAck, serverA, mod...))
	if err != nil {
		panic(err)
	}
	return a
}

func TestLeaseOf(t *testing.T) {
	network := func(s string) *net.IPNet { _, n, _ := net.ParseCIDR(s); return n }
	base := Lease{
		Address: netip.MustParsePrefix("192.0.2.50/24"), Server: serverA,
		T1: 30 * time.Minute, T2: 52*time.Minute + 30*time.Second, Length: time.Hour, Obtained: time.Minute,
	}
	router := dhcpv4.WithRouter(net.IPv4(192, 0, 2, 1), net.IPv4(192, 0, 2, 2))
	tests := []struct {
		name string
		mod  []dhcpv4.Modifier
		want func(*Lease)
		err  string
	}{
		{"the least", nil, func(*Lease) {}, ""},
		{"the first router is the default route", []dhcpv4.Modifier{router}, func(l *Lease) {
			l.Routes = []LeaseRoute{{To: netip.MustParsePrefix("0.0.0.0/0"), Via: serverA}}
		}, ""},
		{"classless routes replace the router", []dhcpv4.Modifier{router, dhcpv4.WithOption(dhcpv4.OptClasslessStaticRoute(
			&dhcpv4.Route{Dest: network("203.0.113.0/24"), Router: net.IPv4(192, 0, 2, 7)},
			&dhcpv4.Route{Dest: network("198.51.100.0/24"), Router: net.IPv4zero},
			&dhcpv4.Route{Dest: network("224.0.0.0/4"), Router: net.IPv4(192, 0, 2, 7)},
			&dhcpv4.Route{Dest: network("203.0.113.0/24"), Router: net.IPv4(192, 0, 2, 7)},
		))}, func(l *Lease) {
			l.Routes = []LeaseRoute{{To: netip.MustParsePrefix("203.0.113.0/24"), Via: netip.MustParseAddr("192.0.2.7")}, {To: netip.MustParsePrefix("198.51.100.0/24")}}
		}, ""},
		{"names that are none are left out", []dhcpv4.Modifier{
			dhcpv4.WithOption(dhcpv4.OptHostName("bad\nname")), dhcpv4.WithOption(dhcpv4.OptDomainName("example.net")),
		}, func(l *Lease) { l.Search = []string{"example.net"} }, ""},
		{"servers that can be none are left out", []dhcpv4.Modifier{
			dhcpv4.WithDNS(net.IPv4(192, 0, 2, 53), net.IPv4zero, net.IPv4(127, 0, 0, 1), net.IPv4(192, 0, 2, 53), net.IPv4bcast),
			dhcpv4.WithOption(dhcpv4.OptNTPServers(net.IPv4(192, 0, 2, 123))),
		}, func(l *Lease) {
			l.DNS, l.NTP = []netip.Addr{netip.MustParseAddr("192.0.2.53")}, []netip.Addr{netip.MustParseAddr("192.0.2.123")}
		}, ""},
		{"an MTU", []dhcpv4.Modifier{dhcpv4.WithGeneric(dhcpv4.OptionInterfaceMTU, []byte{5, 120})}, func(l *Lease) { l.MTU = 1400 }, ""},
		{"an MTU that IPv6 cannot live with is left out", []dhcpv4.Modifier{dhcpv4.WithGeneric(dhcpv4.OptionInterfaceMTU, []byte{0, 68})}, func(*Lease) {}, ""},
		{"times of the server's", []dhcpv4.Modifier{
			dhcpv4.WithOption(dhcpv4.OptRenewTimeValue(time.Minute)), dhcpv4.WithOption(dhcpv4.OptRebindingTimeValue(2 * time.Minute)),
		}, func(l *Lease) { l.T1, l.T2 = time.Minute, 2*time.Minute }, ""},
		{"times in the wrong order are not believed", []dhcpv4.Modifier{
			dhcpv4.WithOption(dhcpv4.OptRenewTimeValue(3 * time.Hour)), dhcpv4.WithOption(dhcpv4.OptRebindingTimeValue(2 * time.Minute)),
		}, func(*Lease) {}, ""},
		{"for ever is ten years", []dhcpv4.Modifier{dhcpv4.WithLeaseTime(1<<32 - 1)}, func(l *Lease) {
			l.Length = maxLease
			l.T1, l.T2 = maxLease/2, maxLease/8*7
		}, ""},
		{"no address", []dhcpv4.Modifier{dhcpv4.WithYourIP(net.IPv4zero)}, nil, "it gives the address 0.0.0.0"},
		{"a multicast address", []dhcpv4.Modifier{dhcpv4.WithYourIP(net.IPv4(224, 0, 0, 1))}, nil, "it gives the address 224.0.0.1"},
		{"a lease of a second", []dhcpv4.Modifier{dhcpv4.WithLeaseTime(1)}, nil, "it lends 192.0.2.50 for 1s"},
		{"no mask", []dhcpv4.Modifier{dhcpv4.WithNetmask(net.IPMask{0, 0, 0, 0})}, nil, "it gives 192.0.2.50 no subnet mask"},
		{"a mask with holes", []dhcpv4.Modifier{dhcpv4.WithNetmask(net.IPMask{255, 0, 255, 0})}, nil, "it gives 192.0.2.50 no subnet mask"},
		{"no server", []dhcpv4.Modifier{dhcpv4.WithoutOption(dhcpv4.OptionServerIdentifier)}, nil, "it does not say who it is"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := leaseOf(ack(tt.mod...), time.Minute)
			if tt.err != "" {
				if !errors.Is(err, errLease) || !strings.HasSuffix(err.Error(), tt.err) {
					t.Errorf("got %v, want %q", err, tt.err)
				}
				return
			}
			want := base
			tt.want(&want)
			if diff := cmp.Diff(want, got, compare()); err != nil || diff != "" {
				t.Errorf("%v; lease (-want +got):\n%s", err, diff)
			}
		})
	}
}
