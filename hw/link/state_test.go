package link

import (
	"math/rand"
	"net/netip"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"initd/hw/sysfs"
)

// comparable types of net/netip have no exported fields.
func compare() cmp.Options {
	return cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()}
}

func machine() *State {
	return &State{
		Interfaces: []Interface{
			{Index: 1, Name: "lo", Up: true, Carrier: true, Loop: true},
			{Index: 2, Name: "eth0", MAC: "52:54:00:00:00:01", Up: true, Carrier: true, Path: "pci-0000:00:03.0", Driver: "virtio_net"},
			{Index: 3, Name: "eth1", MAC: "52:54:00:00:00:02", Up: true, Driver: "virtio_net"},
			{Index: 4, Name: "eth2", MAC: "52:54:00:00:00:03"},
			{Index: 5, Name: "storage", MAC: "52:54:00:00:00:01", Up: true, Carrier: true, Kind: "vlan"},
			{Index: 6, Name: "bond0", MAC: "52:54:00:00:00:07", Up: true, Carrier: true, Kind: "bond"},
			{Index: 7, Name: "eth3", MAC: "52:54:00:00:00:07", Permanent: "52:54:00:00:00:08", Up: true, Carrier: true},
		},
		Addresses: []Address{
			{Index: 1, Prefix: netip.MustParsePrefix("127.0.0.1/8")},
			{Index: 2, Prefix: netip.MustParsePrefix("192.0.2.17/24")},
			{Index: 2, Prefix: netip.MustParsePrefix("2001:db8::17/64"), Tentative: true},
			{Index: 2, Prefix: netip.MustParsePrefix("fe80::1/64"), LinkLocal: true},
			{Index: 3, Prefix: netip.MustParsePrefix("198.51.100.1/24")},
			{Index: 6, Prefix: netip.MustParsePrefix("2001:db8:6::1/64"), Duplicate: true, Tentative: true},
		},
		Routes: []Route{
			{To: netip.MustParsePrefix("192.0.2.0/24"), Index: 2},
			{To: netip.MustParsePrefix("2001:db8::/64"), Index: 2},
			{To: netip.MustParsePrefix("2001:db8:6::/64"), Index: 6},
			{To: netip.MustParsePrefix("fe80::/64"), Index: 2},
			{To: netip.MustParsePrefix("198.51.100.0/24"), Index: 3},
			{To: netip.MustParsePrefix("203.0.113.0/24"), Via: netip.MustParseAddr("192.0.2.1"), Index: 2},
			{To: netip.MustParsePrefix("203.0.113.0/24"), Via: netip.MustParseAddr("192.0.2.2"), Index: 4, Metric: 100},
			{To: netip.MustParsePrefix("203.0.113.128/25"), Index: 2, Refused: true},
			{To: netip.MustParsePrefix("10.0.0.0/8"), Index: 5},
			{To: netip.MustParsePrefix("10.1.0.0/16"), Via: netip.MustParseAddr("198.51.100.2"), Index: 3},
			{To: netip.MustParsePrefix("10.1.0.0/16"), Via: netip.MustParseAddr("192.0.2.3"), Index: 2},
			{To: netip.MustParsePrefix("10.2.0.0/16"), Index: 5, Source: netip.MustParseAddr("192.0.2.17")},
		},
		Failed: []Neighbour{{Index: 2, Address: netip.MustParseAddr("192.0.2.1")}},
	}
}

func TestWay(t *testing.T) {
	tests := []struct {
		name, dst, over string
		ok              bool
		reason          string
	}{
		{"on the link", "192.0.2.22", "", true, ""},
		{"the loopback", "127.0.0.1", "", true, ""},
		{"an address of our own", "198.51.100.1", "", true, ""},
		{"as IPv4 in IPv6", "::ffff:192.0.2.22", "", true, ""},
		{"by a gateway that does not answer, which blocks nothing", "203.0.113.5", "", true, "192.0.2.1 does not answer on eth0"},
		{"by a longer prefix that refuses", "203.0.113.200", "", false, "the route to 203.0.113.128/25 refuses"},
		{"no carrier", "198.51.100.9", "", false, "eth1: no carrier"},
		{"no address to come from", "10.0.0.1", "", false, "no IPv4 address on storage"},
		{"an address to come from that the route names", "10.2.0.1", "", true, ""},
		{"two next hops, of which one has a carrier", "10.1.0.1", "", true, ""},
		{"no route, and what may be why", "8.8.8.8", "", false, "no route to 8.8.8.8 (eth1: no carrier, eth2 is down)"},
		{"an address that is still checked", "2001:db8::22", "", false, "2001:db8::17 on eth0 is still checked for duplicates"},
		{"an address that is somebody else's", "2001:db8:6::22", "", false, "2001:db8:6::1 on bond0 is somebody else's too"},
		{"link-local, from the link's own", "fe80::22", "", true, ""},
		{"link-local over one that is named", "fe80::22%eth0", "", true, ""},
		{"link-local over one without", "fe80::22%eth1", "", false, "eth1: no carrier"},
		{"over the link that has it", "192.0.2.22", "eth0", true, ""},
		{"over another link", "192.0.2.22", "storage", false, "no route to 192.0.2.22 over storage"},
		{"over a link that is down", "192.0.2.22", "eth2", false, "eth2 is down"},
		{"over a link that is not there", "192.0.2.22", "eth9", false, "there is no interface eth9"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dst := netip.MustParseAddr(tt.dst)
			over := tt.over
			if over == "" {
				over = dst.Zone()
			}
			ok, reason := machine().WayOver(dst, over)
			if ok != tt.ok || reason != tt.reason {
				t.Errorf("got %v, %q; want %v, %q", ok, reason, tt.ok, tt.reason)
			}
		})
	}
}

