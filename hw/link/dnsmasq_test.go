package link

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// dnsmasq runs Debian's DHCP server at a peer; its log is heard line by line.
type dnsmasq struct {
	t      *testing.T
	p      *peer
	cmd    *exec.Cmd
	lines  chan string
	leases string
}

func newDnsmasq(t *testing.T, p *peer, far string, args ...string) *dnsmasq {
	t.Helper()
	if _, err := exec.LookPath("dnsmasq"); err != nil {
		t.Fatalf("%v: install the Debian package dnsmasq-base", err)
	}
	d := &dnsmasq{t: t, p: p, leases: filepath.Join(t.TempDir(), "leases")}
	d.start(far, args...)
	return d
}

func (d *dnsmasq) start(far string, args ...string) {
	d.t.Helper()
	d.cmd = d.p.command("dnsmasq", append([]string{
		"--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--group=root", "--pid-file=", "--no-ping",
		"--log-facility=-", "--log-dhcp", "--dhcp-authoritative", "--interface=" + far, "--bind-interfaces",
		"--dhcp-leasefile=" + d.leases,
	}, args...)...)
	log, err := d.cmd.StderrPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(d.stop)
	lines := make(chan string, 10_000)
	d.lines = lines
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(log); s.Scan(); {
			lines <- s.Text()
		}
	}()
	d.says("started")
}

func (d *dnsmasq) stop() {
	_ = d.cmd.Process.Kill() // it may be gone
	_ = d.cmd.Wait()
}

// says waits until the log has a line with text, and returns those up to it.
func (d *dnsmasq) says(text string) []string {
	d.t.Helper()
	guard := time.After(hang)
	var seen []string
	for {
		select {
		case l, ok := <-d.lines:
			if !ok {
				d.t.Fatalf("dnsmasq ended; it was to say %q, and said:\n%s", text, strings.Join(seen, "\n"))
			}
			if seen = append(seen, l); strings.Contains(l, text) {
				return seen
			}
		case <-guard:
			d.t.Fatalf("dnsmasq was to say %q, and said:\n%s", text, strings.Join(seen, "\n"))
		}
	}
}

