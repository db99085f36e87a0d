package iscsi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"initd/hw/iscsi/iscsitest"
)

const testInitiator = "iqn.2026-01.net.example:host"

// wanted is long enough for any answer on a busy machine.
const wanted = 30 * time.Second

// discover asks a scripted server.
func discover(t testing.TB, s iscsitest.Script, change func(*Discovery)) ([]Target, *iscsitest.Server, error) {
	t.Helper()
	srv, err := iscsitest.Start("127.0.0.1:0", s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	portal, err := ParsePortal(srv.Address())
	if err != nil {
		t.Fatal(err)
	}
	d := Discovery{Portal: portal, Initiator: testInitiator}
	if change != nil {
		change(&d)
	}
	ctx, cancel := context.WithTimeout(t.Context(), wanted)
	defer cancel()
	list, err := d.Run(ctx)
	return list, srv, err
}

const twoTargets = "TargetName=iqn.2026-01.net.example:a\x00TargetAddress=192.0.2.1:3260,1\x00TargetAddress=[2001:db8::1]:3261,2\x00" +
	"TargetName=iqn.2026-01.net.example:b\x00TargetAddress=portal.example,7\x00"

func TestTargetsAreListedWithTheirPortals(t *testing.T) {
	want := []Target{
		{Name: "iqn.2026-01.net.example:a", Portals: []Portal{{"192.0.2.1", 3260, 1}, {"2001:db8::1", 3261, 2}}},
		{Name: "iqn.2026-01.net.example:b", Portals: []Portal{{"portal.example", 3260, 7}}},
	}
	for _, tc := range []struct {
		name   string
		script iscsitest.Script
		change func(*Discovery)
	}{
		{name: "in one PDU"},
		{name: "in parts by the C bit", script: iscsitest.Script{Chunk: 11, ByCBit: true}},
		{name: "in parts by the transfer tag alone", script: iscsitest.Script{Chunk: 50}},
		{name: "with a login in parts of seven bytes", script: iscsitest.Script{Split: 7}},
		{name: "with a ping in between", script: iscsitest.Script{Ping: true}},
		{name: "byte by byte", script: iscsitest.Script{ByteEvery: time.Microsecond}},
		{name: "with proposals of the target", script: iscsitest.Script{Propose: "MaxBurstLength=512\x00X-com.example=1\x00"}},
		{name: "with digests", change: func(d *Discovery) { d.Digests = true }},
		{name: "with digests and parts", script: iscsitest.Script{Chunk: 13}, change: func(d *Discovery) { d.Digests = true }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.script.Targets = twoTargets
			got, _, err := discover(t, tc.script, tc.change)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestATargetWithoutAnAddressIsAtThePortalThatWasAsked(t *testing.T) {
	got, srv, err := discover(t, iscsitest.Script{Targets: "TargetName=iqn.2026-01.net.example:a\x00"}, nil)
	if err != nil || len(got) != 1 || len(got[0].Portals) != 1 || got[0].Portals[0].Address() != srv.Address() {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestNoTargetsIsAnEmptyList(t *testing.T) {
	got, _, err := discover(t, iscsitest.Script{}, nil)
	if err != nil || got == nil || len(got) != 0 {
		t.Errorf("got %#v, %v", got, err)
	}
}

func TestRedirectionsAreFollowedAndBounded(t *testing.T) {
	there, err := iscsitest.Start("127.0.0.1:0", iscsitest.Script{Targets: twoTargets})
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	for _, permanent := range []bool{false, true} {
		got, _, err := discover(t, iscsitest.Script{Redirect: there.Address() + ",1", Permanent: permanent}, nil)
		if err != nil || len(got) != 2 {
			t.Errorf("permanent %v: got %+v, %v", permanent, got, err)
		}
	}
	loop, err := iscsitest.Start("127.0.0.1:0", iscsitest.Script{})
	if err != nil {
		t.Fatal(err)
	}
	address := loop.Address()
	loop.Close()
	loop, err = iscsitest.Start(address, iscsitest.Script{Redirect: address})
	if err != nil {
		t.Fatal(err)
	}
	defer loop.Close()
	_, _, err = discover(t, iscsitest.Script{Redirect: address}, nil)
	if code(err) != "ISCSI-PROTOCOL" || len(loop.Requests()) != maxRedirects {
		t.Errorf("a ring of redirections: %v after %d logins", err, len(loop.Requests()))
	}
}

func code(err error) string {
	if c := (interface{ Code() string })(nil); errors.As(err, &c) {
		return c.Code()
	}
	return fmt.Sprintf("none (%v)", err)
}

func TestWhatGoesWrongAtAPortalHasACode(t *testing.T) {
	reply := func(change func(*pdu)) []byte {
		p := &pdu{}
		p.header[0] = opLoginReply
		change(p)
		return p.encode(digests{})
	}
	for _, tc := range []struct {
		name   string
		script iscsitest.Script
		want   string
	}{
		{"it wants CHAP", iscsitest.Script{CHAP: &iscsitest.CHAP{}}, "ISCSI-AUTH"},
		{"access is forbidden", iscsitest.Script{Status: 0x0202}, "ISCSI-FORBIDDEN"},
		{"there is no such target", iscsitest.Script{Status: 0x0203}, "ISCSI-NOT-FOUND"},
		{"the target is gone", iscsitest.Script{Status: 0x0204}, "ISCSI-REMOVED"},
		{"there are too many connections", iscsitest.Script{Status: 0x0206}, "ISCSI-TOO-MANY"},
		{"a key is missing", iscsitest.Script{Status: 0x0207}, "ISCSI-PARAMETER"},
		{"another initiator's error", iscsitest.Script{Status: 0x0242}, "ISCSI-REFUSED"},
		{"the target is off", iscsitest.Script{Status: 0x0301}, "ISCSI-UNAVAILABLE"},
		{"it is out of resources", iscsitest.Script{Status: 0x0302}, "ISCSI-TOO-MANY"},
		{"a class that does not exist", iscsitest.Script{Status: 0x0900}, "ISCSI-PROTOCOL"},
		{"a redirection to nothing", iscsitest.Script{Redirect: ":::"}, "ISCSI-PROTOCOL"},
		{"it ends the connection at once", iscsitest.Script{CloseAt: 1}, "ISCSI-CLOSED"},
		{"it ends the connection before the list", iscsitest.Script{CloseAt: 3}, "ISCSI-CLOSED"},
		{"half a header and no more", iscsitest.Script{Raw: reply(func(*pdu) {})[:20], HangUp: true}, "ISCSI-CLOSED"},
		{"a web server", iscsitest.Script{Raw: []byte("HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n" + strings.Repeat("x", 200))}, "ISCSI-PROTOCOL"},
		{"16 MiB in a login", iscsitest.Script{Raw: reply(func(p *pdu) { p.header[5] = 0xff })}, "ISCSI-PROTOCOL"},
		{"a reject", iscsitest.Script{Raw: reply(func(p *pdu) { p.header[0] = opReject })}, "ISCSI-PROTOCOL"},
		{"another session's answer", iscsitest.Script{WrongISID: true}, "ISCSI-PROTOCOL"},
		{"another stage", iscsitest.Script{Stage: 1}, "ISCSI-PROTOCOL"},
		{"no session handle", iscsitest.Script{NoTSIH: true}, "ISCSI-PROTOCOL"},
		{"a digest that was not offered", iscsitest.Script{Replace: map[string]string{"HeaderDigest": "CRC32C"}}, "ISCSI-PROTOCOL"},
		{"a rejected key", iscsitest.Script{Replace: map[string]string{"DataDigest": "Reject"}}, "ISCSI-PARAMETER"},
		{"a length that is none", iscsitest.Script{Replace: map[string]string{"MaxRecvDataSegmentLength": "12"}}, "ISCSI-PROTOCOL"},
		{"a key twice", iscsitest.Script{Extra: "ErrorRecoveryLevel=0\x00"}, "ISCSI-PROTOCOL"},
		{"a list without end", iscsitest.Script{Endless: true}, "ISCSI-PROTOCOL"},
		{"an address before a target", iscsitest.Script{Targets: "TargetAddress=1.2.3.4\x00"}, "ISCSI-PROTOCOL"},
		{"a name with a space", iscsitest.Script{Targets: "TargetName=a b\x00"}, "ISCSI-PROTOCOL"},
		{"a text that is none", iscsitest.Script{Targets: "\xff\xfe"}, "ISCSI-PROTOCOL"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, srv, err := discover(t, tc.script, nil)
			if code(err) != tc.want {
				t.Fatalf("code %s, want %s: %v", code(err), tc.want, err)
			}
			if !strings.Contains(err.Error(), srv.Address()) || strings.ContainsAny(err.Error(), "\n\x00") {
				t.Errorf("the error does not name the portal in one line: %q", err)
			}
		})
	}
}

func TestASilentPortalAndADeadlineGiveATimeout(t *testing.T) {
	for name, script := range map[string]iscsitest.Script{
		"no answer at all": {Silent: true},
		"one byte an hour": {ByteEvery: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			srv, err := iscsitest.Start("127.0.0.1:0", script)
			if err != nil {
				t.Fatal(err)
			}
			defer srv.Close()
			p, err := ParsePortal(srv.Address())
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			_, err = Discovery{Portal: p, Initiator: testInitiator}.Run(ctx)
			if code(err) != "ISCSI-TIMEOUT" || !strings.Contains(err.Error(), "no answer in time") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestARefusingPortalAndAnUnknownName(t *testing.T) {
	srv, err := iscsitest.Start("127.0.0.1:0", iscsitest.Script{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParsePortal(srv.Address())
	if err != nil {
		t.Fatal(err)
	}
	srv.Close()
	_, err = Discovery{Portal: p, Initiator: testInitiator}.Run(t.Context())
	if code(err) != "ISCSI-DIAL" || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("got %v", err)
	}
}

func TestPortalsAreReadAsPeopleWriteThem(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1":           "192.0.2.1:3260",
		"192.0.2.1:860":       "192.0.2.1:860",
		"2001:db8::1":         "[2001:db8::1]:3260",
		"[2001:db8::1]":       "[2001:db8::1]:3260",
		"[2001:DB8::1]:3261":  "[2001:db8::1]:3261",
		"fe80::1%eth0":        "[fe80::1%eth0]:3260",
		"store.example":       "store.example:3260",
		"store_1.example:1":   "store_1.example:1",
		"":                    "",
		":3260":               "",
		"a b":                 "",
		"192.0.2.1:0":         "",
		"192.0.2.1:65536":     "",
		"192.0.2.1:-1":        "",
		"192.0.2.300":         "",
		"192.0.2.1:3260:3260": "",
		"[192.0.2.1]:3260":    "",
		"[store]:3260":        "",
		"..":                  "",
		"iscsi://a":           "",
	} {
		p, err := ParsePortal(in)
		got := ""
		if err == nil {
			got = p.Address()
		}
		if got != want {
			t.Errorf("%q: got %q (%v), want %q", in, got, err, want)
		}
	}
}

// FuzzTargets reads answers to SendTargets.
func FuzzTargets(f *testing.F) {
	f.Add([]byte(twoTargets))
	f.Add([]byte("TargetName=iqn.2026-01.net.example:a\x00TargetAddress=[fe80::1%eth0]:3260,1\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := parseTargets(b, Portal{Host: "192.0.2.1", Port: 3260, Tag: -1})
		if err != nil {
			return
		}
		for _, target := range list {
			if target.Name == "" || len(target.Portals) == 0 {
				t.Fatalf("half a target: %+v", target)
			}
			for _, p := range target.Portals {
				again, err := ParsePortal(p.Address())
				if err != nil || again.Address() != p.Address() {
					t.Fatalf("%q is not read again: %v", p.Address(), err)
				}
			}
		}
	})
}

// FuzzPDU reads PDUs; what was read is written as it came.
func FuzzPDU(f *testing.F) {
	m, err := newMachine(request{initiator: testInitiator, isid: NewISID()})
	if err != nil {
		f.Fatal(err)
	}
	answer := m.first()
	answer.header[0] = opLoginReply
	f.Add(answer.encode(digests{}), false, false)
	f.Add(answer.encode(digests{true, true}), true, true)
	f.Fuzz(func(t *testing.T, b []byte, header, data bool) {
		d := digests{header, data}
		r := bytes.NewReader(b)
		p, err := readPDU(r, maxLoginData, d)
		if err != nil {
			return
		}
		if len(p.data) > maxLoginData || len(p.data) != p.dataLength() {
			t.Fatalf("%d bytes of data, the header says %d", len(p.data), p.dataLength())
		}
		if p.header[4] != 0 {
			return // additional segments are left out
		}
		again, err := readPDU(bytes.NewReader(p.encode(d)), maxLoginData, d)
		if err != nil || again.header != p.header || !bytes.Equal(again.data, p.data) {
			t.Fatalf("%x is read as %x, %v", p.encode(d), again, err)
		}
	})
}

// FuzzText reads texts; what was read is written and read again.
func FuzzText(f *testing.F) {
	f.Add([]byte("HeaderDigest=None\x00X-com.example.a=\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := parseText(b, maxPairs)
		if err != nil {
			return
		}
		again, err := parseText(encodeText(list), maxPairs)
		if err != nil || !cmp.Equal(list, again, cmp.AllowUnexported(pair{})) {
			t.Fatalf("%q is read again as %q, %v", list, again, err)
		}
	})
}
