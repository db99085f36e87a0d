package fault

import (
	"fmt"
	"net/netip"
	"testing"

	"initd/qemu-tests/peer/router"
	"initd/qemu-tests/vm"
)

// The cards of the store besides that of the room: one end of a bond, one that can do no more than 1400 bytes, one whose
// cable is pulled, one that waits for another to make a bond with. The last three lead to nobody.
const (
	storeBondMAC = "52:54:00:00:02:01"
	peerBondMAC  = "52:54:00:00:02:02"
	smallMAC     = "52:54:00:00:02:03"
	pulledMAC    = "52:54:00:00:02:04"
	earlyMAC     = "52:54:00:00:02:05"
)

func cards() []vm.Option {
	card := func(id, mac, more string) vm.Option {
		return vm.QEMU("-netdev", "hubport,id="+id+"-end,hubid=7", "-device", "virtio-net-pci,id="+id+",netdev="+id+"-end,mac="+mac+",romfile="+more)
	}
	return []vm.Option{speed(), card("small", smallMAC, ",host_mtu=1400"), card("pulled", pulledMAC, ""), card("early", earlyMAC, "")}
}

// speed is what a card says of itself: LACP puts no port without one into a group (ad_update_actor_keys, bond_3ad.c).
func speed() vm.Option {
	return vm.QEMU("-global", "virtio-net-pci.speed=1000", "-global", "virtio-net-pci.duplex=full")
}

const etherSlow = 0x8809 // LACP (IEEE 802.3, annex 57A)

// linkFaults adds what each fault of a link needs to the room.
func linkFaults() map[string]func(r *fabricRoom) {
	vlan := func(r *fabricRoom, name string, id int, more string) {
		r.links += fmt.Sprintf("    - {name: %s, vlan: {id: %d, link: room}, %s}\n", name, id, more)
	}
	onPeer := func(r *fabricRoom, id int, addresses ...string) {
		l := &r.Peer.Links[0]
		if l.VLANs == nil {
			l.VLANs = map[int][]string{}
		}
		l.VLANs[id] = addresses
	}
	return map[string]func(r *fabricRoom){
		"vlan-parent": func(r *fabricRoom) {
			r.links += "    - {name: absent, match: {mac: \"52:54:00:00:09:0a\"}}\n" +
				"    - {name: vlan-parent, vlan: {id: 20, link: absent}, addresses: [198.51.100.17/24]}\n"
		},
		"vlan-taken": func(r *fabricRoom) {
			vlan(r, "vlan-taken", 21, "addresses: [198.51.100.30/24]")
			onPeer(r, 21, "198.51.100.30/24")
			r.mend["vlan-taken"] = func(t *testing.T, m *vm.VM) { r.Wire.Drop(vm.OnVLAN(21)) }
		},
		"vlan-mtu": func(r *fabricRoom) {
			vlan(r, "vlan-mtu", 22, "mtu: 9000, addresses: [198.51.101.17/24]")
			r.byHand("vlan-mtu", "mtu", "eth0", "9000")
		},
		"card-mtu": func(r *fabricRoom) {
			r.links += "    - {name: card-mtu, match: {mac: \"" + smallMAC + "\"}, mtu: 9000, addresses: [198.51.102.17/24]}\n"
		},
		"lacp-alone": func(r *fabricRoom) {
			r.links += "    - {name: lacp-alone, bond: {mode: 802.3ad, members: [{mac: \"" + storeBondMAC + "\"}], lacp-rate: fast}, addresses: [198.51.103.17/24]}\n"
			r.dropUntil("lacp-alone", r.lacp, func(f vm.Frame) bool { return f.EtherType() == etherSlow })
		},
		"bond-part": func(r *fabricRoom) {
			r.links += "    - {name: bond-part, bond: {mode: active-backup, members: [{mac: \"" + earlyMAC + "\"}, late0]}, addresses: [198.51.104.17/24]}\n"
			r.byHand("bond-part", "dummy", "late0", "")
		},
		"dhcp6-silent": func(r *fabricRoom) {
			vlan(r, "dhcp6-silent", 23, "addresses: [dhcp6]")
			onPeer(r, 23)
			r.Peer.Routers = append(r.Peer.Routers, router.Config{Link: "vlan23", Address: netip.MustParseAddr("2001:db8:23::17")})
			r.dropUntil("dhcp6-silent", r.Wire, vm.OnVLAN(23))
		},
		"no-router": func(r *fabricRoom) {
			vlan(r, "no-router", 24, "addresses: [ra]")
			onPeer(r, 24)
			r.Peer.Routers = append(r.Peer.Routers, router.Config{Link: "vlan24", Prefix: netip.MustParsePrefix("2001:db8:24::/64")})
			r.dropUntil("no-router", r.Wire, vm.OnVLAN(24))
		},
	}
}
