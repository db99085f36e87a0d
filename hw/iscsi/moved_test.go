package iscsi

import (
	"errors"
	"io/fs"
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"initd/hw/iscsi/iscsitest"
)

// scriptedPortal is a scripted target's.
func scriptedPortal(t *testing.T, script iscsitest.Script) Portal {
	t.Helper()
	s, err := iscsitest.Start("127.0.0.1:0", script)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	p, err := ParsePortal(s.Address())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// deaf is a portal at which nobody listens any more.
func deaf(t *testing.T) Portal {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParsePortal(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	return p
}

func TestOnlyARedirectionForGoodIsRemembered(t *testing.T) {
	there := scriptedPortal(t, iscsitest.Script{})
	to := func(p Portal, permanent bool) Portal {
		return scriptedPortal(t, iscsitest.Script{Redirect: p.Address() + ",1", Permanent: permanent})
	}
	middle := to(there, false)
	for _, row := range []struct {
		name string
		at   Portal
		want string
	}{
		{"it is where it should be", there, ""},
		{"for now", to(there, false), ""},
		{"for good", to(there, true), there.Address()},
		{"for good, and for good from there", to(to(there, true), true), there.Address()},
		{"for good, and for now from there", to(middle, true), middle.Address()},
		{"for now, and for good from there", to(to(there, true), false), ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			c, err := Config{Target: "iqn.2026-01.net.example:t1", Initiator: testInitiator, Portal: row.at}.filled()
			if err != nil {
				t.Fatal(err)
			}
			conn, result, err := loginAt(t.Context(), c, NewISID(), nil)
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
			got := ""
			if result.moved != nil {
				got = result.moved.Address()
			}
			if got != row.want {
				t.Errorf("moved to %q, want %q", got, row.want)
			}
		})
	}
}

func TestATargetThatMovedForGoodIsLookedForThereFirst(t *testing.T) {
	alive, other := scriptedPortal(t, iscsitest.Script{}), scriptedPortal(t, iscsitest.Script{})
	for _, row := range []struct {
		name           string
		portal         Portal
		moved          *Portal
		want           Portal // where the attempt of a recovery begins
		knocked        bool
		connectedTwice bool
	}{
		{"it never moved", alive, nil, alive, true, false},
		{"it has moved", other, &alive, alive, true, false},
		{"it is back", alive, new(deaf(t)), alive, true, true},
		{"it is nowhere", deaf(t), nil, Portal{}, false, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			rec := Record{Session: 1, ISID: "80aabbccddee", Moved: row.moved, Config: Config{Target: "iqn.2026-01.net.example:t1", Initiator: testInitiator, Portal: row.portal}}
			now, err := (&Supervisor{}).knock(t.Context(), rec)
			if (err == nil) != row.knocked || row.knocked && now.place() != row.want {
				t.Errorf("knocked: it is looked for at %v, %v", now.place(), err)
			}
			k, s := newScriptedKernel(t, func(typ uint32) int32 {
				switch typ {
				case reqSendPDU: // it is not up
					return -int32(unix.ENOTCONN)
				case reqBindConn: // a connection is there
					return -int32(unix.EIO)
				}
				return 0
			})
			err = k.Recover(t.Context(), rec, nil, false)
			if got := errors.Is(err, unix.EIO); got != row.knocked {
				t.Errorf("recovery: %v", err)
			}
			want := []uint32{reqSendPDU, reqStopConn}
			if row.connectedTwice {
				want = append(want, reqStopConn, reqStopConn)
			}
			if row.knocked {
				want = append(want, reqBindConn)
			}
			if diff := cmp.Diff(append(want, reqStopConn), s.requests(t, k)); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhereATargetMovedIsKeptWithItsRecord(t *testing.T) {
	r := RecordsAt(t.TempDir())
	rec := Record{Session: 1, ISID: "80aabbccddee", Unit: "iscsi-path/disks/192.0.2.50:3260"}
	if err := r.Write(rec); err != nil {
		t.Fatal(err)
	}
	k := &Kernel{moved: r.update}
	to := &Portal{Host: "192.0.2.51", Port: 3260, Tag: 1}
	if err := errors.Join(k.noteMoved(rec, nil), k.noteMoved(rec, to)); err != nil {
		t.Fatal(err)
	}
	got, err := r.Read(rec.ISID)
	rec.Moved, rec.Version = to, got.Version
	if diff := cmp.Diff(rec, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if err := r.Remove(rec.ISID); err != nil {
		t.Fatal(err)
	}
	if err := k.noteMoved(rec, to); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(rec.ISID); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a session that was forgotten is remembered: %v", err)
	}
}
