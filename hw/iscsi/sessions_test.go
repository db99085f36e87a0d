package iscsi

import (
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"initd/hw/sysfs"
	"initd/tests/tree"
)

func machineWithSessions() *sysfs.FS { return sysfs.New(sessionFiles()) }

// sessionFiles is the part of a /sys with one session of ours and one of iscsid's, as Linux 6.12 shows them.
func sessionFiles() fstest.MapFS {
	files := fstest.MapFS{}
	add := func(name, text string) { files[name] = tree.File(text + "\n") }
	link := func(name, to string) { files[name] = tree.Link(to) }
	for id, iface := range map[string]string{"1": "initd-80aabbccddee", "2": "default"} {
		host := map[string]string{"1": "host5", "2": "host6"}[id]
		dev := "sys/devices/platform/" + host + "/session" + id
		s := dev + "/iscsi_session/session" + id
		add(s+"/state", "LOGGED_IN")
		add(s+"/targetname", "iqn.2026-01.net.example:t"+id)
		add(s+"/initiatorname", testInitiator)
		add(s+"/ifacename", iface)
		add(s+"/tpgt", "1")
		add(s+"/recovery_tmo", "off")
		link(s+"/device", "../../../session"+id)
		link("sys/class/iscsi_session/session"+id, "../../devices/platform/"+host+"/session"+id+"/iscsi_session/session"+id)
		c := "sys/class/iscsi_connection/connection" + id + ":0"
		add(c+"/state", "up")
		add(c+"/address", "192.0.2.50")
		add(c+"/port", "3260")
		add(c+"/local_port", "50001")
		add(c+"/persistent_address", "2001:db8::50")
		add(c+"/persistent_port", "3260")
		unit := dev + "/target" + host[4:] + ":0:0/" + host[4:] + ":0:0:3"
		add(unit+"/wwid", "naa.6001405")
		add(unit+"/block/sd"+map[string]string{"1": "a", "2": "b"}[id]+"/size", "2048")
	}
	add("sys/devices/platform/host5/session1/target5:0:0/5:0:0:16684/block/sdc/size", "2048")
	add("sys/class/block/sda/size", "2048")
	return files
}

func TestSessionsAreReadWhoeverMadeThem(t *testing.T) {
	list, err := Sessions(machineWithSessions())
	if err != nil {
		t.Fatal(err)
	}
	want := []Session{
		{ID: 1, Host: 5, Target: "iqn.2026-01.net.example:t1", Tag: 1, Initiator: testInitiator, State: "LOGGED_IN", Conn: "up", Address: "192.0.2.50:3260",
			Portal: "[2001:db8::50]:3260", Iface: "initd-80aabbccddee", Recovery: "off", Disks: []Disk{{3, "sda", "naa.6001405"}, {16684, "sdc", ""}}},
		{ID: 2, Host: 6, Target: "iqn.2026-01.net.example:t2", Tag: 1, Initiator: testInitiator, State: "LOGGED_IN", Conn: "up", Address: "192.0.2.50:3260",
			Portal: "[2001:db8::50]:3260", Iface: "default", Recovery: "off", Disks: []Disk{{3, "sdb", "naa.6001405"}}},
	}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Fatal(diff)
	}
	if isid, ok := list[0].ISID(); !ok || isid.String() != "80aabbccddee" || list[1].Ours() {
		t.Error("whose they are is told by the mark")
	}
	if d, ok := list[0].Disk(300); !ok || d.Name != "sdc" { // 300 in the flat address space
		t.Errorf("LUN 300: %+v, %v", d, ok)
	}
	if _, ok := list[0].Disk(4); ok {
		t.Error("a LUN that is not there")
	}
	if list, err := Sessions(sysfs.New(fstest.MapFS{})); err != nil || len(list) != 0 {
		t.Errorf("without the kernel's iSCSI: %v, %v", list, err)
	}
}