func TestFind(t *testing.T) {
	tests := []struct {
		name string
		m    Match
		want string
		err  string
	}{
		{"by MAC, which means the hardware and not the VLAN on it", Match{MAC: "52-54-00-00-00-01"}, "eth0", ""},
		{"by MAC and name, which may mean the VLAN", Match{MAC: "52:54:00:00:00:01", Name: "storage"}, "storage", ""},
		{"by the MAC that a bond's member had", Match{MAC: "52:54:00:00:00:08"}, "eth3", ""},
		{"by path", Match{Path: "pci-0000:00:03.0"}, "eth0", ""},
		{"by name", Match{Name: "eth2"}, "eth2", ""},
		{"the loopback by name", Match{Name: "lo"}, "lo", ""},
		{"by driver, which two have", Match{Driver: "virtio_net"}, "", "2 interfaces have driver virtio_net: eth0, eth1"},
		{"by driver and MAC", Match{Driver: "virtio_net", MAC: "52:54:00:00:00:02"}, "eth1", ""},
		{"one that is not there, beside those that are", Match{Name: "eth9"}, "",
			"no interface has name eth9; there are eth0 52:54:00:00:00:01, eth1 52:54:00:00:00:02, eth2 52:54:00:00:00:03, " +
				"storage 52:54:00:00:00:01, bond0 52:54:00:00:00:07, eth3 52:54:00:00:00:07"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			i, err := machine().Find(tt.m)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if i.Name != tt.want || got != tt.err {
				t.Errorf("got %q, %q; want %q, %q", i.Name, got, tt.want, tt.err)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	config := func(name string, mtu int, addresses ...string) Config {
		c := Config{Name: "storage", Match: Match{Name: name}, MTU: mtu}
		for _, a := range addresses {
			c.Addresses = append(c.Addresses, netip.MustParsePrefix(a))
		}
		return c
	}
	tests := []struct {
		name   string
		c      Config
		want   Answer
		reason string
	}{
		{"all is there", config("eth0", 0, "192.0.2.17/24"), Same, ""},
		{"nothing is wanted but that it is up", config("eth0", 0), Same, ""},
		{"it is down", config("eth2", 0, "192.0.2.99/24"), Absent, "eth2 is down"},
		{"no address is there", config("eth0", 0, "192.0.2.99/24"), Absent, "lacks 192.0.2.99/24"},
		{"one of two is there", config("eth0", 0, "192.0.2.17/24", "192.0.2.99/24"), Partial, "lacks 192.0.2.99/24"},
		{"the MTU differs", config("eth0", 9000, "192.0.2.17/24"), Partial, "its MTU is 0, not 9000"},
		{"one is still checked", config("eth0", 0, "192.0.2.17/24", "2001:db8::17/64"), Partial, "2001:db8::17 is still checked for duplicates"},
		{"one is somebody else's", config("bond0", 0, "2001:db8:6::1/64"), Absent, "another machine has 2001:db8:6::1"},
		{"the address is on another interface", config("bond0", 0, "192.0.2.17/24"), Different, "192.0.2.17 is on eth0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, reason, err := Check(machine(), tt.c)
			if err != nil || got != tt.want || reason != tt.reason {
				t.Errorf("got %s, %q, %v; want %s, %q", got, reason, err, tt.want, tt.reason)
			}
		})
	}
}

func TestCheckRoute(t *testing.T) {
	tests := []struct {
		name   string
		c      RouteConfig
		want   Answer
		reason string
	}{
		{"it is there", RouteConfig{To: "203.0.113.0/24", Via: netip.MustParseAddr("192.0.2.1")}, Same, ""},
		{"it is there, over that link", RouteConfig{To: "203.0.113.0/24", Via: netip.MustParseAddr("192.0.2.1"), Link: "eth0"}, Same, ""},
		{"it is not there", RouteConfig{To: "default", Via: netip.MustParseAddr("192.0.2.1")}, Absent, ""},
		{"with another metric it is another route", RouteConfig{To: "203.0.113.0/24", Via: netip.MustParseAddr("192.0.2.1"), Metric: 7}, Absent, ""},
		{"by another gateway", RouteConfig{To: "203.0.113.0/24", Via: netip.MustParseAddr("192.0.2.9")}, Different, "it leads via 192.0.2.1 over eth0"},
		{"over another link", RouteConfig{To: "192.0.2.0/24", Link: "eth1"}, Different, "it leads over eth0"},
		{"one that refuses", RouteConfig{To: "203.0.113.128/25", Link: "eth0"}, Different, "it leads nowhere: it refuses"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, reason, err := CheckRoute(machine(), tt.c)
			if err != nil || got != tt.want || reason != tt.reason {
				t.Errorf("got %s, %q, %v; want %s, %q", got, reason, err, tt.want, tt.reason)
			}
		})
	}
}

// eventsOf are what an enumeration of s tells.
func eventsOf(s *State) []Event {
	events := []Event{{Kind: ResetAll}}
	for _, i := range s.Interfaces {
		events = append(events, Event{Kind: InterfaceIs, Interface: i})
	}
	for _, a := range s.Addresses {
		events = append(events, Event{Kind: AddressIs, Address: a})
	}
	for _, n := range s.Failed {
		events = append(events, Event{Kind: NeighbourFails, Neighbour: n})
	}
	events = append(events, Event{Kind: ResetRoutes})
	for _, r := range s.Routes {
		events = append(events, Event{Kind: RouteIs, Route: r})
	}
	return append(events, Event{Kind: Settled})
}

// Whatever came before, and however often it is said, an enumeration leads to the same state.
func TestAStateIsAFold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := eventsOf(machine())
		noise := []Event{
			{Kind: InterfaceIs, Interface: Interface{Index: 9, Name: "gone"}}, {Kind: InterfaceGone, Interface: Interface{Index: 2}},
			{Kind: AddressGone, Address: Address{Index: 3, Prefix: netip.MustParsePrefix("198.51.100.1/24")}},
			{Kind: AddressIs, Address: Address{Index: 9, Prefix: netip.MustParsePrefix("198.51.100.9/24")}},
			{Kind: NeighbourWorks, Neighbour: Neighbour{Index: 2, Address: netip.MustParseAddr("192.0.2.1")}},
			{Kind: NeighbourFails, Neighbour: Neighbour{Index: 9, Address: netip.MustParseAddr("192.0.2.9")}}, {Kind: ResetRoutes},
		}
		noise = append(noise, all[1:]...)
		s := &State{}
		for range rapid.IntRange(0, 30).Draw(t, "noise") {
			s.Fold(rapid.SampledFrom(noise).Draw(t, "event"))
		}
		before := s.Clone()
		frozen := before.Clone()
		objects := all[1 : len(machine().Interfaces)+len(machine().Addresses)+1]
		seed := rapid.Int64().Draw(t, "order")
		s.Fold(all[0])
		for _, n := range rand.New(rand.NewSource(seed)).Perm(len(objects)) {
			s.Fold(objects[n])
			s.Fold(objects[n])
		}
		for _, e := range all[1+len(objects):] {
			s.Fold(e)
		}
		if diff := cmp.Diff(machine(), s, compare()); diff != "" {
			t.Fatalf("state (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(frozen, before, compare()); diff != "" {
			t.Fatalf("a clone changed (-want +got):\n%s", diff)
		}
	})
}

