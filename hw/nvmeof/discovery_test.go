package nvmeof

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// page writes a log as a target does.
func page(generation uint64, entries ...LogEntry) []byte {
	b := make([]byte, recordSize)
	binary.LittleEndian.PutUint64(b, generation)
	binary.LittleEndian.PutUint64(b[8:], uint64(len(entries)))
	for _, e := range entries {
		r := make([]byte, recordSize)
		r[0] = map[string]byte{"rdma": 1, "fc": 2, "tcp": 3, "loop": 254}[e.Transport]
		r[2] = map[string]byte{KindReferral: 1, KindNVM: 2, KindSelf: 3}[e.Kind]
		binary.LittleEndian.PutUint16(r[4:], uint16(e.PortID))
		binary.LittleEndian.PutUint16(r[6:], uint16(e.CntlID))
		binary.LittleEndian.PutUint16(r[8:], uint16(e.MaxQueue))
		if e.Same {
			r[10] = 1
		}
		copy(r[32:64], e.Service+strings.Repeat(" ", 32))
		copy(r[256:], e.NQN)
		copy(r[512:768], e.Address+strings.Repeat(" ", 256))
		if e.TLS != "" {
			r[768] = 2
		}
		b = append(b, r...)
	}
	return b
}

func reader(p []byte) LogReader {
	return func(offset uint64, into []byte) error {
		if offset+uint64(len(into)) > uint64(len(p)) {
			return errors.New("beyond the end")
		}
		copy(into, p[offset:])
		return nil
	}
}

func entry(nqn, addr string) LogEntry {
	a := netip.MustParseAddrPort(addr)
	return LogEntry{Kind: KindNVM, Transport: "tcp", NQN: nqn, Address: a.Addr().String(), Service: "4420", PortID: 1, CntlID: 0xffff, MaxQueue: 32}
}

