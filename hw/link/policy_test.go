package link

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWayByPolicyRules(t *testing.T) {
	prefix := netip.MustParsePrefix
	to := func(priority, table int, change func(*Rule)) Rule {
		r := Rule{IPv4: true, Priority: priority, Action: unix.FR_ACT_TO_TBL, Table: table, Suppress: -1}
		if change != nil {
			change(&r)
		}
		return r
	}
	main := to(32766, 0, nil)
	for _, c := range []struct {
		name   string
		rules  []Rule
		routes []Route
		dst    string
		ok     bool
		reason string
	}{
		{"a route of a table that no rule leads to", []Rule{main}, []Route{{To: prefix("8.0.0.0/8"), Index: 2, Table: 7}}, "8.8.8.8", false, "no route to 8.8.8.8 (eth1: no carrier, eth2 is down)"},
		{"a route of a table that a rule leads to", []Rule{main, to(100, 7, func(r *Rule) { r.To = prefix("8.0.0.0/8") })}, []Route{{To: prefix("0.0.0.0/0"), Index: 2, Via: netip.MustParseAddr("192.0.2.3"), Table: 7}}, "8.8.8.8", true, ""},
		{"a table that has a link without carrier, before the main one", []Rule{main, to(100, 7, nil)}, []Route{{To: prefix("192.0.2.0/24"), Index: 3, Table: 7}}, "192.0.2.22", false, "eth1: no carrier"},
		{"a rule for another destination", []Rule{main, to(100, 7, func(r *Rule) { r.To = prefix("203.0.113.0/24") })}, []Route{{To: prefix("192.0.2.0/24"), Index: 3, Table: 7}}, "192.0.2.22", true, ""},
		{"a rule for the address that we come from", []Rule{main, to(100, 7, func(r *Rule) { r.From = prefix("192.0.2.17/32") })}, []Route{{To: prefix("0.0.0.0/0"), Index: 3, Table: 7}}, "192.0.2.22", false, "eth1: no carrier"},
		{"a rule for another address to come from", []Rule{main, to(100, 7, func(r *Rule) { r.From = prefix("198.51.100.1/32") })}, []Route{{To: prefix("0.0.0.0/0"), Index: 3, Table: 7}}, "192.0.2.22", true, ""},
		{"a table for our address alone, and none that gives us the address", []Rule{main, to(100, 7, func(r *Rule) { r.From = prefix("192.0.2.17/32") })}, []Route{{To: prefix("0.0.0.0/0"), Index: 2, Table: 7}}, "8.8.8.8", false, "no route to 8.8.8.8 (eth1: no carrier, eth2 is down)"},
		{"a rule for packets that came in elsewhere", []Rule{main, to(100, 7, func(r *Rule) { r.In = "eth0" })}, []Route{{To: prefix("0.0.0.0/0"), Index: 3, Table: 7}}, "192.0.2.22", true, ""},
		{"a rule for marked packets", []Rule{main, to(100, 7, func(r *Rule) { r.Mark, r.Mask = 1, 0xff })}, []Route{{To: prefix("0.0.0.0/0"), Index: 3, Table: 7}}, "192.0.2.22", true, ""},
		{"a rule that asks for more than is known", []Rule{main, to(100, 7, func(r *Rule) { r.Unknown = true })}, []Route{{To: prefix("0.0.0.0/0"), Index: 3, Table: 7}}, "192.0.2.22", true, ""},
		{"a rule that refuses", []Rule{main, {IPv4: true, Priority: 5, Action: unix.FR_ACT_PROHIBIT, To: prefix("192.0.2.0/24"), Suppress: -1}}, nil, "192.0.2.22", false, "the route to 192.0.2.22/32 refuses"},
		{"rules of the other family", []Rule{main, {Priority: 5, Action: unix.FR_ACT_PROHIBIT, Suppress: -1}}, nil, "192.0.2.22", true, ""},
		{"rules that lead nowhere", []Rule{{IPv4: true, Priority: 9, Action: unix.FR_ACT_GOTO, Goto: 5, Suppress: -1}, main, {IPv4: true, Priority: 5, Action: unix.FR_ACT_NOP, Suppress: -1}}, nil, "192.0.2.22", true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := machine()
			s.Rules, s.Routes = c.rules, append(s.Routes, c.routes...)
			if ok, reason := s.Way(netip.MustParseAddr(c.dst)); ok != c.ok || reason != c.reason {
				t.Errorf("got %v, %q; want %v, %q", ok, reason, c.ok, c.reason)
			}
		})
	}
}

