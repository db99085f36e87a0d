package bench

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

// The machine of BenchmarkBoot with its four keys from KMIP: two key servers in another machine on the same wire. In every
// other round the first of them is dead: it drops every packet, so that nothing but time tells. Only initd can do this.
func BenchmarkBootKMIP(b *testing.B) {
	s := room.New(b, room.KMSAV4, room.KMSBV4)
	disks := []*vm.Disk{rootDisk(b)}
	var media, mounts strings.Builder
	for i, l := range fourRandom() {
		v := newVolume(b, i+1)
		l.Keys, l.UUID, l.Content = [][]byte{s.Key(v.name)}, v.uuid, vm.Ext4{Label: v.name}
		disks = append(disks, vm.NewDisk(b, v.name, 48*vm.MiB, l))
		media.WriteString("    - {name: " + v.name + ", device: uuid/" + v.uuid + ", key: kmip}\n")
		mounts.WriteString("  - {what: luks/" + v.name + ", where: /srv/" + v.name + ", type: ext4}\n")
	}
	s.Appliance = "apiVersion: initd/v1\nname: store\nnetwork:\n  links:\n    - {name: room, match: {mac: \"" + room.StoreMAC + "\"}, addresses: [" + room.StoreV4 + "]}\n" +
		"keys:\n  tls: {ca: pki/ca.pem, cert: pki/store.pem, key: pki/store.key}\n  servers:\n" +
		"    - {name: kms-a, address: \"" + room.KMSAV4 + ":5696\"}\n    - {name: kms-b, address: \"" + room.KMSBV4 + ":5696\"}\n" +
		"media:\n  luks:\n" + media.String() + "mounts:\n  - {what: uuid/" + rootUUID + ", where: /, type: ext4}\n" + mounts.String()
	s.Options = []vm.Option{vm.Memory(2048)}
	s.StartPeer()
	var well, dead times
	for range bootRounds {
		well = append(well, marked(b, s, disks))
		silence := s.Wire.Drop(vm.ToAddr(netip.MustParseAddr(room.KMSAV4)))
		dead = append(dead, marked(b, s, disks))
		silence.End()
	}
	r := compared("one of two key servers drops every packet; theirs: both are well", dead, well)
	r.target = "the second is asked after 1 s"
	show(b, "User space of a boot with four LUKS volumes, keys by KMIP, pbkdf2 of 1,000 iterations", r)
}

// marked boots the room's store once, up to the marker of its root.
func marked(b *testing.B, s *room.Room, disks []*vm.Disk) time.Duration {
	b.Helper()
	o := userSpace(s.NewStore(disks...), benchGuard)
	if o.marker == 0 {
		b.Fatalf("no marker, or not all are mounted; the console closed with:\n%s", tail(o.lines))
	}
	return o.marker
}
