package scenario

import (
	"net/netip"
	"strings"
	"testing"

	breport "initd/boot/report"
	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

// The first of two key servers drops packets silently, as behind a firewall.
//
//   - kms-a is dialled and says nothing.
//   - A second later kms-b is dialled too, and the report says so.
//   - kms-b answers; the key is its, the volume opens, the boot reaches ready.
func TestTheFirstKeyServerIsSilent(t *testing.T) {
	s := room.New(t, room.KMSAV4, room.KMSBV4)
	bootByTheSecond(t, s, room.KMSAV4, room.KMSBV4, func() {
		s.Wire.Drop(vm.ToAddr(netip.MustParseAddr(room.KMSAV4)))
	})
	const key = "key/tank0"
	dialled := s.Store.WaitEvent("both were dialled", says(key, `^dialled kms-b \d+\.\d s after kms-a$`), vm.Guard)
	// The guest's clock, and a busy host's at that: what counts is that it is the stagger of
	// 1 s, not a timeout of the kernel's or a try at once.
	if text := dialled.Field("text"); !strings.Contains(text, " 1.") {
		t.Errorf("%s; want 1.0 s", text)
	}
}

// The way to the first of two key servers is missing: it is in a network to
// which the appliance has no route.
//
//   - The report knows that there is no way to kms-a, and why; the fetch starts nevertheless, since
//     there is one to kms-b.
//   - The key comes from kms-b at once: a missing way is no reason to wait a second.
func TestTheWayToOneKeyServerIsMissing(t *testing.T) {
	const elsewhere = "203.0.113.21"
	s := room.New(t, elsewhere, room.KMSBV4)
	bootByTheSecond(t, s, elsewhere, room.KMSBV4, func() {})
	s.Store.WaitEvent("kms-b was dialled at once", says("key/tank0", `^dialled kms-b( 0\.\d s after kms-a)?$`), vm.Guard)
	events := room.Told(t, s.Store)
	way := map[string]breport.Event{}
	for _, e := range events {
		if e.Kind == breport.ResourceChanged {
			way[e.Resource] = e
		}
	}
	a, b := way["endpoint/"+elsewhere+":5696"], way["endpoint/"+room.KMSBV4+":5696"]
	if a.Presence != breport.Absent || !strings.Contains(a.Reason, "no route") {
		t.Errorf("the way to kms-a is %q (%q), want absent for want of a route", a.Presence, a.Reason)
	}
	if b.Presence != breport.Present {
		t.Errorf("the way to kms-b is %q (%q), want present", b.Presence, b.Reason)
	}
}

// bootByTheSecond boots an appliance with two key servers, of which the second
// gives the key.
func bootByTheSecond(t *testing.T, s *room.Room, a, b string, trouble func()) {
	t.Helper()
	s.Appliance = replace(oneVolume, "SERVERS", `    - {name: kms-a, address: "`+a+`:5696"}
    - {name: kms-b, address: "`+b+`:5696"}`)
	disk := oneVolumeDisk(s)
	peer := s.StartPeer()
	trouble()
	store := s.NewStore(disk).Start()
	store.WaitEvent("ready", vm.Is("ready"), vm.Guard)
	events := room.Told(t, store)
	order(t, events, "key/tank0", "luks/tank0", "mount/srv/tank0")
	if n := attempts(events, "key/tank0"); n != 1 {
		t.Errorf("the fetch took %d attempts, want 1", n)
	}
	var gets []string
	for _, e := range peer.Events() {
		if vm.Is("kmip", "op", "get")(e) {
			gets = append(gets, e.Field("server")+" "+e.Field("object"))
		}
		if vm.Is("kmip", "op", "accept", "server", "kms-a")(e) {
			t.Errorf("kms-a heard of us: %s", e.Line)
		}
	}
	if len(gets) != 1 || gets[0] != "kms-b store/tank0" {
		t.Errorf("keys were given out by %q, want one by kms-b", gets)
	}
	from := ""
	for _, e := range events {
		if e.Kind == breport.AttemptEnded && e.Unit == "key/tank0" && e.Op == breport.Apply {
			from = e.Server
		}
	}
	if from != "kms-b" {
		t.Errorf("the report says that the key is from %q, want kms-b", from)
	}
}