// The kernel is asked itself: a connection that begins has a way. (One that is bound to a link always begins: without a route the
// kernel hopes that everybody is on the link, ip_route_output_key_hash_rcu in net/ipv4/route.c. We do not.)
func TestTheWayIsTheKernels(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	wireUp(t, "near", "far")
	wireUp(t, "near2", "far2")
	up(t, "near")
	up(t, "near2")
	mine(t, "addr", "add", "192.0.2.17/24", "dev", "near")
	mine(t, "addr", "add", "2001:db8::17/64", "dev", "near", "nodad")
	mine(t, "addr", "add", "198.51.100.17/24", "dev", "near2")
	for _, c := range []struct{ name, do, dst, over, from string }{
		{"no rule", "route add default via 192.0.2.1 table 100", "203.0.113.5", "", ""},
		{"a rule for the destination", "route add default via 192.0.2.1 table 100; rule add pref 100 to 203.0.113.0/24 lookup 100", "203.0.113.5", "", ""},
		{"a rule for another destination", "route add default via 192.0.2.1 table 100; rule add pref 100 to 203.0.113.0/24 lookup 100", "203.0.114.5", "", ""},
		{"a rule for our address, and another route first", "route add default via 192.0.2.1; route add unreachable default table 100; rule add pref 100 from 192.0.2.17 lookup 100", "203.0.113.5", "", ""},
		{"a rule for our address that has a way by another link", "route add default via 192.0.2.1; route add default via 198.51.100.1 table 100; rule add pref 100 from 192.0.2.17 lookup 100", "203.0.113.5", "", ""},
		{"a rule for the other link's address", "route add default via 192.0.2.1; route add unreachable default table 100; rule add pref 100 from 198.51.100.17 lookup 100", "203.0.113.5", "", ""},
		{"only a rule for our address", "route add default via 192.0.2.1 table 100; rule add pref 100 from 192.0.2.17 lookup 100", "203.0.113.5", "", ""},
		{"a table that finds nothing is passed over", "route add default via 192.0.2.1; rule add pref 100 lookup 100", "203.0.113.5", "", ""},
		{"a route that throws", "route add default via 192.0.2.1; route add throw 203.0.113.0/24 table 100; route add unreachable default table 100; rule add pref 100 lookup 100", "203.0.113.5", "", ""},
		{"a blackhole", "route add default via 192.0.2.1; rule add pref 100 to 203.0.113.0/24 blackhole", "203.0.113.5", "", ""},
		{"prohibited", "route add default via 192.0.2.1; rule add pref 100 to 203.0.113.0/24 prohibit", "203.0.113.5", "", ""},
		{"not for a destination", "route add default via 192.0.2.1; rule add pref 100 not to 203.0.113.0/24 unreachable", "203.0.113.5", "", ""},
		{"not for another destination", "route add default via 192.0.2.1; rule add pref 100 not to 203.0.113.0/24 unreachable", "203.0.114.5", "", ""},
		{"marked packets", "route add default via 192.0.2.1; rule add pref 100 fwmark 1 unreachable", "203.0.113.5", "", ""},
		{"unmarked packets", "route add default via 192.0.2.1; rule add pref 100 not fwmark 1 unreachable", "203.0.113.5", "", ""},
		{"our own packets", "route add default via 192.0.2.1; rule add pref 100 iif lo unreachable", "203.0.113.5", "", ""},
		{"packets from outside", "route add default via 192.0.2.1; rule add pref 100 iif near unreachable", "203.0.113.5", "", ""},
		{"the main table's default does not count", "route add default via 192.0.2.1; rule add pref 100 lookup main suppress_prefixlength 0; rule add pref 101 unreachable", "203.0.113.5", "", ""},
		{"what is longer than a default counts", "route add default via 192.0.2.1; rule add pref 100 lookup main suppress_prefixlength 0; rule add pref 101 unreachable", "192.0.2.22", "", ""},
		{"a rule is jumped over", "route add default via 192.0.2.1; rule add pref 102 nop; rule add pref 101 unreachable; rule add pref 100 goto 102", "203.0.113.5", "", ""},
		{"bound to a link that a rule is for", "route add default via 198.51.100.1 dev near2 table 100; rule add pref 100 oif near2 lookup 100", "203.0.113.5", "near2", ""},
		{"IPv6, a rule for the destination", "-6 route add default via 2001:db8::1 table 100; -6 rule add pref 100 to 2001:db8:1::/48 lookup 100", "2001:db8:1::5", "", ""},
		{"IPv6, refused", "-6 route add default via 2001:db8::1; -6 rule add pref 100 to 2001:db8:1::/48 unreachable", "2001:db8:1::5", "", ""},
		{"IPv6, a rule for our address", "-6 route add default via 2001:db8::1; -6 route add unreachable default table 100; -6 rule add pref 100 from 2001:db8::17 lookup 100", "2001:db8:1::5", "", ""},
		{"IPv6, only a rule for our address", "-6 route add default via 2001:db8::1 dev near table 100; -6 rule add pref 100 from 2001:db8::17 lookup 100", "2001:db8:1::5", "", ""},
		{"from an address with a table of its own", "route add default via 192.0.2.1 table 100; rule add pref 100 from 192.0.2.17 lookup 100", "203.0.113.5", "", "192.0.2.17"},
		{"from the address that has no table", "route add default via 192.0.2.1 table 100; rule add pref 100 from 192.0.2.17 lookup 100", "203.0.113.5", "", "198.51.100.17"},
		{"from an address that a rule refuses", "route add default via 192.0.2.1; rule add pref 100 from 198.51.100.17 prohibit", "203.0.113.5", "", "198.51.100.17"},
		{"from an address that is not ours", "route add default via 192.0.2.1", "203.0.113.5", "", "192.0.2.18"},
		{"IPv6, from an address with a table of its own", "-6 route add default via 2001:db8::1 dev near table 100; -6 rule add pref 100 from 2001:db8::17 lookup 100", "2001:db8:1::5", "", "2001:db8::17"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for command := range strings.SplitSeq(c.do, "; ") {
				mine(t, strings.Fields(command)...)
			}
			dst := netip.MustParseAddr(c.dst)
			var from netip.Addr
			if c.from != "" {
				from = netip.MustParseAddr(c.from)
			}
			want := begins(t, dst, from, c.over)
			if ok, why := read(t).WayFrom(dst, from, c.over); ok != (want == nil) {
				t.Errorf("the kernel says %v; we say %v, %q", want, ok, why)
			}
			for _, family := range []string{"-4", "-6"} {
				for _, pref := range []string{"100", "101", "102"} {
					_ = try(t, family, "rule", "del", "pref", pref)
				}
				_ = try(t, family, "route", "flush", "table", "100")
				_ = try(t, family, "route", "del", "default")
			}
		})
	}
}

