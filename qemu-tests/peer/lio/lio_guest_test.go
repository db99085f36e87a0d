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
	"sync"
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

// told waits until the kernel says that a session's connection failed. It shows it a moment later.
func (m *machine) told(events <-chan iscsi.Event, rec iscsi.Record) {
	m.Helper()
	for e := range events {
		if e.Kind == iscsi.Lost && e.Session == rec.Session {
			return
		}
	}
	m.Fatal("the loss was not told")
}

// shown waits until sysfs says so too: a work of the kernel's changes the state, without an event (iscsi_conn_error_event,
// drivers/scsi/scsi_transport_iscsi.c).
func (m *machine) shown(events <-chan iscsi.Event, rec iscsi.Record) {
	m.Helper()
	m.told(events, rec)
	for end := time.Now().Add(guard); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if s, err := iscsi.ReadSession(m.sys, rec.Session); err != nil || !s.LoggedIn() {
			return
		}
	}
	m.Fatal("the loss was told, and the session is said to be up")
}

// port is where a session's connection comes from: another one with each connection.
func (m *machine) port(rec iscsi.Record) string {
	m.Helper()
	text, err := m.sys.String(fmt.Sprintf("sys/class/iscsi_connection/connection%d:0/local_port", rec.Session))
	if err != nil {
		m.Fatal(err)
	}
	return text
}

// watched is a session, and what the kernel tells of it.
func (m *machine) watched(ctx context.Context) (<-chan iscsi.Event, iscsi.Record) {
	m.Helper()
	events, err := iscsi.Listen(ctx)
	if err != nil {
		m.Fatal(err)
	}
	rec, err := m.kernel.Login(ctx, m.config(plain, "127.0.0.1", 0), nil, nil)
	if err != nil {
		m.Fatal(err)
	}
	return events, rec
}

func (m *machine) recovers(t *testing.T) {
	m = m.sub(t)
	ctx := m.within()
	events, rec := m.watched(ctx)
	before := m.port(rec)
	if err := m.kernel.Recover(ctx, rec, nil, false); err != nil || m.port(rec) != before {
		t.Errorf("recovery of a session that is up: %v; from port %s, then from %s", err, before, m.port(rec))
	}
	f := m.disk(rec, 0)
	for round := range 2 {
		if err := m.lio.Change(Change{Do: "off", Target: plain}); err != nil {
			t.Fatal(err)
		}
		m.told(events, rec) // at once, whatever is shown yet
		wrote := make(chan error, 1)
		go func() {
			_, err := f.WriteAt(page(t, byte('r'+round)), 4096)
			wrote <- err
		}()
		if err := m.kernel.Recover(ctx, rec, nil, false); code(err) != "ISCSI-UNAVAILABLE" && code(err) != "ISCSI-DIAL" {
			t.Errorf("recovery while the target is off: %v", err)
		}
		select {
		case err := <-wrote:
			t.Fatalf("a write ended while the target was off: %v", err)
		default:
		}
		if err := m.lio.Change(Change{Do: "on", Target: plain}); err != nil {
			t.Fatal(err)
		}
		if err := m.kernel.Recover(ctx, rec, nil, false); err != nil {
			t.Fatal(err)
		}
		if err := <-wrote; err != nil {
			t.Fatalf("the write that waited: %v", err)
		}
		got := page(t, 0)
		if _, err := f.ReadAt(got, 4096); err != nil || got[0] != byte('r'+round) {
			t.Errorf("read %q, %v", got[:1], err)
		}
	}
	s, err := iscsi.ReadSession(m.sys, rec.Session)
	if err != nil || !s.LoggedIn() {
		t.Errorf("%+v, %v", s, err)
	}
	// asked to log out, it is back as the same session
	if err := m.kernel.Recover(ctx, rec, nil, true); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadAt(page(t, 0), 4096); err != nil {
		t.Error(err)
	}
	f.Close()
	if err := m.kernel.Logout(ctx, rec); err != nil {
		t.Fatal(err)
	}
	m.noSessions()
}

func (m *machine) dead(t *testing.T) {
	m = m.sub(t)
	ctx := m.within()
	events, rec := m.watched(ctx)
	f := m.disk(rec, 0)
	if err := m.lio.Change(Change{Do: "off", Target: plain}); err != nil {
		t.Fatal(err)
	}
	m.shown(events, rec)
	wrote := make(chan error, 1)
	go func() {
		_, err := f.WriteAt(page(t, 'x'), 4096)
		f.Close()
		wrote <- err
	}()
	if err := m.kernel.Logout(ctx, rec); err != nil {
		t.Fatal(err)
	}
	if err := <-wrote; err == nil {
		t.Error("a write to a dead target succeeded")
	}
	if err := m.lio.Change(Change{Do: "on", Target: plain}); err != nil {
		t.Fatal(err)
	}
	m.noSessions()
}

func (m *machine) many(t *testing.T) {
	m = m.sub(t)
	ctx := m.within()
	records := make([]iscsi.Record, 16)
	errs := make([]error, len(records))
	var wg sync.WaitGroup
	for i := range records {
		wg.Go(func() {
			c := m.config(fmt.Sprintf("iqn.2026-01.net.example:many%d", i), fmt.Sprintf("127.0.0.1:%d", 3300+i), 0)
			records[i], errs[i] = m.kernel.Login(ctx, c, nil, nil)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	list, err := iscsi.Sessions(m.sys)
	if err != nil || len(list) != len(records) {
		t.Errorf("%d sessions, %v", len(list), err)
	}
	for i, rec := range records {
		wg.Go(func() { errs[i] = m.kernel.Logout(ctx, rec) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	m.noSessions()
}
