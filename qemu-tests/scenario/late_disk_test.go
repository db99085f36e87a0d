package scenario

import (
	"strings"
	"testing"

	breport "initd/boot/report"
	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

// twoVolumes is an appliance whose volumes both miss their disks at first. Their keys lie
// on the appliance, so that nothing else can be late.
const twoVolumes = `apiVersion: initd/v1
name: store
budgets: {boot: 3m, shutdown: 30s}
media:
  luks:
    - {name: late, device: id/virtio-late, key: {file: /etc/initd/keys/late}, wait: 3s, on-failure: degrade}
    - {name: never, device: id/virtio-never, key: {file: /etc/initd/keys/never}, wait: 3s, on-failure: degrade}
mounts:
  - {where: /srv/scratch, type: tmpfs}
  - {what: luks/late, where: /srv/late, type: ext4, wait: 3s}
  - {what: /srv/late, where: /srv/view, type: bind, wait: 3s}
  - {what: luks/never, where: /srv/never, type: ext4, wait: 3s}
services:
  - name: redis
    command: [/usr/bin/redis-server, --bind, 127.0.0.1, --dir, /srv/view, --save, "", --daemonize, "no"]
    directory: /srv/view
    ready: {exec: [/usr/bin/redis-cli, ping]}
    wait: 3s
image:
  packages: [redis-server, redis-tools]
`

// Two volumes have no disk when the appliance boots.
//
//   - What needs them degrades, with the missing disk as the reason; what does
//     not need them is up; ready is reached.
//   - The first disk is plugged in. The volume opens, its file system is mounted, the bind
//     mount on it too, and redis starts in that: by themselves and in this order,
//     each at its first attempt.
//   - The other disk never comes, and that is all that is still missing.
func TestADiskComesLateAndAnotherNever(t *testing.T) {
	s := room.New(t, room.KMSAV4, room.KMSBV4)
	s.Appliance = twoVolumes
	late := s.Key("late")
	s.Identity["keys/late"], s.Identity["keys/never"] = late, s.Key("never")
	disk := vm.NewDisk(t, "late", 48*vm.MiB, vm.LUKS{Keys: [][]byte{late}, Content: vm.Ext4{Label: "late"}})

	store := s.NewStore().Start()
	ready := store.WaitEvent("ready without the disks", vm.Is("ready"), vm.Guard)
	store.WaitEvent("the boot has settled", vm.Is("settled"), vm.Guard)
	before := room.Told(t, store)
	for _, name := range []string{"late", "never"} {
		e := last(before, "luks/"+name)
		if e.State != breport.Degraded || !strings.Contains(e.Reason, "virtio-"+name) {
			t.Errorf("luks/%s is %q (%q), want degraded for want of block/id/virtio-%[1]s", name, e.State, e.Reason)
		}
		if e := last(before, "mount/srv/"+name); e.State != breport.Degraded || !strings.Contains(e.Reason, "luks/"+name) {
			t.Errorf("mount/srv/%s is %q (%q), want degraded for want of luks/%[1]s", name, e.State, e.Reason)
		}
	}
	if e := last(before, "service/redis"); e.State != breport.Degraded {
		t.Errorf("service/redis is %q (%q), want degraded for want of its folder", e.State, e.Reason)
	}
	if e := last(before, "mount/srv/scratch"); !e.State.OK() {
		t.Errorf("mount/srv/scratch is %q (%q), want done: it needs no disk", e.State, e.Reason)
	}

	store.AddDisk(disk)
	store.WaitEventAfter(ready, "what stands on the late volume is up", room.Unit("service/redis", "done"), vm.Guard)
	after := room.Told(t, store)
	order(t, after, "luks/late", "mount/srv/late", "mount/srv/view", "service/redis")
	for _, id := range []string{"luks/late", "mount/srv/late", "mount/srv/view", "service/redis"} {
		if n := attempts(after, id); n != 1 {
			t.Errorf("%s took %d attempts, want 1", id, n)
		}
	}
	for _, id := range []string{"luks/never", "mount/srv/never"} {
		if e := last(after, id); e.State != breport.Degraded || attempts(after, id) != 0 {
			t.Errorf("%s is %q after %d attempts, want degraded and none", id, e.State, attempts(after, id))
		}
	}
}

// last is the event by which a unit came into its present state.
func last(events []breport.Event, id string) breport.Event {
	var x breport.Event
	for _, e := range events {
		if e.Kind == breport.UnitChanged && e.Unit == id && e.State != "" {
			x = e
		}
	}
	return x
}
