package scenario

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	breport "initd/boot/report"
	"initd/qemu-tests/peer/ntp"
	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

// The machine's battery is empty: its clock begins in 1970, where no certificate is valid yet, and there is no time server.
//
//   - The clock is raised to the latest time that is certainly past. The report has both, the time that the clock showed and
//     the one to which it was raised, and status says it first.
//   - The key comes over TLS, the volume opens, the boot reaches ready, all at the first attempt.
func TestTheClockIsAt1970(t *testing.T) {
	s := room.New(t, room.KMSAV4, room.KMSBV4)
	s.Peer.KeyServers = s.Peer.KeyServers[:1]
	s.Appliance = replace(oneVolume, "SERVERS", `    - {name: kms-a, address: "`+room.KMSAV4+`:5696"}`)
	disk := oneVolumeDisk(s)
	s.StartPeer()
	store := s.NewStore(disk).With(vm.Clock(time.Unix(0, 0))).Start()
	store.WaitEvent("ready", vm.Is("ready"), vm.Guard)

	events := room.Told(t, store)
	order(t, events, "key/tank0", "luks/tank0", "mount/srv/tank0")
	if n := attempts(events, "key/tank0"); n != 1 {
		t.Errorf("the fetch took %d attempts, want 1", n)
	}
	r := breport.Fold(events)
	if len(r.Wall) < 2 || r.Wall[0].Wall.Year() != 1970 || r.Wall[1].Wall.Year() < 2024 {
		t.Errorf("the wall clock by the report: %v; want 1970, and then a time that is past", r.Wall)
	}
	var status strings.Builder
	if err := r.Status(&status, breport.Style{}); err != nil {
		t.Fatal(err)
	}
	if text := unfold(status.String()); !strings.Contains(text, "the clock stood at 1970-01-01") || !strings.Contains(text, "and was raised to 20") {
		t.Errorf("status does not tell of it:\n%s", status.String())
	}
}

// unfold undoes the breaking of lines.
func unfold(text string) string { return strings.Join(strings.Fields(text), " ") }

// The machine's clock is in 2099, where every certificate has expired, and the time server does not answer.
//
//   - The key's unit is degraded at once: it says that the certificate has expired by this clock, which says 2099, that the
//     clock may be what is wrong, and the command by which an operator goes on. The boot settles without it.
//   - The time server appears, the clock is stepped, and the next attempt follows that step: it does not wait for the time
//     that had been set for it. The volume opens, and the machine is as if nothing had been.
func TestTheClockIsIn2099(t *testing.T) {
	const key, timeServer = "key/tank0", "192.0.2.23"
	s := room.New(t, room.KMSAV4, room.KMSBV4)
	s.Peer.KeyServers = s.Peer.KeyServers[:1]
	s.Peer.Links[0].Addresses = append(s.Peer.Links[0].Addresses, timeServer+"/24")
	s.Peer.NTP = []ntp.Config{{Listen: timeServer + ":123"}}
	s.Appliance = replace(oneVolume, "SERVERS", `    - {name: kms-a, address: "`+room.KMSAV4+`:5696"}`) + `time: {servers: [` + timeServer + `]}
`
	disk := oneVolumeDisk(s)
	s.StartPeer()
	away := s.Wire.Drop(vm.ToAddr(netip.MustParseAddr(timeServer)))
	s.Over = append(s.Over, func(o *vm.Image) { o.GoProgram("/earlier", "./qemu-tests/guest/earlier") })
	store := s.NewStore(disk).Append("rdinit=/earlier", fmt.Sprintf("CLOCK=%d", time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC).Unix())).Start()

	failed := room.Decode(t, store.WaitEvent("the key is not to be had", room.Unit(key, "degraded"), vm.Guard))
	e := failed.Error
	if e == nil || e.Code != "KMIP-TLS-EXPIRED" || e.Server != "kms-a" || !e.Clock ||
		!strings.Contains(e.Text, "certificate has expired on 20") || !strings.Contains(e.Text, "by this clock (2099-01-0") || !strings.Contains(e.Hint, "set this machine's clock") {
		t.Errorf("the error is %+v", e)
	}
	store.Console().WaitFor(`key/tank0 +degraded: kms-a`, vm.Guard)
	store.Console().WaitFor(`certificate has expired on`, vm.Guard)
	store.Console().WaitFor(`initd keys unlock tank0`, vm.Guard)
	store.WaitEvent("the boot goes on without it", vm.Is("ready"), vm.Guard)

	away.End()
	store.WaitEvent("the volume is mounted", room.Unit("mount/srv/tank0", "done"), vm.Guard)
	events := room.Told(t, store)
	order(t, events, "time", key, "luks/tank0", "mount/srv/tank0")
	followsTheStep(t, events, key)
	r := breport.Fold(events)
	if last := r.Wall[len(r.Wall)-1].Wall; r.Wall[0].Wall.Year() != 2099 || last.Year() >= 2099 || last.Year() < 2024 {
		t.Errorf("the wall clock by the report: %v; want 2099, and then now", r.Wall)
	}
}

// followsTheStep checks that the attempt after the last step of the clock began before the time that was set for it. An
// attempt that ran while the clock was stepped has nothing to wait for.
func followsTheStep(t *testing.T, events []breport.Event, id string) {
	t.Helper()
	step := -1
	for i, e := range events {
		if e.Kind == breport.ClockStepped {
			step = i
		}
	}
	var due time.Duration
	running, tries := false, 0
	for i, e := range events {
		switch {
		case e.Unit != id:
		case e.Kind == breport.UnitChanged && i < step:
			due, running = e.RetryAt, false
		case e.Kind == breport.AttemptStarted && e.Op == breport.Check && i < step:
			running = true
		case e.Kind == breport.AttemptStarted && e.Op == breport.Check:
			if tries++; tries == 1 && !running && e.At >= due {
				t.Errorf("the attempt after the step began at %v, as it would have without it (%v)", e.At, due)
			}
		}
	}
	if step < 0 || due == 0 || running && tries > 1 || !running && tries != 1 {
		t.Errorf("step %d, an attempt ran then: %v, the next one was due at %v, %d attempts after the step; want one", step, running, due, tries)
	}
}
