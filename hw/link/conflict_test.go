package link

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Late answers and later thefts are heard, with who it is; packets of this machine, and of addresses that it does not have, are
// not; what is defended is announced.
func TestAnAddressThatAnotherMachineHasTooIsHeardLate(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	p := wireUp(t, "near", "far")
	up(t, "near")
	owner := p.ip("-o", "link", "show", "far")
	p.ip("address", "add", "192.0.2.17/24", "dev", "far") // it was there first, and did not answer in time
	ours := netip.MustParseAddr("192.0.2.18")
	for _, prefix := range prefixes("192.0.2.17/24", "192.0.2.18/24") {
		c := Config{Name: "near", Match: Match{Name: "near"}, Addresses: []netip.Prefix{prefix}}
		if _, err := Apply(t.Context(), c, func(string) {}); err != nil {
			t.Fatal(err)
		}
	}
	others := make(chan Conflict, 8)
	ended := make(chan error, 1)
	go func() {
		ended <- Defend(t.Context(), "near", []netip.Addr{netip.MustParseAddr("192.0.2.17"), ours}, func(c Conflict) bool {
			others <- c
			return c.Address == ours
		})
	}()
	hear := func(want string) {
		t.Helper()
		select {
		case c := <-others:
			if c.Address.String() != want || !strings.Contains(owner, c.Owner.String()) {
				t.Errorf("heard %v, want %s at one of\n%s", c, want, owner)
			}
		case err := <-ended:
			t.Fatalf("ended: %v", err)
		case <-time.After(hang):
			t.Fatalf("nothing is heard of %s", want)
		}
	}
	hear("192.0.2.17")

	all, err := openPacketSocket("near", unix.ETH_P_ALL, []bpf.Instruction{bpf.RetConstant{Val: 1 << 16}}) // hears what is sent, too (packet(7))
	if err != nil {
		t.Fatal(err)
	}
	defer all.close()
	announced := make(chan bool, 1)
	go func() {
		for buf := make([]byte, 1500); ; {
			b, _, err := all.receive(buf)
			if err != nil {
				announced <- false
				return
			}
			if a, ok := parseARP(b); ok && a.op == arpRequest && a.sender == ours && a.targetAddr == ours && bytes.Equal(a.senderMAC, all.mac) {
				announced <- true
				return
			}
		}
	}()
	p.ip("address", "add", "192.0.2.18/24", "dev", "far")
	if out, err := p.command("sh", "-c", "echo 1 >/proc/sys/net/ipv4/conf/far/arp_notify").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p.ip("link", "set", "far", "down")
	p.ip("link", "set", "far", "up") // which announces its addresses
	hear("192.0.2.18")
	select {
	case <-announced:
	case <-time.After(hang):
		t.Error("192.0.2.18 is not defended")
	}
}
