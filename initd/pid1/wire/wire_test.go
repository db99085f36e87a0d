package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"initd/tests/golden"
)

// samples has a record of every operation, each field set and different.
func samples() []Record {
	return []Record{
		{1, 7, &Hello{Min: 1, Max: 3, Version: 2, Capabilities: CapWatchdog | CapPower, Generation: 4, Silence: 30000, Deaths: 3,
			Orphans: 300, Unacked: 2, Pending: KindReboot, Busy: 40, BusyPIDs: []uint32{77, 78}, Program: "init 1.2"}},
		{1, 8, &Answer{Errno: 95, Text: "not known here"}},
		{1, 9, &Spawn{Name: "redis", Group: "services/redis"}},
		{1, 9, &Spawned{ID: 5, PID: 431, Started: 2_000_000_001}},
		{1, 0, &Running{ID: 5}},
		{1, 10, &Signal{ID: 5, Number: 15, Whole: true}},
		{1, 0, &Exited{ID: 5, PID: 431, Name: "redis", Status: 0x0b, Stage: StageExec, Errno: 2, User: 1, System: 2, MaxRSS: 3, Started: 4, Ended: 5, Left: true}},
		{1, 11, &Ack{ID: 5}},
		{1, 12, &Store{Name: "log/redis", Flags: FlagDrain}},
		{1, 13, &Fetch{Name: "log/redis"}},
		{1, 13, &Stored{Name: "log/redis", Flags: FlagDrain}},
		{1, 14, &Drop{Name: "log/redis"}},
		{1, 15, &List{}},
		{1, 15, &Service{ID: 5, PID: 431, Name: "redis", Group: "services/redis", State: StateRunning, Started: 2_000_000_001}},
		{1, 0, &Heartbeat{Count: 99}},
		{1, 16, &Watchdog{Device: "/dev/watchdog", Timeout: 60, Close: true}},
		{1, 17, &Failure{Active: true, Typing: true}},
		{1, 18, &Going{Kind: KindPowerOff, Within: 60000}},
		{1, 19, &Reboot{Kind: KindKExec}},
		{1, 20, &Restart{Path: "/run/initd/bin/initd"}},
		{1, 3, &Event{Kind: EventAsked, Value: uint64(KindReboot), Text: "ctrl-alt-del"}},
		{1, 21, &SwitchRoot{Root: "/sysroot", Init: "/sbin/init", Adopt: true}},
	}
}

func sampleSpec() *Spec {
	return &Spec{
		Path: "/usr/bin/redis-server", Argv: []string{"redis", "", "/etc/redis.conf"}, Env: []string{"A=1", "B="}, Dir: "/srv",
		UID: 101, GID: 102, Groups: []uint32{102, 4}, NoNewPrivs: true, Umask: 0o077, OOMScore: -900, Nice: -5,
		Limits: []Limit{{7, 1024, 524288}}, Files: []uint32{1, 2, 3},
	}
}

func opName(m Message) string {
	return strings.ToLower(strings.TrimPrefix(reflect.TypeOf(m).String(), "*wire."))
}

func keeps(t *testing.T, name string, got []byte) []byte {
	t.Helper()
	if diff := golden.Diff(t, filepath.Join("testdata", name+".hex"), hex.Dump(got)); diff != "" { // -update is only for operations that are new
		t.Errorf("%s: the bytes on the wire changed; an init that is in use does not understand them (-golden +now):\n%s", name, diff)
	}
	return got
}

func TestEveryRecordKeepsItsBytes(t *testing.T) {
	seen := map[Op]bool{}
	for _, want := range samples() {
		seen[want.Message.Op()] = true
		b, err := want.Encode()
		if err != nil {
			t.Fatalf("%s: %v", opName(want.Message), err)
		}
		keeps(t, opName(want.Message), b[:])
		got, err := Decode(b[:])
		if err != nil {
			t.Fatalf("%s: %v", opName(want.Message), err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: decoded differently (-want +got):\n%s", opName(want.Message), diff)
		}
	}
	for op := OpHello; op <= OpSwitchRoot; op++ {
		if !seen[op] {
			t.Errorf("operation %d has no sample, so no golden", op)
		}
		if New(op).Op() != op {
			t.Errorf("New(%d) is a message of operation %d", op, New(op).Op())
		}
	}
	if _, ok := New(OpSwitchRoot + 1).(*Unknown); !ok {
		t.Errorf("operation %d has a message but is missing in this test", OpSwitchRoot+1)
	}
}

func TestSpecKeepsItsBytes(t *testing.T) {
	b, err := sampleSpec().Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeSpec(keeps(t, "spec", b))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sampleSpec(), got); diff != "" {
		t.Errorf("decoded differently (-want +got):\n%s", diff)
	}
}

