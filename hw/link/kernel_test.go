package link

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	t.Cleanup(cancel)
	return ctx
}

// mine changes this side with iproute2, as an administrator would.
func mine(t *testing.T, args ...string) {
	t.Helper()
	if err := try(t, args...); err != nil {
		t.Fatal(err)
	}
}

func try(t *testing.T, args ...string) error {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// neighbourFails makes the kernel think so. It tells of that only if the neighbour was there before (__neigh_update in
// net/core/neighbour.c), as it always was if the kernel found out by itself.
func neighbourFails(t *testing.T, address string) error {
	t.Helper()
	if err := try(t, "neigh", "replace", address, "lladdr", "02:00:00:00:00:09", "dev", "near", "nud", "reachable"); err != nil {
		return err
	}
	return try(t, "neigh", "replace", address, "dev", "near", "nud", "failed")
}

func read(t *testing.T) *State {
	t.Helper()
	s, err := Read()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A link is configured; what somebody else added stays; a second time nothing happens.
func TestApplyMakesALinkAsItShouldBe(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	p := wireUp(t, "near", "far")
	i, err := read(t).Find(Match{Name: "near"})
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Name: "storage", Match: Match{MAC: strings.ToUpper(i.MAC)}, MTU: 1400, Addresses: prefixes("192.0.2.17/24", "2001:db8::17/64", "198.51.100.1/32"), Probe: 50 * time.Millisecond}
	check := func(want Answer) {
		t.Helper()
		if got, why, err := Check(read(t), c); err != nil || got != want {
			t.Errorf("check: got %s (%s), %v; want %s", got, why, err, want)
		}
	}
	check(Absent)
	var waited []string
	name, err := Apply(deadline(t), c, func(s string) { waited = append(waited, s) })
	if err != nil || name != "near" {
		t.Fatalf("apply: got %q, %v", name, err)
	}
	check(Same)
	if !slices.Contains(waited, "duplicate address detection of 2001:db8::17 on near") || !slices.Contains(waited, "whether another machine has 192.0.2.17 on near") {
		t.Errorf("it waited for %q, want both checks for duplicates among it", waited)
	}
	mine(t, "addr", "add", "203.0.113.9/24", "dev", "near")
	mine(t, "addr", "del", "192.0.2.17/24", "dev", "near")
	check(Partial)
	if _, err := Apply(deadline(t), c, func(string) {}); err != nil {
		t.Fatal(err)
	}
	check(Same)
	before := read(t)
	if _, ok := before.address(i.Index, netip.MustParsePrefix("203.0.113.9/24")); !ok {
		t.Error("an address that somebody else added is gone")
	}
	if _, err := Apply(deadline(t), c, func(string) {}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, read(t), compare()); diff != "" {
		t.Errorf("a second time changed (-before +after):\n%s", diff)
	}
	p.ip("addr", "add", "192.0.2.1/24", "dev", "far") // and the wire carries packets
	if out, err := p.command("ip", "route", "get", "192.0.2.17").CombinedOutput(); err != nil {
		t.Errorf("the peer's way: %v: %s", err, out)
	}
}

// Another machine has the address: an error that names it. When it has given it up, the same configuration is taken.
func TestAnAddressThatAnotherMachineHasIsRefused(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	p := wireUp(t, "near", "far")
	for _, tt := range []struct{ name, address string }{{"IPv4", "192.0.2.5/24"}, {"IPv6", "2001:db8::5/64"}} {
		t.Run(tt.name, func(t *testing.T) {
			p.ip("addr", "add", tt.address, "dev", "far", "nodad")
			c := Config{Name: "storage", Match: Match{Name: "near"}, Addresses: prefixes(tt.address), Probe: 2 * time.Second}
			_, err := Apply(deadline(t), c, func(string) {})
			var dup *DuplicateError
			if !errors.As(err, &dup) || dup.Link != "storage" || dup.Address != c.Addresses[0].Addr() {
				t.Fatalf("got %v, want a DuplicateError for %s", err, tt.address)
			}
			if far := p.ip("link", "show", "far"); dup.Address.Is4() && !strings.Contains(far, dup.Owner) {
				t.Errorf("the owner is said to be %s, of %s", dup.Owner, far)
			}
			if got, why, err := Check(read(t), c); err != nil || got != Absent {
				t.Errorf("check: got %s (%s), %v; want absent", got, why, err)
			}
			p.ip("addr", "del", tt.address, "dev", "far")
			c.Probe = 50 * time.Millisecond
			if _, err := Apply(deadline(t), c, func(string) {}); err != nil {
				t.Errorf("after it was given up: %v", err)
			}
		})
	}
}

// Nobody can be asked without a carrier: nothing waits for it.
func TestWithoutACarrierApplyDoesNotWait(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	p := wireUp(t, "near", "far")
	p.ip("link", "set", "far", "down")
	c := Config{Name: "storage", Match: Match{Name: "near"}, Addresses: prefixes("192.0.2.17/24", "2001:db8::17/64")}
	if _, err := Apply(deadline(t), c, func(string) {}); err != nil {
		t.Fatal(err)
	}
	for _, dst := range []string{"192.0.2.1", "2001:db8::1"} {
		if ok, why := read(t).Way(netip.MustParseAddr(dst)); ok || why != "near: no carrier" {
			t.Errorf("way to %s: got %v, %q; want near: no carrier", dst, ok, why)
		}
	}
	p.ip("link", "set", "far", "up")
	for _, dst := range []string{"192.0.2.1", "2001:db8::1"} {
		reaches(t, "a way to "+dst, func(s *State) bool { ok, _ := s.Way(netip.MustParseAddr(dst)); return ok })
	}
	if got, why, err := Check(read(t), c); err != nil || got != Same {
		t.Errorf("check: got %s (%s), %v; want same", got, why, err)
	}
	if err := neighbourFails(t, "192.0.2.1"); err != nil {
		t.Fatal(err)
	}
	s := reaches(t, "a neighbour that failed", func(s *State) bool { return len(s.Failed) > 0 })
	if ok, why := s.Way(netip.MustParseAddr("192.0.2.1")); !ok || why != "192.0.2.1 does not answer on near" {
		t.Errorf("way to a neighbour that failed: got %v, %q", ok, why)
	}
}

func TestRoutes(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	wireUp(t, "near", "far")
	up(t, "near")
	mine(t, "addr", "add", "192.0.2.17/24", "dev", "near")
	mine(t, "addr", "add", "2001:db8::17/64", "dev", "near", "nodad")
	a := netip.MustParseAddr
	for _, tt := range []struct {
		name string
		c    RouteConfig
	}{
		{"by a gateway", RouteConfig{To: "203.0.113.0/24", Via: a("192.0.2.1")}},
		{"by a gateway, with a metric", RouteConfig{To: "203.0.113.0/24", Via: a("192.0.2.2"), Metric: 50}},
		{"on the link", RouteConfig{To: "198.51.100.0/24", Link: "near"}},
		{"default of IPv4", RouteConfig{To: "default", Via: a("192.0.2.1")}},
		{"default of IPv6", RouteConfig{To: "default", Via: a("2001:db8::1")}},
		{"default of IPv6 by a link-local gateway", RouteConfig{To: "default", Via: a("fe80::1"), Link: "near", Metric: 2000}},
		{"IPv6 on the link", RouteConfig{To: "2001:db8:1::/64", Link: "near"}},
		{"default of IPv6 over a link, from an address", RouteConfig{To: "default", Link: "near", Source: a("2001:db8::17"), Metric: 3000}},
		{"by a gateway that no address covers", RouteConfig{To: "10.0.0.0/8", Via: a("198.18.0.1"), Link: "near", OnLink: true}},
		{"from an address", RouteConfig{To: "10.1.0.0/16", Via: a("192.0.2.1"), Source: a("192.0.2.17")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, want := range []Answer{Absent, Same} {
				if got, why, err := CheckRoute(read(t), tt.c); err != nil || got != want {
					t.Errorf("got %s (%s), %v; want %s", got, why, err, want)
				}
				if err := AddRoute(tt.c); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	other := RouteConfig{To: "203.0.113.0/24", Via: a("192.0.2.9")}
	if got, why, err := CheckRoute(read(t), other); err != nil || got != Different || why != "it leads via 192.0.2.1 over near" {
		t.Errorf("another gateway: got %s (%s), %v", got, why, err)
	}
	if err := AddRoute(other); err != nil {
		t.Fatal(err)
	}
	if got, why, err := CheckRoute(read(t), other); err != nil || got != Same {
		t.Errorf("replaced: got %s (%s), %v", got, why, err)
	}
	err := AddRoute(RouteConfig{To: "203.0.113.0/24", Via: a("198.18.7.7")})
	if err == nil || err.Error() != "route to 203.0.113.0/24: its gateway 198.18.7.7 is on no link that has an address" && !strings.Contains(err.Error(), "198.18.7.7") {
		t.Errorf("a gateway that is nowhere: got %v", err)
	}
}

// Whatever happens, the state that is folded from events becomes what the kernel lists.
func TestEventsFoldToWhatTheKernelHas(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	p := wireUp(t, "near", "far")
	states := watching(t)
	shake(t, p, states, 40)
}

// shake changes things at random and compares.
func shake(t *testing.T, p *peer, states <-chan *State, rounds int) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	n := func() string { return fmt.Sprint(r.IntN(4) + 1) }
	var done []string
	var got *State
	for range rounds {
		for range r.IntN(4) + 1 {
			ops := [][]string{
				{"link", "set", "near", "up"}, {"link", "set", "near", "down"}, {"link", "set", "near", "mtu", "1" + n() + "00"},
				{"addr", "replace", "192.0.2." + n() + "/24", "dev", "near"}, {"addr", "del", "192.0.2." + n() + "/24", "dev", "near"},
				{"addr", "replace", "2001:db8::" + n() + "/64", "dev", "near"}, {"addr", "del", "2001:db8::" + n() + "/64", "dev", "near"},
				{"route", "replace", "10." + n() + ".0.0/16", "via", "192.0.2.9"}, {"route", "append", "10." + n() + ".0.0/16", "via", "192.0.2.8"},
				{"route", "replace", "10." + n() + ".0.0/16", "nexthop", "via", "192.0.2.9", "nexthop", "via", "192.0.2.8"},
				{"route", "del", "10." + n() + ".0.0/16"}, {"-6", "route", "replace", "2001:db8:" + n() + "::/64", "via", "2001:db8::9"},
				{"-6", "route", "append", "2001:db8:" + n() + "::/64", "via", "2001:db8::8"}, {"-6", "route", "del", "2001:db8:" + n() + "::/64"},
				{"route", "replace", "unreachable", "10." + n() + ".0.0/16"},
				{"failed", "192.0.2." + n()}, {"neigh", "del", "192.0.2." + n(), "dev", "near"},
				{"link", "add", "extra" + n(), "type", "veth", "peer", "name", "other" + n()}, {"link", "del", "extra" + n()},
				{"peer", "link", "set", "far", "up"}, {"peer", "link", "set", "far", "down"},
			}
			op := ops[r.IntN(len(ops))]
			done = append(done, strings.Join(op, " "))
			switch op[0] {
			case "peer":
				p.ip(op[1:]...)
			case "failed":
				_ = neighbourFails(t, op[1])
			default:
				_ = try(t, op...) // many make no sense at that moment
			}
		}
		guard := time.After(hang)
		for want := read(t); got == nil || !cmp.Equal(want, got, compare()); want = read(t) {
			select {
			case got = <-states:
			case <-guard:
				t.Fatalf("after %q (-kernel +events):\n%s", done, cmp.Diff(want, got, compare()))
			}
		}
	}
}

// Messages are lost when the buffer is full: everything is listed anew, and what follows is heard.
func TestALossOfMessagesIsMadeGood(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	wireUp(t, "near", "far")
	up(t, "near")
	f, err := subscribe()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1); err != nil { // the kernel's least
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	hw, err := openHardware()
	if err != nil {
		t.Fatal(err)
	}
	defer hw.close()
	hold, held := make(chan struct{}), make(chan struct{})
	states := make(chan *State, 1)
	resets := make(chan int, 1000)
	ended := make(chan error, 1)
	go func() {
		s := &State{}
		first := true
		ended <- follow(t.Context(), f, hw, func(e Event) {
			s.Fold(e)
			if e.Kind == ResetAll {
				resets <- 1
			}
			if e.Kind != Settled {
				return
			}
			if first {
				first = false
				close(held)
				<-hold
			}
			select {
			case <-states:
			default:
			}
			states <- s.Clone()
		})
	}()
	<-held
	l, err := netlink.LinkByName("near")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), 1}), 24)
		if err := addAddress(l, p, 0); err != nil {
			t.Fatal(err)
		}
	}
	close(hold)
	guard := time.After(hang)
	for got := (*State)(nil); got == nil || !cmp.Equal(read(t), got, compare()); {
		select {
		case got = <-states:
		case <-guard:
			t.Fatalf("(-kernel +events):\n%s", cmp.Diff(read(t), got, compare()))
		}
	}
	if len(resets) < 2 {
		t.Error("nothing was lost: this test checks nothing")
	}
	f.Close()
	if err := <-ended; err == nil {
		t.Error("follow ended without an error")
	}
}
