//go:build guest

package lio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"initd/hw/iscsi"
	"initd/hw/link"
	"initd/hw/secret/secrettest"
	"initd/hw/sysfs"
)

const (
	initiator = "iqn.2026-01.net.example:host"
	plain     = "iqn.2026-01.net.example:plain"
	guarded   = "iqn.2026-01.net.example:guarded"
	digested  = "iqn.2026-01.net.example:digested"
	others    = "iqn.2026-01.net.example:others"
	off       = "iqn.2026-01.net.example:off"

	overRelay = "127.0.0.1:3270"
)

// guard is long enough for anything in an emulated machine.
const guard = 60 * time.Second

// machine is a target and an initiator in one.
type machine struct {
	*testing.T
	lio    *Machine
	sys    *sysfs.FS
	kernel *iscsi.Kernel
}

func start(t *testing.T) *machine {
	t.Helper()
	if err := link.LoopbackUp(); err != nil {
		t.Fatal(err)
	}
	auth := &Auth{User: "host", Password: "twelve bytes at least", MutualUser: "store", MutualPassword: "another dozen bytes"}
	cfg := Config{Targets: []Target{
		{IQN: plain, Portals: []string{"127.0.0.1:3260", "[::1]:3260"}, LUNs: []LUN{{Number: 0, MiB: 8}, {Number: 3, MiB: 8}, {Number: 300, MiB: 8}}},
		{IQN: guarded, Portals: []string{"127.0.0.1:3260"}, LUNs: []LUN{{Number: 0, MiB: 8}}, Initiators: []Initiator{{Name: initiator, Auth: auth}}},
		{IQN: digested, Portals: []string{"127.0.0.1:3260"}, LUNs: []LUN{{Number: 0, MiB: 8}},
			Parameters: map[string]string{"HeaderDigest": "CRC32C", "DataDigest": "CRC32C", "MaxBurstLength": "65536"}},
		{IQN: others, Portals: []string{"127.0.0.1:3262"}, LUNs: []LUN{{Number: 0, MiB: 8}, {Number: 3, Type: 1}}},
		{IQN: off, Portals: []string{"127.0.0.1:3261"}, LUNs: []LUN{{Number: 0, MiB: 8}}, Off: true},
	}}
	for i := range 16 {
		cfg.Targets = append(cfg.Targets, Target{IQN: fmt.Sprintf("iqn.2026-01.net.example:many%d", i),
			Portals: []string{fmt.Sprintf("127.0.0.1:%d", 3300+i)}, LUNs: []LUN{{Number: 0, MiB: 8}}})
	}
	cfg.Relays = []Relay{{Listen: overRelay, To: "127.0.0.1:3260"}}
	l, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	sys, err := sysfs.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	k, err := iscsi.OpenKernel(sys)
	if err != nil {
		t.Fatal(err)
	}
	return &machine{T: t, lio: l, sys: sys, kernel: k}
}