func TestALogIsReadWhole(t *testing.T) {
	var want []LogEntry
	for _, n := range []string{"a", "b", "c", "d", "e", "f"} { // more than one transfer
		want = append(want, entry("nqn.x:"+n, "192.0.2.40:4420"))
	}
	want[2].Kind, want[3].TLS, want[4].Same = KindReferral, "tls13", true
	l, err := ReadLog(reader(page(7, want...)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Log{Generation: 7, Entries: want}, l); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestALogThatChangesIsReadAnew(t *testing.T) {
	old, now := page(1, entry("nqn.x:old", "192.0.2.40:4420")), page(2, entry("nqn.x:a", "192.0.2.40:4420"), entry("nqn.x:b", "192.0.2.40:4420"))
	reads := 0
	l, err := ReadLog(func(offset uint64, p []byte) error {
		if reads++; reads <= 2 { // the header and the entry; then it changes
			return reader(old)(offset, p)
		}
		return reader(now)(offset, p)
	})
	if err != nil || l.Generation != 2 || len(l.Entries) != 2 || reads != 6 {
		t.Errorf("got %+v, %v after %d reads", l, err, reads)
	}
	generation := uint64(0)
	_, err = ReadLog(func(offset uint64, p []byte) error {
		generation++
		return reader(page(generation))(offset, p)
	})
	if !errors.Is(err, errChanged) || generation > 2*maxRereads {
		t.Errorf("a log that never rests: %v after %d reads", err, generation)
	}
}

func TestALogThatShrinksInMidReadingIsReadAnew(t *testing.T) {
	var many []LogEntry
	for _, n := range []string{"a", "b", "c", "d", "e", "f"} {
		many = append(many, entry("nqn.x:"+n, "192.0.2.40:4420"))
	}
	reads := 0
	l, err := ReadLog(func(offset uint64, p []byte) error {
		if reads++; reads <= 2 { // the header and the first entries; the rest is refused then
			return reader(page(1, many...))(offset, p)
		}
		return reader(page(2, many[0]))(offset, p)
	})
	if err != nil || l.Generation != 2 || len(l.Entries) != 1 {
		t.Errorf("got %+v, %v", l, err)
	}
}

func TestADiscoveryControllerIsAskedByTheNameOfAll(t *testing.T) {
	e := LogEntry{Kind: KindReferral, Transport: "tcp", NQN: "nqn.2014-08.org.nvmexpress:uuid:550e8400-e29b-41d4-a716-446655440001", Address: "192.0.2.1", Service: "8009"}
	to, err := e.Target()
	if err != nil || !to.Discovery() {
		t.Errorf("got %v, %v", to, err)
	}
	e.Kind = KindNVM
	if to, err = e.Target(); err != nil || to.Discovery() {
		t.Errorf("a subsystem: got %v, %v", to, err)
	}
}

func TestALogThatCannotBe(t *testing.T) {
	endless := page(1)
	binary.LittleEndian.PutUint64(endless[8:], 1<<40)
	other := page(1)
	other[16] = 9
	for name, p := range map[string][]byte{"more entries than anybody has": endless, "a format of the future": other, "shorter than it says": page(1, entry("nqn.x", "192.0.2.1:1"))[:1500]} {
		if l, err := ReadLog(reader(p)); err == nil {
			t.Errorf("%s: read as %+v", name, l)
		}
	}
}

func FuzzDiscoveryLog(f *testing.F) {
	f.Add(page(7, entry("nqn.x:a", "192.0.2.40:4420"), LogEntry{Kind: KindReferral, Transport: "rdma", NQN: DiscoveryNQN}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, p []byte) {
		l, err := ReadLog(reader(p))
		if err != nil {
			return
		}
		if len(l.Entries) > len(p)/recordSize {
			t.Errorf("%d entries of %d bytes", len(l.Entries), len(p))
		}
		for _, e := range l.Entries {
			if strings.ContainsFunc(e.NQN+e.Address+e.Service, func(r rune) bool { return r < ' ' }) {
				t.Errorf("%+v would confuse a terminal", e)
			}
			if to, err := e.Target(); err == nil {
				if _, err := (Request{Target: to, Host: host()}).encode(); err != nil {
					t.Errorf("%v is a target, and cannot be told to the kernel: %v", to, err)
				}
			}
		}
	})
}

func TestReferralsAreFollowedOnce(t *testing.T) {
	at := func(n string) Target { return target(DiscoveryNQN, "192.0.2."+n+":8009") }
	refer := func(n string) LogEntry {
		return LogEntry{Kind: KindReferral, Transport: "tcp", NQN: DiscoveryNQN, Address: "192.0.2." + n, Service: "8009"}
	}
	logs := map[string]Log{
		"192.0.2.1:8009": {Entries: []LogEntry{entry("nqn.x:a", "192.0.2.40:4420"), refer("2"), refer("1"), refer("9")}},
		"192.0.2.2:8009": {Entries: []LogEntry{entry("nqn.x:b", "192.0.2.40:4420"), refer("1"), entry("nqn.x:a", "192.0.2.40:4420"), {Kind: KindNVM, Transport: "rdma", NQN: "nqn.x:c", Address: "192.0.2.40"}}},
	}
	d := &Discoverer{Referrals: true, Look: func(_ context.Context, to Target, _ Options) error {
		if _, ok := logs[to.Addr.String()]; !ok {
			return &ConnectError{Target: to, Reason: Refused}
		}
		return nil
	}, Ask: func(_ context.Context, r Request) (Log, error) { return logs[r.Addr.String()], nil }}
	found := d.Run(t.Context(), []Target{at("1")})
	var asked []string
	for _, f := range found {
		asked = append(asked, f.Portal.String()+" via "+f.Via.String())
	}
	want := []string{"192.0.2.1:8009 via invalid AddrPort", "192.0.2.2:8009 via 192.0.2.1:8009", "192.0.2.9:8009 via 192.0.2.1:8009"}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	list, problems := Subsystems(found, Target{})
	if diff := cmp.Diff([]Target{target("nqn.x:a", "192.0.2.40:4420"), target("nqn.x:b", "192.0.2.40:4420")}, list, cmpopts.EquateComparable(netip.AddrPort{}, netip.Addr{})); diff != "" {
		t.Errorf("subsystems (-want +got):\n%s", diff)
	}
	if len(problems) != 1 || !strings.Contains(problems[0], "rdma is not built") {
		t.Errorf("problems: %q", problems)
	}
	if d.Referrals = false; len(d.Run(t.Context(), []Target{at("1"), at("1")})) != 1 {
		t.Error("a portal named twice was asked twice, or a referral was followed")
	}
}

func TestAdminCommandHasTheKernelsSize(t *testing.T) {
	if sizeOfAdminCommand != ioctlAdmin>>16&0x3fff {
		t.Errorf("it has %d bytes", sizeOfAdminCommand)
	}
}

func FuzzICResp(f *testing.F) {
	ok := make([]byte, icLength)
	ok[0], ok[2], ok[4] = pduICResp, icLength, icLength
	f.Add(ok)
	f.Add(icReq(true, true))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := parseICResp(b); err == nil && (len(b) < icLength || !bytes.Equal(b[:3], []byte{pduICResp, b[1], icLength})) {
			t.Errorf("%x was taken for an answer", b)
		}
	})
}