// A whole life with a real server: asked for, configured, renewed by the server's address, rebound by broadcast, verified
// when the carrier returns, taken back, given back.
func TestLifeOfALeaseWithDnsmasq(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	p := wireUp(t, "near", "far")
	p.ip("addr", "add", "192.0.2.1/24", "dev", "far")
	options := []string{
		"--dhcp-range=192.0.2.50,192.0.2.60,255.255.255.0,10m",
		"--dhcp-option=option:dns-server,192.0.2.53,192.0.2.54", "--dhcp-option=option:domain-search,a.example,b.example",
		"--dhcp-option=option:ntp-server,192.0.2.123", "--dhcp-option=option:mtu,1400", "--domain=c.example",
		"--dhcp-option=121,203.0.113.0/24,192.0.2.7,10.9.9.9/32,0.0.0.0,10.0.0.0/8,10.9.9.9,0.0.0.0/0,192.0.2.1",
	}
	d := newDnsmasq(t, p, "far", options...)
	up(t, "near")
	c := DHCP{Link: "near", Host: "store-07", MTU: true, Probe: 50 * time.Millisecond}
	l, err := c.Acquire(deadline(t), func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	address := l.Address
	a, pre := netip.MustParseAddr, netip.MustParsePrefix
	want := Lease{
		Address: address, Server: a("192.0.2.1"), Host: "store-07", MTU: 1400,
		DNS: []netip.Addr{a("192.0.2.53"), a("192.0.2.54")}, NTP: []netip.Addr{a("192.0.2.123")}, Search: []string{"a.example", "b.example"},
		Routes: []LeaseRoute{{To: pre("203.0.113.0/24"), Via: a("192.0.2.7")}, {To: pre("10.9.9.9/32")}, {To: pre("10.0.0.0/8"), Via: a("10.9.9.9")}, {To: pre("0.0.0.0/0"), Via: a("192.0.2.1")}},
		T1:     l.T1, T2: l.T2, Length: 10 * time.Minute, Obtained: l.Obtained, // the server varies the times
	}
	if diff := cmp.Diff(want, l, compare()); diff != "" || address.Bits() != 24 {
		t.Errorf("lease (-want +got):\n%s", diff)
	}
	d.says("DHCPACK(far) " + address.Addr().String())
	s := read(t)
	i, _ := s.Find(Match{Name: "near"})
	if _, ok := s.address(i.Index, address); !ok || i.MTU != 1400 {
		t.Errorf("the interface has %v and the MTU %d, want %s and 1400", s.Addresses, i.MTU, address)
	}
	for dst, via := range map[string]string{"203.0.113.9": "192.0.2.7", "10.9.9.9": "", "10.4.4.4": "10.9.9.9", "8.8.8.8": "192.0.2.1"} {
		r := s.lookup(flow{to: a(dst)})
		if ok, why := s.Way(a(dst)); !ok || len(r) != 1 || r[0].Source != address.Addr() || r[0].Via.IsValid() != (via != "") || via != "" && r[0].Via != a(via) {
			t.Errorf("way to %s: %v, %q by %+v; want via %q from %s", dst, ok, why, r, via, address)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "ip", "-4", "addr", "show", "dev", "near").CombinedOutput(); err != nil || strings.Contains(string(out), "valid_lft forever") {
		t.Errorf("the address has no lifetime: %s, %v", out, err)
	}

	life := keeping(t, c, l)
	// Its time has come: the server is asked by its address.
	l.T1, l.T2 = 0, l.Length-time.Second
	life = life.again(c, l)
	d.says(fmt.Sprintf("DHCPREQUEST(far) %s", address.Addr()))
	renewed := life.next()
	d.says(fmt.Sprintf("DHCPACK(far) %s", address.Addr()))
	if renewed.err != nil || renewed.l.Address != address || renewed.l.T1 < time.Minute {
		t.Errorf("renewed: got %+v, %v", renewed.l, renewed.err)
	}
	// The server has moved: everybody is asked.
	moved := renewed.l
	moved.T1, moved.T2 = 0, 0
	life = life.again(c, moved)
	if r := life.next(); r.err != nil || r.l.Address != address {
		t.Errorf("rebound: got %+v, %v", r.l, r.err)
	}
	d.says(fmt.Sprintf("DHCPACK(far) %s", address.Addr()))

	// The carrier goes and returns: the lease is verified.
	flapWire(t, p)
	if r := life.next(); r.err != nil || r.l.Address != address {
		t.Errorf("verified: got %+v, %v", r.l, r.err)
	}
	d.says(fmt.Sprintf("DHCPACK(far) %s", address.Addr()))

	// It returns on another network, whose server refuses the address: it goes, and another one comes.
	d.stop()
	p.ip("addr", "flush", "dev", "far")
	p.ip("addr", "add", "198.51.100.1/24", "dev", "far")
	d.leases += "2"
	d.start("far", "--dhcp-range=198.51.100.50,198.51.100.60,255.255.255.0,10m", "--dhcp-option=option:router,198.51.100.1")
	flapWire(t, p)
	if r := life.next(); r.err == nil || !strings.Contains(r.err.Error(), "the server refused it (NAK)") {
		t.Errorf("refused: got %+v, %v", r.l, r.err)
	}
	r := life.next()
	if r.err != nil || !pre("198.51.100.0/24").Contains(r.l.Address.Addr()) {
		t.Fatalf("on the other network: got %+v, %v", r.l, r.err)
	}
	s = read(t)
	if _, ok := s.address(i.Index, address); ok {
		t.Error("the address of the first network is still there")
	}
	if slices.ContainsFunc(s.Routes, func(r Route) bool { return r.Via == a("192.0.2.7") }) {
		t.Error("a route of the first network is still there")
	}
	if ok, why := s.Way(a("8.8.8.8")); !ok {
		t.Errorf("no way out by the other network: %s", why)
	}

	// A successor takes over what is there, and gives it back in the end.
	life.stop()
	if _, err := c.Verify(deadline(t), r.l); err != nil {
		t.Errorf("verify: %v", err)
	}
	if err := c.Release(r.l); err != nil {
		t.Fatal(err)
	}
	d.says("DHCPRELEASE(far) " + r.l.Address.Addr().String())
	if s = read(t); slices.ContainsFunc(s.Addresses, func(x Address) bool { return x.Prefix == r.l.Address }) {
		t.Error("the address is still there after the release")
	}
	if b, err := os.ReadFile(d.leases); err != nil || strings.Contains(string(b), r.l.Address.Addr().String()) {
		t.Errorf("the server's leases: %q, %v; want none", b, err)
	}
	if _, err := c.Verify(deadline(t), want); !errors.Is(err, ErrRefused) {
		t.Errorf("verify a lease of the other network: got %v, want ErrRefused", err)
	}
}

func flapWire(t *testing.T, p *peer) {
	t.Helper()
	p.ip("link", "set", "far", "down")
	reaches(t, "no carrier", func(s *State) bool { i, err := s.Find(Match{Name: "near"}); return err == nil && !i.Carrier })
	p.ip("link", "set", "far", "up")
}

// life is a lease that is being kept.
type life struct {
	t       *testing.T
	cancel  context.CancelFunc
	ended   chan struct{}
	changes chan change
}

type change struct {
	l   Lease
	err error
}

func keeping(t *testing.T, c DHCP, l Lease) *life {
	ctx, cancel := context.WithCancel(t.Context())
	k := &life{t: t, cancel: cancel, ended: make(chan struct{}), changes: make(chan change, 100)}
	go func() {
		defer close(k.ended)
		c.Keep(ctx, l, func(l Lease, err error) { k.changes <- change{l, err} })
	}()
	t.Cleanup(k.stop)
	return k
}

func (k *life) stop() { k.cancel(); <-k.ended }

func (k *life) again(c DHCP, l Lease) *life {
	k.stop()
	return keeping(k.t, c, l)
}

func (k *life) next() change {
	k.t.Helper()
	select {
	case c := <-k.changes:
		return c
	case <-time.After(hang):
		k.t.Fatal("nothing became of the lease")
		return change{}
	}
}
