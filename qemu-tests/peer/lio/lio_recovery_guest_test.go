//go:build guest

package lio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"initd/hw/iscsi"
	"initd/hw/iscsi/iscsitest"
)

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

// readInPart: the connection is lost after a disk was found, before its size was read, for longer than I/O waits.
func (m *machine) readInPart(t *testing.T) {
	m = m.sub(t)
	ctx := m.within()
	c := m.config(plain, overRelay, 0)
	c.Timing.Recovery = new(int32(1))
	const readCapacity16 = "9e" // SERVICE ACTION IN(16), SBC-3, 5.16
	cut, mend := Change{Do: "cut-at", Portal: overRelay, Value: readCapacity16}, Change{Do: "mend", Portal: overRelay}

	if err := m.lio.Change(cut); err != nil {
		t.Fatal(err)
	}
	_, err := m.kernel.Login(ctx, c, nil, nil)
	if code(err) != "ISCSI-CLOSED" || !strings.Contains(err.Error(), "the connection was lost while the disks were looked at") {
		t.Errorf("a login whose disk is read in part: %s", code(err))
	}
	m.noSessions()

	// a session that stays: what the kernel could not read it is to read again
	if err := m.lio.Change(mend); err != nil {
		t.Fatal(err)
	}
	bare := c
	bare.LUNs = nil
	rec, err := m.kernel.Login(ctx, bare, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	rec.Config.LUNs = c.LUNs
	if err := m.lio.Change(cut); err != nil {
		t.Fatal(err)
	}
	if err := m.kernel.Scan(ctx, rec); code(err) != "ISCSI-CLOSED" {
		t.Errorf("a scan whose disk is read in part: %s", code(err))
	}
	if err := errors.Join(m.lio.Change(mend), m.kernel.Recover(ctx, rec, nil, false)); err != nil {
		t.Fatal(err)
	}
	for { // the kernel lets I/O through a moment after the session is up
		err := m.kernel.Scan(ctx, rec)
		if err == nil {
			break
		}
		if code(err) != "ISCSI-NO-LUN" || !strings.Contains(err.Error(), "LUN 0 of "+plain+" is a disk whose size cannot be read") || ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	f := m.disk(rec, 0)
	if n, err := f.Seek(0, io.SeekEnd); n != 8<<20 || err != nil {
		t.Errorf("the disk has %d bytes, %v", n, err)
	}
	f.Close()
	if err := m.kernel.Logout(ctx, rec); err != nil {
		t.Fatal(err)
	}
	m.noSessions()
}

// movedForGood: a portal says once that the target has moved for good, and is never there again.
func (m *machine) movedForGood(t *testing.T) {
	m = m.sub(t)
	ctx := m.within()
	events, err := iscsi.Listen(ctx)
	if err != nil {
		t.Fatal(err)
	}
	c := m.config(plain, "127.0.0.1", 0)
	gone, err := iscsitest.Start("127.0.0.1:0", iscsitest.Script{Redirect: c.Portal.Address() + ",1", Permanent: true})
	if err != nil {
		t.Fatal(err)
	}
	if c.Portal, err = iscsi.ParsePortal(gone.Address()); err != nil {
		t.Fatal(err)
	}
	rec, err := m.kernel.Login(ctx, c, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	if s, err := iscsi.ReadSession(m.sys, rec.Session); err != nil || s.Portal != c.Portal.Address() {
		t.Errorf("its portal is %s, %v; want that of the file, %s", s.Portal, err, c.Portal.Address())
	}
	if err := errors.Join(m.lio.Change(Change{Do: "off", Target: plain}), m.lio.Change(Change{Do: "on", Target: plain})); err != nil {
		t.Fatal(err)
	}
	m.told(events, rec)
	if err := m.kernel.Recover(ctx, rec, nil, false); err != nil {
		t.Error(err)
	}
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
