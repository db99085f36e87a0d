//go:build guest

package link

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func match(names ...string) []Match {
	var list []Match
	for _, n := range names {
		list = append(list, Match{Name: n})
	}
	return list
}

// becomes applies c and insists that everything is as it says, without another word.
func becomes(t *testing.T, c Config) Interface {
	t.Helper()
	if _, err := Apply(deadline(t), c, func(string) {}); err != nil {
		t.Fatal(err)
	}
	s := reaches(t, c.Name+" is as it is wanted", func(s *State) bool { got, _, err := Check(s, c); return err == nil && got == Same })
	before := s.Clone()
	if _, err := Apply(deadline(t), c, func(string) {}); err != nil {
		t.Fatalf("again: %v", err)
	}
	bondsOwn := cmpopts.IgnoreFields(Port{}, "Backup", "Aggregator") // LACP settles them meanwhile, and with them the bond's carrier
	if diff := cmp.Diff(withoutBondsCarrier(before), withoutBondsCarrier(read(t)), bondsOwn); diff != "" {
		t.Errorf("the second Apply has changed something (-before +after):\n%s", diff)
	}
	return find(t, s, c.Name)
}

// withoutBondsCarrier leaves out the carrier of bonds, and of VLANs on them.
func withoutBondsCarrier(s *State) []Interface {
	list := slices.Clone(s.Interfaces)
	for i := range list {
		if k := list[i].Kind; k == "bond" || k == "vlan" {
			list[i].Carrier, list[i].Losses = false, 0
		}
	}
	return list
}

// Two machines, two wires, a bond at each end with LACP, a VLAN on it; the partner comes late, and one wire is cut.
func TestAVLANOnABondWithLACPFollowsItsPartner(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	p := wireUp(t, "near0", "far0")
	p.plug("near1", "far1")
	bond := Config{Name: "bond0", MTU: 1400, Make: Made{Bond: &BondConfig{Mode: BondMode8023AD, Members: match("near0", "near1"), Fast: true, MIIMon: 50 * time.Millisecond}}}
	if i := becomes(t, bond); i.Bond.Mode != BondMode8023AD || i.MTU != 1400 {
		t.Errorf("the bond is %+v", i)
	}
	san := Config{Name: "san", Make: Made{VLAN: &VLANConfig{ID: 120, On: Match{Name: "bond0"}}}, Addresses: prefixes("192.0.2.17/24")}
	if i := becomes(t, san); i.VLAN.ID != 120 || i.Lower != find(t, read(t), "bond0").Index {
		t.Errorf("the VLAN is %+v", i)
	}
	way := func(s *State) string {
		ok, why := s.Way(netip.MustParseAddr("192.0.2.40"))
		return map[bool]string{true: "ok"}[ok] + why
	}
	reaches(t, "nobody speaks LACP", func(s *State) bool { return way(s) == "bond0: no LACP partner" })
	var partner *PartnerError
	if err := AwaitPartner(deadline(t), "bond0", 100*time.Millisecond, func(string) {}); !errors.As(err, &partner) {
		t.Errorf("got %v, want a PartnerError", err)
	}
	p.ip("link", "add", "bond0", "type", "bond", "mode", "802.3ad", "lacp_rate", "fast", "miimon", "50")
	for _, far := range []string{"far0", "far1"} {
		p.ip("link", "set", far, "down")
		p.ip("link", "set", far, "master", "bond0")
	}
	p.ip("link", "set", "bond0", "up")
	p.ip("link", "add", "link", "bond0", "name", "san", "type", "vlan", "id", "120")
	p.ip("addr", "add", "192.0.2.40/24", "dev", "san")
	p.ip("link", "set", "san", "up")
	if err := AwaitPartner(deadline(t), "bond0", hang, func(string) {}); err != nil {
		t.Fatal(err)
	}
	reaches(t, "there is a way", func(s *State) bool { return way(s) == "ok" })
	p.ip("link", "set", "far0", "down")
	s := reaches(t, "one member has no carrier", func(s *State) bool { return s.Cause(find(t, s, "near0")) != "" })
	if got := way(s); got != "ok" {
		t.Errorf("with one wire of two: %s", got)
	}
	p.ip("link", "set", "far1", "down")
	reaches(t, "the lowest reason is named", func(s *State) bool { return way(s) == "near0: no carrier, near1: no carrier" })
	p.ip("link", "set", "far1", "up")
	reaches(t, "it recovers", func(s *State) bool { return way(s) == "ok" })
}

