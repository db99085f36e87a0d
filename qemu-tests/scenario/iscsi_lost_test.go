package scenario

import (
	"fmt"
	"strings"
	"testing"

	"initd/qemu-tests/peer/lio"
	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

// hostsNetwork is the file of a store whose network is somebody else's.
const hostsNetwork = `apiVersion: initd/v1
name: store
budgets: {boot: 3m, shutdown: 60s}
network: {by: host}
services:
` + room.HandsService + `image:
  modules: [ext4]
`

// The target's machine is paused, reset and paused again, with the orchestrator killed while the session is down; all of it under write
// load. Who else may have a say in it, has: the host's own network configuration, multipathd, iscsid.
//
//   - The network is by host: until somebody configures it initd waits, says for what, and changes nothing.
//   - Where multipathd runs no map is made; when it ends, one is.
//   - Paused: pings find it out, I/O waits, and after the pause the session is the same and everything acknowledged is there.
//   - Reset: the same over a target that has forgotten everything.
//   - The orchestrator is killed while the session is down: its successor takes it over and recovers it.
//   - The sessions are given to iscsid for good: the same session, recovered by it after another reset, and by nobody else; a successor
//     of the orchestrator counts on it still. A session of iscsid's own is listed, and left alone.
func TestISCSISessionsOutliveTheirTarget(t *testing.T) {
	s := newISCSIRoom(t)
	s.Appliance = hostsNetwork
	s.Over = append(s.Over, func(o *vm.Image) {
		o.Program("iscsid", "iscsiadm", "multipathd").Host("/lib/multipath").Bytes("/etc/passwd", []byte("root:x:0:0:root:/:/bin/sh\n"), 0o644).
			Bytes("/etc/iscsi/initiatorname.iscsi", []byte("InitiatorName="+initiator+"\n"), 0o600).
			Bytes("/etc/iscsi/iscsid.conf", []byte("node.startup = manual\nnode.session.timeo.replacement_timeout = 600\n"), 0o600).
			Dir("/var/lib/iscsi", 0o700)
	})
	disk := vm.NewDisk(t, "backing", 32*vm.MiB, vm.Ext4{Label: "data"})
	s.targets.Targets = []lio.Target{
		{IQN: iqn("one"), Portals: []string{targetA + ":3260"}, LUNs: []lio.LUN{{Number: 1, Device: "/dev/vda"}}},
		{IQN: iqn("two"), Portals: []string{targetA + ":3262", targetA + ":3263"}, LUNs: []lio.LUN{{Number: 0, MiB: 8, Image: "/ext4.img"}}},
		{IQN: iqn("theirs"), Portals: []string{targetA + ":3264"}, LUNs: []lio.LUN{{Number: 0, MiB: 8, Image: "/ext4.img"}}},
	}
	const options = "options: {nop-interval: 2s, nop-timeout: 3s}"
	s.with(fmt.Sprintf(`fabrics:
  iscsi:
    - {name: one, target: %q, portals: [%s], initiator: %q, luns: [{lun: 1, name: data}], `+options+`}
    - {name: two, target: %q, portals: ["%s:3262", "%s:3263"], initiator: %[3]q, luns: [{lun: 0, name: data}], `+options+`}
mounts:
  - {what: iscsi/one/data, where: /srv/one, type: ext4, fsck: never}
`, iqn("one"), targetA, initiator, iqn("two"), targetA, targetA))
	peer := s.startTargets(disk)
	m := s.startStore()
	path := "iscsi-path/one/" + targetA + ":3260"
	leavesTheNetworkToTheHost(t, m)
	leavesMapsToMultipathd(t, m)
	last := m.WaitEvent("ready", vm.Is("ready"), vm.Guard)
	writes := func(what string) {
		t.Helper()
		e := room.Hand(t, m, "load-more", "", "30")
		t.Logf("%s: %s", what, e.Line)
	}
	room.Hand(t, m, "load", "/srv/one/load", "4096")
	writes("before")

	peer.Pause()
	last = m.WaitEventAfter(last, "the loss is told", noticed(path+": lost"), vm.Guard)
	m.WaitEventAfter(last, "it is tried", noticed(path+": still lost"), vm.Guard)
	peer.Continue()
	last = m.WaitEventAfter(last, "it is back", noticed(path+": back"), vm.Guard)
	writes("after the pause")

	peer.Reset()
	last = m.WaitEventAfter(last, "the loss by the reset is told", noticed(path+": lost"), vm.Guard)
	last = m.WaitEventAfter(last, "it is back after the reset", noticed(path+": back"), vm.Guard)
	writes("after the reset")

	peer.Pause()
	m.WaitEventAfter(last, "the second loss is told", noticed(path+": lost"), vm.Guard)
	gone := room.Hand(t, m, "kill-orchestrator", "", "")
	successor := m.WaitEventAfter(gone, "a successor", vm.Is("generation", "gen", "2"), vm.Guard)
	m.WaitEventAfter(successor, "it adopts the session", room.Unit(path, "adopted"), vm.Guard)
	m.WaitEventAfter(successor, "it knows that it is lost", noticed(path+": lost"), vm.Guard)
	peer.Continue()
	m.WaitEventAfter(successor, "the successor recovers it", noticed(path+": back"), vm.Guard)
	writes("with the successor")

	if list := s.sessions(); len(list) != 3 || list[0].State != "LOGGED_IN" || list[0].Owner != "initd" || !strings.HasPrefix(list[0].Unit, "iscsi-path/") {
		t.Errorf("sessions: %+v", list)
	}
	givesSessionsToISCSID(t, s, m, path, writes)
	t.Logf("load: %s", room.Hand(t, m, "load-stop", "", "").Line)
	m.CtrlAltDel()
	m.Exited(vm.Guard)
	room.NothingLeft(t, m)
}

// leavesTheNetworkToTheHost: a way is waited for, and made by somebody else.
func leavesTheNetworkToTheHost(t *testing.T, m *vm.VM) {
	t.Helper()
	const down = "0x1002\n" // IFF_BROADCAST, IFF_MULTICAST
	m.WaitEvent("the way is missing, and why", vm.Is("resource", "resource", "endpoint/"+targetA+":3260", "presence", "absent",
		"reason", "no route to "+targetA+" (eth0 is down, eth1 is down)"), vm.Guard)
	m.WaitEvent("the hands are there", vm.Is("hands-ready"), vm.Guard)
	flags := func(name string) string {
		return room.Hand(t, m, "read", "/sys/class/net/"+name+"/flags", "").Field("text")
	}
	if got := flags("eth0") + flags("eth1"); got != down+down {
		t.Errorf("flags before the host has configured anything: %q", got)
	}
	run(t, m, "/usr/sbin/modprobe", "dm-multipath")
	run(t, m, "/usr/sbin/multipathd", "")
	runUntil(t, m, "/usr/sbin/multipathd", "show daemon")
	room.Hand(t, m, "address", "eth0", "192.0.2.17/24")
	m.WaitEvent("the session is there", room.Unit("iscsi-path/one/"+targetA+":3260", "done"), vm.Guard)
	m.WaitEvent("its disk is done, not adopted", room.Unit("iscsi/one", "done"), vm.Guard)
	if got := flags("eth1"); got != down {
		t.Errorf("flags of the interface that the host leaves alone: %q", got)
	}
	for _, e := range m.Events() {
		if id := e.Field("unit"); strings.HasPrefix(id, "net/") || strings.HasPrefix(id, "route/") || id == "dns" {
			t.Errorf("a unit for the host's network: %s", e.Line)
		}
	}
}

// leavesMapsToMultipathd: while it runs, two is logged in to on both paths and has no map.
func leavesMapsToMultipathd(t *testing.T, m *vm.VM) {
	t.Helper()
	for _, port := range []string{"3262", "3263"} {
		m.WaitEvent("both paths are there", room.Unit("iscsi-path/two/"+targetA+":"+port, "done"), vm.Guard)
	}
	e := m.WaitEvent("the map is multipathd's", failedWith("iscsi/two"), vm.Guard)
	if x := room.Decode(t, e); !strings.Contains(x.Error.Text, "multipathd runs on this machine, and makes the maps") {
		t.Errorf("iscsi/two: %s", e.Line)
	}
	run(t, m, "/usr/sbin/multipathd", "shutdown")
	m.WaitEventAfter(e, "without it there is a map", room.Unit("iscsi/two", "done"), vm.Guard)
}

// givesSessionsToISCSID: a real iscsid takes up what runs.
func givesSessionsToISCSID(t *testing.T, s *iscsiRoom, m *vm.VM, path string, writes func(string)) {
	t.Helper()
	before := s.sessions()
	release := run(t, m, "/usr/bin/initd", "iscsi release --all")
	room.Hand(t, m, "mkdir", "/run/lock/iscsi", "")
	run(t, m, "/usr/sbin/iscsid", "")
	for _, l := range before { // it knows a session's numbers when it has taken it up
		runUntil(t, m, "/usr/sbin/iscsiadm", fmt.Sprintf("-m session -r %d -s", l.ID))
	}
	s.PeerVM.Reset()
	writes("recovered by iscsid")
	for i, l := range s.sessions() {
		if l.ID != before[i].ID || l.Owner != "other" || l.Target != before[i].Target || l.Target == iqn("one") && l.State != "LOGGED_IN" {
			t.Errorf("session %d, given away, is %+v; it was %+v", i, l, before[i])
		}
	}
	run(t, m, "/usr/sbin/iscsiadm", "-m node -o new -T "+iqn("theirs")+" -p "+targetA+":3264")
	run(t, m, "/usr/sbin/iscsiadm", "-m node -T "+iqn("theirs")+" -p "+targetA+":3264 --login")
	if e := room.Hand(t, m, "run", "/usr/bin/initd", "iscsi logout "+iqn("theirs")); e.Field("status") != "1" || !strings.Contains(e.Field("text"), "was not made by initd") {
		t.Errorf("a logout of iscsid's session: %s", e.Line)
	}

	gone := room.Hand(t, m, "kill-orchestrator", "", "")
	third := m.WaitEventAfter(gone, "a successor", vm.Is("generation", "gen", "3"), vm.Guard)
	for _, id := range []string{path, "iscsi/one", "iscsi/two", "mount/srv/one"} {
		m.WaitEventAfter(third, id+" is counted on still", room.Unit(id, "adopted"), vm.Guard)
	}
	if n := len(s.sessions()); n != len(before)+1 {
		t.Errorf("%d sessions, want %d and iscsid's own", n, len(before))
	}
	after := false
	for _, e := range m.Events() {
		after = after || e.At == release.At
		if after && (noticed(": lost")(e) || noticed(": back")(e)) {
			t.Errorf("initd has a say in what was given away: %s", e.Line)
		}
	}
}

// run runs a program in the machine, which is to succeed.
func run(t *testing.T, m *vm.VM, program, args string) vm.Event {
	t.Helper()
	e := room.Hand(t, m, "run", program, args)
	if e.Field("status") != "0" {
		t.Fatalf("%s %s: %s", program, args, e.Line)
	}
	return e
}

// runUntil runs a program again and again, until it succeeds; what it asks for has no event.
func runUntil(t *testing.T, m *vm.VM, program, args string) {
	t.Helper()
	var e vm.Event
	for range 60 {
		if e = room.Hand(t, m, "run", program, args); e.Field("status") == "0" {
			return
		}
		room.Hand(t, m, "pause", "500ms", "")
	}
	t.Fatalf("%s %s: %s", program, args, e.Line)
}