// begins begins to connect, and says why that cannot be.
func begins(t *testing.T, dst, from netip.Addr, over string) error {
	t.Helper()
	family := unix.AF_INET6
	if dst.Is4() {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if over != "" {
		if err := unix.BindToDevice(fd, over); err != nil {
			t.Fatal(err)
		}
	}
	if from.IsValid() {
		if err := unix.Bind(fd, socketAddress(from, 0)); err != nil {
			return err
		}
	}
	if err = unix.Connect(fd, socketAddress(dst, 3260)); errors.Is(err, unix.EINPROGRESS) {
		return nil
	}
	return err
}

func socketAddress(a netip.Addr, port int) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Port: port, Addr: a.As4()}
	}
	return &unix.SockaddrInet6{Port: port, Addr: a.As16()}
}

// Rules come and go while somebody watches.
func TestRulesAreWatched(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	wireUp(t, "near", "far")
	up(t, "near")
	mine(t, "addr", "add", "192.0.2.17/24", "dev", "near")
	mine(t, "route", "add", "default", "via", "192.0.2.1", "table", "100")
	dst := netip.MustParseAddr("203.0.113.5")
	way := func(want bool) func(*State) bool {
		return func(s *State) bool { ok, _ := s.Way(dst); return ok == want }
	}
	states := watching(t)
	for _, c := range []struct {
		do   string
		want bool
	}{{"", false}, {"rule add pref 100 to 203.0.113.0/24 lookup 100", true}, {"rule del pref 100", false}} {
		if c.do != "" {
			mine(t, strings.Fields(c.do)...)
		}
		for s := range states {
			if way(c.want)(s) {
				break
			}
		}
	}
}