func TestRecordsOutliveTheProcess(t *testing.T) {
	r := RecordsAt(t.TempDir())
	if list, err := r.List(); err != nil || len(list) != 0 {
		t.Fatalf("%v, %v", list, err)
	}
	rec := Record{Session: 3, Host: 4, ISID: "80aabbccddee", Config: Config{Target: "iqn.2026-01.net.example:a"}, Time2Wait: 2, Unit: "iscsi-path/a/x"}
	if err := r.Write(rec); err != nil {
		t.Fatal(err)
	}
	rec.Version = recordVersion
	got, err := r.Read(rec.ISID)
	if diff := cmp.Diff(rec, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if r.Kept() {
		t.Error("nobody keeps them yet")
	}
	release, err := r.Lock(false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Lock(false); err != ErrKept || !r.Kept() {
		t.Errorf("a second keeper: %v", err)
	}
	release()
	if r.Kept() {
		t.Error("a lock that outlives its holder")
	}
	if err := r.Remove(rec.ISID); err != nil || r.Remove(rec.ISID) != nil {
		t.Error(err)
	}
}

func TestAGivenSessionIsStillItsUnits(t *testing.T) {
	sessions, err := Sessions(machineWithSessions())
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := sessions[0], sessions[1]
	at := Portal{Host: "2001:db8::50", Port: 3260, Tag: -1}
	r := RecordsAt(t.TempDir())
	write := func(isid string, session uint32, target string, given bool) {
		t.Helper()
		if err := r.Write(Record{ISID: isid, Session: session, Config: Config{Target: target, Portal: at}, Unit: "iscsi-path/" + isid, Given: given}); err != nil {
			t.Fatal(err)
		}
	}
	write("80aabbccddee", ours.ID, ours.Target, true)                   // half given: the mark in the kernel says that it is ours
	write("800000000001", theirs.ID, theirs.Target, false)              // a number that another session has by now
	write("800000000002", theirs.ID, "iqn.2026-01.net.example:t", true) // the same, of one that was given
	for _, s := range sessions {
		if rec, ok := r.GivenTo(s); ok {
			t.Errorf("session %d counts as given by %+v", s.ID, rec)
		}
	}
	write("800000000003", theirs.ID, theirs.Target, true)
	if rec, ok := r.GivenTo(theirs); !ok || rec.Unit != "iscsi-path/800000000003" {
		t.Errorf("the one that was given: %+v, %v", rec, ok)
	}
	if rec, ok := r.GivenBy("iscsi-path/800000000003"); !ok || rec.Session != theirs.ID {
		t.Errorf("by its unit: %+v, %v", rec, ok)
	}
	if _, ok := r.GivenBy("iscsi-path/800000000001"); ok {
		t.Error("a unit whose session was not given")
	}
}

func TestDisksAreReadWholeIfTheirConnectionWasThereAllTheTime(t *testing.T) {
	const session = "sys/devices/platform/host5/session1/iscsi_session/session1/"
	rec := Record{Session: 1, Config: Config{Target: "iqn.2026-01.net.example:t1", LUNs: []uint64{3}}}
	for _, row := range []struct {
		name, before, recovery, state string
		whole                         bool
	}{
		{"it was there", "50001", "5", "LOGGED_IN", true},
		{"it is another one by now", "50000", "5", "LOGGED_IN", false},
		{"there was none in the beginning", "", "5", "LOGGED_IN", false},
		{"it is lost", "50001", "5", "FAILED", false},
		{"I/O has failed since", "50001", "5", "FREE", false},
		{"I/O does not wait at all", "50001", "0", "FAILED", false},
		{"I/O waits for ever, and the connection was made anew", "50000", "off", "LOGGED_IN", true},
		{"I/O waits for ever, now too", "50001", "off", "FAILED", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			files := sessionFiles()
			files[session+"recovery_tmo"], files[session+"state"] = tree.File(row.recovery+"\n"), tree.File(row.state+"\n")
			k := &Kernel{sys: sysfs.New(files)}
			if err := k.readWhole(rec, row.before); row.whole != (err == nil) || err != nil && codeOf(err) != CodeClosed {
				t.Errorf("got %v", err)
			}
		})
	}
}