// The module makes a bond0 of another mode when it is loaded; it is nobody's.
func TestABondThatNobodyUsesBecomesOurs(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	wireUp(t, "near", "far")
	if _, err := read(t).Find(Match{Name: "bond0"}); err != nil {
		mine(t, "link", "add", "bond0", "type", "bond", "mode", "balance-rr")
	}
	c := Config{Name: "bond0", Make: Made{Bond: &BondConfig{Mode: BondModeActiveBackup, Members: match("near"), Primary: Match{Name: "near"}}}}
	if i := becomes(t, c); i.Bond.Mode != BondModeActiveBackup || i.Bond.Active != find(t, read(t), "near").Index {
		t.Errorf("the bond is %+v", i)
	}
	c.Make.Bond.Mode = BondMode8023AD
	if got, why, err := Check(read(t), c); got != Different || !strings.Contains(why, "active-backup, not 802.3ad") || err != nil {
		t.Errorf("a bond in use: %s, %q, %v", got, why, err)
	}
	if _, err := Apply(deadline(t), c, func(string) {}); err == nil {
		t.Error("a bond in use was changed")
	}
}

func TestMembersThatComeLateJoinAndAreKnownByTheirOwnMAC(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	p := wireUp(t, "near0", "far0")
	mine(t, "link", "set", "near0", "address", "02:00:00:00:00:10")
	c := Config{Name: "pair", Make: Made{Bond: &BondConfig{Mode: BondModeActiveBackup, Members: []Match{{MAC: "02:00:00:00:00:10"}, {MAC: "02:00:00:00:00:11"}}}}}
	var waited string
	if _, err := Apply(deadline(t), c, func(why string) { waited = why }); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(waited, "a part of pair: no interface has mac 02:00:00:00:00:11") {
		t.Errorf("waited for %q", waited)
	}
	if s := read(t); CanJoin(s, c) {
		t.Error("somebody could join, and nobody is there")
	}
	p.plug("near1", "far1")
	mine(t, "link", "set", "near1", "address", "02:00:00:00:00:11")
	mine(t, "link", "set", "near1", "up") // a bond takes nobody who is up
	reaches(t, "one could join", func(s *State) bool { return CanJoin(s, c) })
	if err := Join(c); err != nil {
		t.Fatal(err)
	}
	s := reaches(t, "it is a member", func(s *State) bool { i, err := s.Find(Match{Name: "near1"}); return err == nil && i.Master != 0 })
	if i, err := s.Find(Match{MAC: "02:00:00:00:00:11"}); err != nil || i.Name != "near1" {
		t.Errorf("by its own MAC: %+v, %v", i, err)
	}
	if CanJoin(s, c) {
		t.Error("all have joined, and one could")
	}
}