func TestResolv(t *testing.T) {
	for _, tt := range []struct {
		name            string
		servers, search []string
		want            string
	}{
		{"servers and search", []string{"192.0.2.53"}, []string{"a.example", "b.example"}, "search a.example b.example\nnameserver 192.0.2.53\n"},
		{"more servers than anybody asks", []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"}, nil,
			"nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n# more than 3 are not asked:\n# nameserver 192.0.2.4\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Resolv(tt.servers, tt.search); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// stack is a VLAN on a bond of two cards.
func stack(change func(i map[string]*Interface)) *State {
	list := []*Interface{
		{Index: 2, Name: "eth0", Up: true, Carrier: true, Master: 4, Port: Port{Kind: "bond"}},
		{Index: 3, Name: "eth1", Up: true, Carrier: true, Master: 4, Port: Port{Kind: "bond"}},
		{Index: 4, Name: "bond0", Kind: "bond", Up: true, Carrier: true, Bond: Bond{Mode: BondMode8023AD, Partner: "52:54:00:00:00:99"}},
		{Index: 5, Name: "san", Kind: "vlan", Lower: 4, Up: true, Carrier: true},
		{Index: 6, Name: "mgmt", Up: true, Carrier: true},
		{Index: 7, Name: "br0", Kind: "bridge", Up: true},
	}
	names := map[string]*Interface{}
	for _, i := range list {
		names[i.Name] = i
	}
	change(names)
	s := &State{
		Addresses: []Address{{Index: 5, Prefix: netip.MustParsePrefix("192.0.2.17/24")}},
		Routes:    []Route{{To: netip.MustParsePrefix("192.0.2.0/24"), Index: 5}},
		Expected:  []Expected{{Index: 6, IPv4: true, Name: "management", Protocol: "by DHCP"}},
	}
	for _, i := range list {
		s.Interfaces = append(s.Interfaces, *i)
	}
	return s
}

func TestTheReasonIsTheLowestThereIs(t *testing.T) {
	down := func(i ...*Interface) {
		for _, x := range i {
			x.Carrier = false
		}
	}
	tests := []struct {
		name, dst, over string
		change          func(i map[string]*Interface)
		ok              bool
		reason          string
	}{
		{"everything is up", "192.0.2.40", "", func(map[string]*Interface) {}, true, ""},
		{"one of two members is not enough of a reason", "192.0.2.40", "", func(i map[string]*Interface) { down(i["eth1"]) }, true, ""},
		{"both members have no carrier", "192.0.2.40", "", func(i map[string]*Interface) { down(i["eth0"], i["eth1"], i["bond0"], i["san"]) }, false, "eth0: no carrier, eth1: no carrier"},
		{"one is down, one has no carrier", "192.0.2.40", "san", func(i map[string]*Interface) {
			down(i["eth0"], i["eth1"], i["bond0"], i["san"])
			i["eth1"].Up = false
		}, false, "eth0: no carrier, eth1 is down"},
		{"a bond without members", "192.0.2.40", "", func(i map[string]*Interface) {
			i["eth0"].Master, i["eth1"].Master = 0, 0
			down(i["bond0"], i["san"])
		}, false, "bond0: none of its members is there"},
		{"min-links is more than one", "192.0.2.40", "", func(i map[string]*Interface) { down(i["eth1"], i["bond0"], i["san"]) }, false, "bond0: no carrier"},
		{"nobody speaks LACP", "192.0.2.40", "", func(i map[string]*Interface) { i["bond0"].Bond.Partner = "" }, false, "bond0: no LACP partner"},
		{"the VLAN itself is down", "192.0.2.40", "", func(i map[string]*Interface) { i["san"].Up = false }, false, "san is down"},
		{"an address that is to come", "203.0.113.1", "mgmt", func(map[string]*Interface) {}, false, "management: waiting for an address by DHCP"},
		{"no route, and what may bring one", "203.0.113.1", "", func(i map[string]*Interface) { i["br0"].Up = false }, false, "no route to 203.0.113.1 (br0 is down, management: waiting for an address by DHCP)"},
		{"a bridge without ports", "203.0.113.1", "br0", func(map[string]*Interface) {}, false, "br0: none of its ports is there"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ok, reason := stack(tt.change).WayOver(netip.MustParseAddr(tt.dst), tt.over)
			if ok != tt.ok || reason != tt.reason {
				t.Errorf("got %v, %q; want %v, %q", ok, reason, tt.ok, tt.reason)
			}
		})
	}
	s := stack(func(i map[string]*Interface) { i["bond0"].Bond.Partner = "" })
	s.Alone = []int{4}
	if ok, why := s.Way(netip.MustParseAddr("192.0.2.40")); !ok {
		t.Errorf("a partner that was waited for long enough is still a reason: %s", why)
	}
}

func TestWhatADiskIsReachedOverIsKnownDownToTheCards(t *testing.T) {
	sys := sysfs.New(fstest.MapFS{
		"sys/class/nvme/nvme0/transport":                   {Data: []byte("tcp\n")},
		"sys/class/nvme/nvme0/address":                     {Data: []byte("traddr=192.0.2.40,trsvcid=4420,src_addr=192.0.2.17\n")},
		"sys/class/nvme/nvme1/transport":                   {Data: []byte("pcie\n")},
		"sys/class/nvme/nvme1/address":                     {Data: []byte("0000:00:05.0\n")},
		"sys/class/iscsi_connection/connection3:0/address": {Data: []byte("198.51.100.9\n")},
	})
	s := stack(func(map[string]*Interface) {})
	s.Routes = append(s.Routes, Route{To: netip.MustParsePrefix("198.51.100.0/24"), Index: 6})
	got := Carriers(sys, s)
	want := map[int]string{2: "nvme0", 3: "nvme0", 4: "nvme0", 5: "nvme0", 6: "the iSCSI session 3"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
