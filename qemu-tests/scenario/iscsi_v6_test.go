package scenario

import (
	"fmt"
	"net"
	"regexp"
	"strings"
	"testing"

	"initd/qemu-tests/peer/lio"
	"initd/qemu-tests/peer/network"
	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

// A volume over iSCSI whose key comes from a key server in the same network, with not one IPv4 address anywhere; under write load from
// beginning to end.
//
//   - It is logged in to, opened and mounted.
//   - The target asks for a logout: it gets one, and the session goes on over a new connection.
//   - The target's machine is paused for 30 s: I/O waits, and after the pause everything acknowledged is there.
func TestAVolumeOverISCSIAndIPv6Alone(t *testing.T) {
	const address = "2001:db8:1::50"
	s := newISCSIRoom(t)
	s.Peer.Links = []network.Link{{MAC: room.PeerMAC, Addresses: []string{address + "/64"}}}
	s.Appliance = strings.Replace(s.Appliance, "192.0.2.17/24", room.StoreV6, 1)
	s.Appliance = regexp.MustCompile(`(?m)^ +- \{name: netb,.*\n`).ReplaceAllString(s.Appliance, "")
	key := s.keyServer(address, "data")
	disk := vm.NewDisk(t, "backing", 48*vm.MiB, vm.LUKS{Keys: [][]byte{key}, Content: vm.Ext4{Label: "data"}})
	portal, relay := net.JoinHostPort(address, "3260"), net.JoinHostPort(address, "3283")
	s.targets.Targets = []lio.Target{{IQN: iqn("one"), Portals: []string{portal}, LUNs: []lio.LUN{{Number: 1, Device: "/dev/vda"}}}}
	s.targets.Relays = []lio.Relay{{Listen: relay, To: portal}}
	s.with(fmt.Sprintf(`fabrics:
  iscsi:
    - {name: one, target: %q, portals: [%q], initiator: %q, luns: [{lun: 1, name: data}], options: {nop-interval: 2s, nop-timeout: 3s}}
media:
  luks: [{name: data, device: iscsi/one/data, key: kmip}]
mounts:
  - {what: luks/data, where: /srv/one, type: ext4, fsck: never}
`, iqn("one"), relay, initiator))
	peer := s.startTargets(disk)
	m := s.startStore()
	last := m.WaitEvent("ready", vm.Is("ready"), vm.Guard)
	path := "iscsi-path/one/" + relay
	order(t, room.Told(t, m), path, "iscsi/one", "luks/data", "mount/srv/one")
	if n := s.Gets("store/data"); n != 1 {
		t.Errorf("the key was given out %d times, want 1", n)
	}
	for _, a := range room.StateOf(t, m, "hands").Addresses {
		if strings.Contains(a, ".") {
			t.Errorf("an IPv4 address: %s", a)
		}
	}
	room.Hand(t, m, "load", "/srv/one/load", "4096")
	room.Hand(t, m, "load-more", "", "30")

	s.change(lio.Change{Do: "ask-logout", Portal: relay})
	last = m.WaitEventAfter(last, "it is asked to log out", noticed(path+": lost: the target asks to log out"), vm.Guard)
	last = m.WaitEventAfter(last, "it is back after that", noticed(path+": back"), vm.Guard)
	room.Hand(t, m, "load-more", "", "30")

	peer.Pause()
	room.Hand(t, m, "pause", "30s", "")
	last = m.WaitEventAfter(last, "the loss is told", noticed(path+": lost"), vm.Guard)
	peer.Continue()
	m.WaitEventAfter(last, "it is back", noticed(path+": back"), vm.Guard)
	room.Hand(t, m, "load-more", "", "30")
	t.Logf("load: %s", room.Hand(t, m, "load-stop", "", "").Line)
	m.CtrlAltDel()
	m.Exited(vm.Guard)
	room.NothingLeft(t, m)
}