func TestAnInterfaceOverWhichADiskIsReachedIsNotTakenDown(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	wireUp(t, "near", "far")
	up(t, "near")
	carries := func(i Interface) string { return map[string]string{"near": "nvme0"}[i.Name] }
	c := Config{Name: "bond9", Carries: carries, Make: Made{Bond: &BondConfig{Mode: BondModeActiveBackup, Members: match("near")}}}
	_, err := Apply(deadline(t), c, func(string) {})
	if !errors.Is(err, ErrCarries) || !strings.Contains(err.Error(), "nvme0 is reached over it") {
		t.Errorf("into a bond: %v", err)
	}
	c = Config{Name: "lan", Carries: carries, Make: Made{Bridge: &BridgeConfig{Ports: match("near")}}}
	if _, err := Apply(deadline(t), c, func(string) {}); !errors.Is(err, ErrCarries) {
		t.Errorf("into a bridge: %v", err)
	}
	if i := find(t, read(t), "near"); !i.Up || i.Master != 0 {
		t.Errorf("it is %+v", i)
	}
	// This kernel renames what is up.
	losses := find(t, read(t), "near").Losses
	c = Config{Name: "san", Match: Match{Name: "near"}, Rename: true, Carries: func(Interface) string { return "nvme0" }}
	if _, err := Apply(deadline(t), c, func(string) {}); err != nil {
		t.Fatal(err)
	}
	if i := find(t, read(t), "san"); !i.Up || i.Losses != losses {
		t.Errorf("renaming has cost the carrier: %+v", i)
	}
}

func TestBridgesDummiesAndProviderVLANs(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	wireUp(t, "near", "far")
	lan := becomes(t, Config{Name: "lan", Make: Made{Bridge: &BridgeConfig{Ports: match("near"), STP: true, Delay: 2 * time.Second}}})
	if !lan.STP {
		t.Errorf("the bridge is %+v", lan)
	}
	s := reaches(t, "the port forwards", func(s *State) bool { i := find(t, s, "lan"); return i.Carrier && s.Cause(i) == "" })
	if p := find(t, s, "near"); p.Master != lan.Index || p.Port.Kind != "bridge" {
		t.Errorf("the port is %+v", p)
	}
	becomes(t, Config{Name: "here", Make: Made{Dummy: true}, Addresses: prefixes("203.0.113.9/32", "2001:db8::9/128")})
	outer := becomes(t, Config{Name: "outer", Make: Made{VLAN: &VLANConfig{ID: 7, On: Match{Name: "lan"}, Provider: true}}})
	becomes(t, Config{Name: "inner", Make: Made{VLAN: &VLANConfig{ID: 8, On: Match{Name: "outer"}}}})
	c := Config{Name: "outer", Make: Made{VLAN: &VLANConfig{ID: 9, On: Match{Name: "lan"}, Provider: true}}}
	if got, why, err := Check(read(t), c); got != Different || why != "outer is VLAN 7, not 9" || err != nil {
		t.Errorf("got %s, %q, %v", got, why, err)
	}
	if outer.VLAN.Protocol != 0x88a8 {
		t.Errorf("outer is %+v", outer)
	}
	big := Config{Name: "inner", MTU: 9000, Make: Made{VLAN: &VLANConfig{ID: 8, On: Match{Name: "outer"}}}}
	var mtu *MTUError
	if _, err := Apply(deadline(t), big, func(string) {}); !errors.As(err, &mtu) || mtu.Below != "outer" || !mtu.Retryable() {
		t.Errorf("a VLAN larger than what it is on: %v", err)
	}
}

func TestADuplicateIPv6AddressOnAVLANIsAnError(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	p := wireUp(t, "near", "far")
	p.ip("link", "add", "link", "far", "name", "san", "type", "vlan", "id", "120")
	p.ip("addr", "add", "2001:db8::17/64", "dev", "san", "nodad")
	p.ip("link", "set", "san", "up")
	up(t, "near")
	c := Config{Name: "san", Make: Made{VLAN: &VLANConfig{ID: 120, On: Match{Name: "near"}}}, Addresses: prefixes("2001:db8::17/64")}
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	var duplicate *DuplicateError
	if _, err := Apply(ctx, c, func(string) {}); !errors.As(err, &duplicate) || duplicate.Address != netip.MustParseAddr("2001:db8::17") {
		t.Errorf("got %v, want a DuplicateError", err)
	}
	p.ip("addr", "del", "2001:db8::17/64", "dev", "san")
	if _, err := Apply(ctx, c, func(string) {}); err != nil {
		t.Errorf("after the other one went: %v", err)
	}
}