func portal(t *testing.T, s string) iscsi.Portal {
	t.Helper()
	p, err := iscsi.ParsePortal(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (m *machine) within() context.Context {
	ctx, cancel := context.WithTimeout(m.Context(), guard)
	m.Cleanup(cancel)
	return ctx
}

func code(err error) string {
	if c := (interface{ Code() string })(nil); errors.As(err, &c) {
		return c.Code()
	}
	return fmt.Sprintf("none (%v)", err)
}

// disk opens a LUN of a session without the page cache.
func (m *machine) disk(rec iscsi.Record, lun uint64) *os.File {
	m.Helper()
	s, err := iscsi.ReadSession(m.sys, rec.Session)
	if err != nil {
		m.Fatal(err)
	}
	i := slices.IndexFunc(s.Disks, func(d iscsi.Disk) bool { return d.LUN == lun })
	if i < 0 {
		m.Fatalf("no LUN %d in %+v", lun, s)
	}
	f, err := os.OpenFile(s.Disks[i].Node(), os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		m.Fatal(err)
	}
	m.Cleanup(func() { f.Close() })
	return f
}

// page is a block of memory that O_DIRECT takes.
func page(t *testing.T, fill byte) []byte {
	b, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	copy(b, bytes.Repeat([]byte{fill}, len(b)))
	return b
}

// The life of sessions against the kernel's own target, over loopback.
func TestSessions(t *testing.T) {
	m := start(t)
	t.Run("a session carries data and leaves nothing", m.carries)
	t.Run("IPv6, high LUNs and all LUNs", m.sixAndHigh)
	t.Run("digests both ways", m.withDigests)
	t.Run("CHAP both ways, and wrong", m.chap)
	t.Run("what a target refuses leaves nothing in the kernel", m.refusals)
	t.Run("what is no disk is told as what it is", m.types)
	t.Run("a lost connection is recovered under I/O", m.recovers)
	t.Run("a disk that was read in part is not taken for what it is not", m.readInPart)
	t.Run("a target that has moved for good is found there", m.movedForGood)
	t.Run("a dead target does not hold the end up", m.dead)
	t.Run("sixteen at once", m.many)
}

func (m *machine) sub(t *testing.T) *machine { s := *m; s.T = t; return &s }

func (m *machine) config(target, at string, luns ...uint64) iscsi.Config {
	return iscsi.Config{Target: target, Initiator: initiator, Portal: portal(m.T, at), LUNs: luns}
}

func (m *machine) noSessions() {
	m.Helper()
	if list, err := iscsi.Sessions(m.sys); err != nil || len(list) != 0 {
		m.Errorf("sessions are left: %+v, %v", list, err)
	}
}

func (m *machine) carries(t *testing.T) {
	m = m.sub(t)
	var kept []iscsi.Record
	records := iscsi.RecordsAt(t.TempDir())
	rec, err := m.kernel.Login(m.within(), m.config(plain, "127.0.0.1", 0, 3), nil, func(r iscsi.Record) error {
		kept = append(kept, r)
		return records.Write(r)
	})
	if err != nil {
		t.Fatal(err)
	}
	list, err := iscsi.Sessions(m.sys)
	if err != nil || len(list) != 1 {
		t.Fatalf("sessions: %+v, %v", list, err)
	}
	s := list[0]
	isid, ours := s.ISID()
	if !ours || isid.String() != rec.ISID || s.ID != rec.Session || s.Host != rec.Host || !s.LoggedIn() || s.Target != plain || s.Portal != "127.0.0.1:3260" || s.Tag != 1 || s.Recovery != "off" {
		t.Errorf("session %+v of record %+v", s, rec)
	}
	if len(s.Disks) != 2 || s.Disks[0].LUN != 0 || s.Disks[1].LUN != 3 {
		t.Errorf("only the LUNs 0 and 3 were asked for: %+v", s.Disks)
	}
	if len(kept) != 1 || kept[0].Session != rec.Session {
		t.Errorf("records: %+v", kept)
	}
	if again, err := records.List(); err != nil || len(again) != 1 || again[0].ISID != rec.ISID || again[0].Config.Target != plain {
		t.Errorf("records: %+v, %v", again, err)
	}
	for lun, fill := range map[uint64]byte{0: 'a', 3: 'b'} {
		f := m.disk(rec, lun)
		if _, err := f.WriteAt(page(t, fill), 8192); err != nil {
			t.Fatal(err)
		}
		got := page(t, 0)
		if _, err := f.ReadAt(got, 8192); err != nil || !bytes.Equal(got, page(t, fill)) {
			t.Errorf("LUN %d: read %q…, %v", lun, got[:4], err)
		}
		f.Close()
	}
	if err := m.kernel.Logout(m.within(), rec); err != nil {
		t.Fatal(err)
	}
	m.noSessions()
	if err := m.kernel.Logout(m.within(), rec); err != nil {
		t.Errorf("a session that is gone: %v", err)
	}
	if err := m.kernel.Recover(m.within(), rec, nil, false); !errors.Is(err, iscsi.ErrGone) {
		t.Errorf("recovery of a session that is gone: %v", err)
	}
}

func (m *machine) sixAndHigh(t *testing.T) {
	m = m.sub(t)
	c := m.config(plain, "::1", 300)
	rec, err := m.kernel.Login(m.within(), c, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	m.disk(rec, 300).Close()
	if err := m.kernel.Logout(m.within(), rec); err != nil {
		t.Fatal(err)
	}
	c.LUNs, c.AllLUNs = nil, true
	if rec, err = m.kernel.Login(m.within(), c, nil, nil); err != nil {
		t.Fatal(err)
	}
	s, err := iscsi.ReadSession(m.sys, rec.Session)
	if err != nil || s.Portal != "[::1]:3260" {
		t.Errorf("%+v, %v", s, err)
	}
	c.AllLUNs, c.LUNs = false, []uint64{7}
	missing, err := m.kernel.Login(m.within(), c, nil, nil)
	if code(err) != "ISCSI-NO-LUN" {
		t.Errorf("a LUN that is not there: %v", err)
	}
	if err := errors.Join(m.kernel.Logout(m.within(), rec), m.kernel.Logout(m.within(), missing)); err != nil {
		t.Fatal(err)
	}
	m.noSessions()
}

func (m *machine) withDigests(t *testing.T) {
	m = m.sub(t)
	c := m.config(digested, "127.0.0.1", 0)
	if _, err := m.kernel.Login(m.within(), c, nil, nil); err == nil {
		t.Fatal("a target that insists on digests took a session without")
	}
	c.Settings.HeaderDigest, c.Settings.DataDigest = []string{"CRC32C", "None"}, []string{"CRC32C"}
	rec, err := m.kernel.Login(m.within(), c, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"header_digest": "1", "data_digest": "1"} {
		if got, err := m.sys.String(fmt.Sprintf("sys/class/iscsi_connection/connection%d:0/%s", rec.Session, name)); err != nil || got != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if got, err := m.sys.String(fmt.Sprintf("sys/class/iscsi_session/session%d/max_burst_len", rec.Session)); err != nil || got != "65536" {
		t.Errorf("max_burst_len: %q, %v", got, err)
	}
	f := m.disk(rec, 0)
	if _, err := f.WriteAt(page(t, 'd'), 0); err != nil {
		t.Error(err)
	}
	f.Close()
	if err := m.kernel.Logout(m.within(), rec); err != nil {
		t.Fatal(err)
	}
	m.noSessions()
}

func (m *machine) chap(t *testing.T) {
	m = m.sub(t)
	c := m.config(guarded, "127.0.0.1", 0)
	for _, tc := range []struct{ name, secret, mutual, want string }{
		{"one way", "twelve bytes at least", "", ""},
		{"both ways", "twelve bytes at least", "another dozen bytes", ""},
		{"a wrong secret", "not this one, my friend", "", "ISCSI-AUTH"},
		{"a wrong mutual secret", "twelve bytes at least", "not this one, my friend", "ISCSI-MUTUAL"},
		{"none", "", "", "ISCSI-CLOSED"}, // LIO says nothing
	} {
		for _, algorithm := range []string{"md5", "sha1", "sha256", "sha3-256"} {
			var who *iscsi.CHAP
			if tc.secret != "" {
				who = &iscsi.CHAP{User: "host", Secret: secrettest.Buffer(t, tc.secret), MutualUser: "store", Algorithms: []string{algorithm}}
				if tc.mutual != "" {
					who.Mutual = secrettest.Buffer(t, tc.mutual)
				}
			}
			rec, err := m.kernel.Login(m.within(), c, who, nil)
			if err == nil {
				err = m.kernel.Logout(m.within(), rec)
			}
			if got := ""; err != nil && code(err) != tc.want || err == nil && tc.want != got {
				t.Errorf("%s, %s: got %v, want %q", tc.name, algorithm, err, tc.want)
			}
			if tc.secret == "" || tc.want != "" {
				break
			}
		}
	}
	m.noSessions()
}

func (m *machine) refusals(t *testing.T) {
	m = m.sub(t)
	stranger := m.config(guarded, "127.0.0.1")
	stranger.Initiator = "iqn.2026-01.net.example:stranger"
	for name, tc := range map[string]struct {
		c    iscsi.Config
		want string
	}{
		"a name that LIO does not know": {m.config("iqn.2026-01.net.example:none", "127.0.0.1"), "ISCSI-UNAVAILABLE"},
		"a target that is off":          {m.config(off, "127.0.0.1:3261"), "ISCSI-UNAVAILABLE"},
		"a stranger":                    {stranger, "ISCSI-FORBIDDEN"},
		"nobody listens":                {m.config(plain, "127.0.0.1:1"), "ISCSI-DIAL"},
	} {
		_, err := m.kernel.Login(m.within(), tc.c, nil, nil)
		if code(err) != tc.want {
			t.Errorf("%s: %s, want %s: %v", name, code(err), tc.want, err)
		}
	}
	m.noSessions()
}

// types logs in to a LUN of other types, for which no disk ever comes, and to all LUNs, which is no error.
func (m *machine) types(t *testing.T) {
	m = m.sub(t)
	for kind, want := range map[string]string{"1": "a tape", "5": "a CD or DVD drive", "8": "a medium changer", "30": "a well-known logical unit"} {
		if err := os.WriteFile(debugDevices+"/ptype", []byte(kind), 0); err != nil { // all devices of the module are of this type then
			t.Fatal(err)
		}
		rec, err := m.kernel.Login(m.within(), m.config(others, "127.0.0.1:3262", 3), nil, nil)
		if code(err) != "ISCSI-NO-LUN" || !strings.Contains(err.Error(), "LUN 3 of "+others+" is "+want+", not a disk") {
			t.Errorf("type %s: %v, want %q", kind, err, want)
		}
		if err := m.kernel.Logout(m.within(), rec); err != nil {
			t.Fatal(err)
		}
	}
	c := m.config(others, "127.0.0.1:3262")
	c.AllLUNs = true
	rec, err := m.kernel.Login(m.within(), c, nil, nil)
	if err != nil {
		t.Errorf("all LUNs: %v", err)
	}
	if err := m.kernel.Logout(m.within(), rec); err != nil {
		t.Fatal(err)
	}
	m.noSessions()
}
