package step

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"initd/hw/link"
)

// resolvers are the name servers' files of a machine, and a link that takes what routers say.
func resolvers(t *testing.T) (n *nameServerFiles, san linkSpec, want func(text string)) {
	t.Helper()
	dir := t.TempDir()
	n = &nameServerFiles{folder: filepath.Join(dir, "dns"), resolv: filepath.Join(dir, "resolv.conf"), note: func(s string) { t.Error(s) }}
	return n, linkSpec{Name: "san", RA: true}, func(text string) {
		t.Helper()
		if got, err := os.ReadFile(n.resolv); err != nil || string(got) != text {
			t.Errorf("resolv.conf: %q, %v; want %q", got, err, text)
		}
	}
}

func says(lifetime time.Duration, servers ...string) link.RouterDNS {
	d := link.RouterDNS{Index: 2, Lifetime: lifetime}
	for _, s := range servers {
		d.Servers = append(d.Servers, netip.MustParseAddr(s))
	}
	return d
}

func TestANameServerThatItsRouterTakesBackIsNotAskedAnyMore(t *testing.T) {
	n, san, want := resolvers(t)
	if next := n.router(san, says(time.Hour, "2001:db8::53", "2001:db8::54")); next <= 0 || next > time.Hour {
		t.Errorf("it ends in %v", next)
	}
	want("nameserver 2001:db8::53\nnameserver 2001:db8::54\n")
	n.router(san, says(0, "2001:db8::53"))
	want("nameserver 2001:db8::54\n")
	if next := n.router(san, says(0, "2001:db8::54")); next != 0 {
		t.Errorf("nothing is left, and it ends in %v", next)
	}
	want("")
	n.set(linkSpec{Name: "mgmt"}, "dhcp4", []string{"192.0.2.53"}, []string{"example.net"})
	want("search example.net\nnameserver 192.0.2.53\n")
}

func TestANameServerThatItsRouterDoesNotRepeatEnds(t *testing.T) {
	n, san, want := resolvers(t)
	n.router(san, says(time.Hour, "2001:db8::53"))
	if next := n.router(san, says(time.Nanosecond, "2001:db8::54")); next != time.Nanosecond {
		t.Errorf("the first ends in %v", next)
	}
	n.router(san, link.RouterDNS{})
	want("nameserver 2001:db8::53\n")
}

func TestAResolvConfOfSomebodyElseStays(t *testing.T) {
	n, san, want := resolvers(t)
	if n.router(san, link.RouterDNS{}) != 0 {
		t.Error("there is nothing that could end")
	}
	n.router(san, says(time.Hour, "2001:db8::53"))
	if err := os.WriteFile(n.resolv, []byte("nameserver 198.51.100.1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	n.router(san, says(0, "2001:db8::53"))
	want("nameserver 198.51.100.1\n")
}