func TestARecordFromTheFuture(t *testing.T) {
	heartbeat, err := Record{Message: &Heartbeat{Count: 3}}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	t.Run("with appended fields is read without them", func(t *testing.T) {
		b := heartbeat
		b[headerSize+8], b[RecordSize-1] = 1, 2
		got, err := Decode(b[:])
		if diff := cmp.Diff(Message(&Heartbeat{Count: 3}), got.Message); err != nil || diff != "" {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	})
	t.Run("of an unknown operation keeps its number and sequence", func(t *testing.T) {
		b := heartbeat
		b[6], b[7], b[8] = 0xff, 0x7f, 42
		got, err := Decode(b[:])
		if diff := cmp.Diff(Record{1, 42, &Unknown{0x7fff}}, got); err != nil || diff != "" {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	})
	t.Run("of a later version is read", func(t *testing.T) {
		b := heartbeat
		b[4] = 9
		if got, err := Decode(b[:]); err != nil || got.Version != 9 {
			t.Errorf("got %v, %v", got, err)
		}
	})
}

func TestMalformedRecordsAreErrorsThatNameTheRequest(t *testing.T) {
	b, err := Record{Seq: 5, Message: &Fetch{Name: "x"}}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	long, nul := b, b
	long[headerSize] = MaxName + 1
	nul[headerSize] = 3
	for name, bad := range map[string][]byte{"length beyond the field": long[:], "NUL in a name": nul[:]} {
		got, err := Decode(bad)
		if !errors.Is(err, ErrMalformed) || got.Seq != 5 || got.Message.Op() != OpFetch {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
	for name, bad := range map[string][]byte{"empty": nil, "short": b[:100], "long": append(b[:], 0), "other magic": append([]byte("x"), b[1:]...)} {
		if _, err := Decode(bad); !errors.Is(err, ErrNotRecord) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := (Record{Message: &Fetch{Name: strings.Repeat("x", MaxName+1)}}).Encode(); !errors.Is(err, ErrMalformed) {
		t.Errorf("a name that is too long: got %v", err)
	}
	cut, err := Record{Message: &Answer{Text: strings.Repeat("é", MaxText)}}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Decode(cut[:]); err != nil || len(got.Message.(*Answer).Text) != MaxText {
		t.Errorf("a long text: got %v, %v", got, err)
	}
}

func TestSpecsThatAreRefused(t *testing.T) {
	ok := func() *Spec { return &Spec{Argv: []string{"/bin/x"}} }
	rows := map[string]func(*Spec){
		"no program":                  func(s *Spec) { s.Argv = nil },
		"relative program":            func(s *Spec) { s.Argv[0] = "./x" },
		"relative directory":          func(s *Spec) { s.Dir = "srv" },
		"NUL in an argument":          func(s *Spec) { s.Argv = append(s.Argv, "a\x00b") },
		"NUL in the environment":      func(s *Spec) { s.Env = []string{"A=\x00"} },
		"a descriptor twice":          func(s *Spec) { s.Files = []uint32{1, 1} },
		"a descriptor too high":       func(s *Spec) { s.Files = []uint32{maxTarget} },
		"a umask that is none":        func(s *Spec) { s.Umask = 0o1000 },
		"more bytes than fit a memfd": func(s *Spec) { s.Env = []string{strings.Repeat("x", MaxSpec)} },
	}
	for name, spoil := range rows {
		s := ok()
		spoil(s)
		if _, err := s.Encode(); !errors.Is(err, ErrSpec) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	good, err := ok().Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeSpec(append(good, 0x70, 0x00, 0, 0, 0, 0)); !errors.Is(err, ErrSpec) {
		t.Errorf("an unknown demand must not be left out: got %v", err)
	}
	if _, err := DecodeSpec(append(good, 0x70, 0x80, 1, 0, 0, 0, 9)); err != nil {
		t.Errorf("an unknown wish may be left out: got %v", err)
	}
}

func TestVersionsAgree(t *testing.T) {
	for name, row := range map[string]struct {
		min, max, want uint16
		ok             bool
	}{
		"the same":            {1, 1, 1, true},
		"the other is newer":  {1, 7, 1, true},
		"the other forgot us": {MaxVersion + 1, MaxVersion + 2, MaxVersion, false},
		"nonsense":            {0, 0, 0, false},
	} {
		got, ok := Agree(row.min, row.max)
		if got != row.want || ok != row.ok {
			t.Errorf("%s: got %d, %v", name, got, ok)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, r := range samples() {
		b, err := r.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Decode(b)
		if err != nil {
			return
		}
		if r.Version == 0 {
			return // Encode fills in the version
		}
		again, err := r.Encode()
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		back, err := Decode(again[:])
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if diff := cmp.Diff(r, back); diff != "" {
			t.Errorf("changed on the way:\n%s", diff)
		}
	})
}

func FuzzDecodeSpec(f *testing.F) {
	b, err := sampleSpec().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(append(bytes.Clone(b), 0x70, 0x80, 1, 0, 0, 0, 9))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeSpec(b)
		if err != nil {
			return
		}
		again, err := s.Encode()
		if err != nil {
			return // uid and gid are always written, which may go over the size
		}
		back, err := DecodeSpec(again)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if diff := cmp.Diff(s, back); diff != "" {
			t.Errorf("changed on the way:\n%s", diff)
		}
	})
}
