package scenario

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

// allIsWell is the appliance of the first scenario, with redis on tank0.
const allIsWell = `apiVersion: initd/v1
name: store
budgets: {boot: 3m, shutdown: 30s}
network:
  links:
    - {name: room, match: {mac: "` + room.StoreMAC + `"}, addresses: [ADDRESS]}
keys:
  tls: {ca: pki/ca.pem, cert: pki/store.pem, key: pki/store.key}
  servers:
    - {name: kms-a, address: "KMS-A:5696"}
    - {name: kms-b, address: "KMS-B:5696"}
media:
  luks:
    - {name: tank0, device: partlabel/tank0, key: kmip}
    - {name: tank1, device: id/virtio-tank1, key: kmip}
    - {name: tank2, device: id/virtio-tank2, key: kmip}
    - {name: tank3, device: id/virtio-tank3, header: id/virtio-header3, key: kmip}
mounts:
  - {what: luks/tank0, where: /srv/tank0, type: ext4}
  - {what: luks/tank1, where: /srv/tank1, type: ext4}
  - {what: luks/tank2, where: /srv/tank2, type: ext4}
  - {what: luks/tank3, where: /srv/tank3, type: ext4}
services:
  - name: redis
    command: [/usr/bin/redis-server, --bind, 127.0.0.1, --dir, /srv/tank0, --appendonly, "yes", --save, "", --daemonize, "no"]
    directory: /srv/tank0
    ready: {exec: [/usr/bin/redis-cli, ping]}
image:
  packages: [redis-server, redis-tools]
`

// wellDisks are four volumes of four kinds.
func wellDisks(s *room.Room) []*vm.Disk {
	t := s.T
	fs := func(label string) vm.Content { return vm.Ext4{Label: label} }
	header := filepath.Join(t.TempDir(), "header3")
	tank3 := vm.NewDisk(t, "tank3", 48*vm.MiB, vm.LUKS{Keys: [][]byte{s.Key("tank3")}, Header: header, Content: fs("tank3")})
	detached, err := os.ReadFile(header)
	if err != nil {
		t.Fatal(err)
	}
	return []*vm.Disk{
		vm.NewDisk(t, "tank0", 64*vm.MiB, vm.GPT{{Label: "tank0", Size: 56 * vm.MiB, Content: vm.LUKS{Version: 1, Keys: [][]byte{s.Key("tank0")}, Content: fs("tank0")}}}),
		vm.NewDisk(t, "tank1", 64*vm.MiB, vm.LUKS{Keys: [][]byte{s.Key("tank1")}, KDF: "argon2id", MemoryKiB: 65536, Content: fs("tank1")}),
		vm.NewDisk(t, "tank2", 64*vm.MiB, vm.LUKS{Keys: [][]byte{s.Key("tank2")}, SectorSize: 4096, Content: fs("tank2")}),
		tank3,
		vm.NewDisk(t, "header3", 32*vm.MiB, vm.Bytes(detached)),
	}
}

// wellSite is the room of the first scenario over IPv4 or IPv6.
func wellSite(t *testing.T, a, b, own string, name ...string) *room.Room {
	s := room.New(t, a, b, name...)
	bracket := func(h string) string {
		if h[4] == ':' {
			return "[" + h + "]"
		}
		return h
	}
	s.Appliance = replace(allIsWell, "ADDRESS", `"`+own+`"`, "KMS-A", bracket(a), "KMS-B", bracket(b))
	return s
}

// All is well: two key servers, four LUKS volumes (LUKS1; LUKS2 with argon2id;
// LUKS2 with pbkdf2 and large sectors; a detached header), file systems on
// them, redis with its data on the first. Somebody writes to redis, presses
// ctrl-alt-del, and after the second boot the data is there.
func TestAllIsWell(t *testing.T) {
	s := wellSite(t, room.KMSAV4, room.KMSBV4, room.StoreV4)
	bootTwice(t, s)
}

// The same with IPv6 only.
func TestAllIsWellOverIPv6(t *testing.T) {
	s := wellSite(t, room.KMSAV6, room.KMSBV6, room.StoreV6)
	bootTwice(t, s)
}

func bootTwice(t *testing.T, s *room.Room) {
	withHands(s)
	disks := wellDisks(s)
	s.StartPeer()
	store := s.NewStore(disks...).Start()
	store.WaitEvent("ready", vm.Is("ready"), vm.Guard)
	for _, id := range []string{"luks/tank0", "luks/tank1", "luks/tank2", "luks/tank3", "mount/srv/tank3", "service/redis"} {
		store.WaitEvent(id+" is done", room.Unit(id, "done"), vm.Guard)
	}
	if n := s.Gets(""); n != 4 {
		t.Errorf("the key servers gave %d keys out, want 4", n)
	}
	store.WaitEvent("the hands are there", room.Unit("service/hands", "done"), vm.Guard)
	if got := room.Hand(t, store, "run", "/usr/bin/redis-cli", "set greeting hello").Field("text"); got != "OK\n" {
		t.Errorf("redis answers %q to a write, want OK", got)
	}
	if init, initd := room.Resident(t, store); init > room.InitResident || initd > room.InitdResident {
		t.Errorf("init has %.1f MiB in memory and initd %.1f, want at most %d and %d", init, initd, room.InitResident, room.InitdResident)
	} else {
		t.Logf("in memory: init %.1f MiB, initd %.1f MiB", init, initd)
	}
	store.CtrlAltDel()
	end := store.Exited(vm.Guard)
	if end.Reason != "guest-reset" {
		t.Errorf("ctrl-alt-del ended in %s, want a reboot", end)
	}
	room.NothingLeft(t, store)

	second := store.Again().Start()
	second.WaitEvent("ready", vm.Is("ready"), vm.Guard)
	second.WaitEvent("redis", room.Unit("service/redis", "done"), vm.Guard)
	second.WaitEvent("the hands are there", room.Unit("service/hands", "done"), vm.Guard)
	if got := room.Hand(t, second, "run", "/usr/bin/redis-cli", "get greeting").Field("text"); got != "hello\n" {
		t.Errorf("after the second boot redis has %q, want what was written in the first", got)
	}
	second.CtrlAltDel()
	second.Exited(vm.Guard)
	room.NothingLeft(t, second)
}

func replace(text string, pairs ...string) string {
	for i := 0; i+1 < len(pairs); i += 2 {
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}
