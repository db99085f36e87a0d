package link

import (
	"sync"
	"testing"
)

// Two interfaces are to have each other's name, and both begin at once.
func TestInterfacesSwapTheirNames(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	wireUp(t, "eth0", "far0")
	wireUp(t, "eth1", "far1")
	macs := map[string]string{}
	for _, name := range []string{"eth0", "eth1"} {
		i, err := read(t).Find(Match{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		macs[name] = i.MAC
	}
	up(t, "eth1") // one of them carries traffic already
	first := Config{Name: "eth0", Match: Match{MAC: macs["eth1"]}, Rename: true, Addresses: prefixes("192.0.2.17/24")}
	second := Config{Name: "eth1", Match: Match{MAC: macs["eth0"]}, Rename: true, Addresses: prefixes("198.51.100.17/24")}
	if _, err := Apply(deadline(t), first, func(string) {}); err == nil || err.Error() != "link eth0: another interface has that name already" {
		t.Fatalf("one of them alone: %v", err)
	}
	first.Moving, second.Moving = []Match{second.Match}, []Match{first.Match}
	var naming sync.Mutex
	var both sync.WaitGroup
	for _, c := range []Config{first, second} {
		c.Naming = &naming
		both.Go(func() {
			if name, err := Apply(deadline(t), c, func(string) {}); err != nil || name != c.Name {
				t.Errorf("%s: got %q, %v", c.Name, name, err)
			}
		})
	}
	both.Wait()
	for _, c := range []Config{first, second} {
		if got, why, err := Check(read(t), c); err != nil || got != Same {
			t.Errorf("%s: got %s (%s), %v", c.Name, got, why, err)
		}
	}
}
