//go:build guest

package link

import (
	"net/netip"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// The machine has one network card, of virtio, on a wire with nobody else.
func TestTheMachinesCardIsFoundByItsPlaceAsUdevNamesIt(t *testing.T) {
	s := read(t)
	i, err := s.Find(Match{Driver: "virtio_net"})
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "udevadm", "test-builtin", "path_id", "/sys/class/net/"+i.Name).CombinedOutput()
	want := regexp.MustCompile(`(?m)^ID_PATH=(.*)$`).FindStringSubmatch(string(out))
	if want == nil {
		t.Fatalf("udevadm says %q, %v", out, err)
	}
	if i.Path != want[1] || !strings.HasPrefix(i.Path, "pci-0000:00:") {
		t.Errorf("path: got %q, want %q", i.Path, want[1])
	}
	if err := LoopbackUp(); err != nil {
		t.Error(err)
	}
	c := Config{Name: "storage", Match: Match{Path: i.Path}, MTU: 1400, Addresses: prefixes("192.0.2.17/24", "2001:db8::17/64")}
	name, err := Apply(deadline(t), c, func(string) {})
	if err != nil || name != i.Name {
		t.Fatalf("apply: got %q, %v; want %s", name, err, i.Name)
	}
	// The carrier may have come after Apply looked: then the kernel checks the address now.
	s = reaches(t, "everything is the same", func(s *State) bool { got, _, err := Check(s, c); return err == nil && got == Same })
	for _, dst := range []string{"192.0.2.1", "2001:db8::1", "127.0.0.1"} {
		if ok, why := s.Way(netip.MustParseAddr(dst)); !ok {
			t.Errorf("no way to %s: %s", dst, why)
		}
	}
}
