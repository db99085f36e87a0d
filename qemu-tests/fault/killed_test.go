package fault

import (
	"testing"

	"initd/qemu-tests/guest/tracer/order"
	"initd/qemu-tests/room"
)

// chain gives each kill a generation of its own, in this order. init waits a
// minute after the fifth death within two, so a chain has four links.
func chain(kills ...order.Kill) []order.Kill {
	for i := range kills {
		kills[i].Generation = i + 1
		kills[i].Victim = order.All
	}
	return kills
}

func before(c order.Class, n int, match string) order.Kill {
	return order.Kill{Class: c, N: n, Match: match}
}

func after(c order.Class, n int, match string) order.Kill {
	return order.Kill{Class: c, N: n, Match: match, After: true}
}

// caller makes it a kill of the child alone, in the first generation.
func caller(k order.Kill) order.Kill {
	k.Generation, k.Victim = 1, order.Caller
	return k
}

// The shipped orchestrator and its children are killed at system calls of each
// class, once before a call is made and once after it has returned. Each time
// another orchestrator comes, and in the end the machine is like one that was
// left in peace: tables, mounts, addresses, tries, report; the service was
// started once, and the way down leaves nothing.
func TestKilledAnywhere(t *testing.T) {
	s := newScene(t)
	calm, want := s.boot()
	s.calm = want
	list := points(t, calm)
	t.Logf("an undisturbed boot makes %v", counts(list))
	for _, c := range order.Classes() {
		if counts(list)[c] == 0 {
			t.Errorf("an undisturbed boot makes no call of the class %s: the tracer sees less than it should", c)
		}
	}
	for _, row := range []struct {
		name  string
		kills []order.Kill
	}{
		{"while drivers are loaded and the key server is dialled", chain(
			before(order.Module, 2, ""), after(order.Module, 1, ""),
			before(order.Connect, 1, room.KMSAV4), after(order.Connect, 1, room.KMSAV4))},
		{"while it writes down what it does", chain(
			before(order.Fsync, 1, ""), before(order.Rename, 1, " to /run/initd/ledger"),
			after(order.Rename, 1, " to /run/initd/services/hands.json"), after(order.Fsync, 1, "/run/initd/children/"))},
		{"while it counts tries, and asks init for a service", chain(
			before(order.Ledger, 2, "intent"), after(order.Ledger, 2, "intent"),
			before(order.Init, 1, "Spawn"), after(order.Init, 1, "Spawn"))},
		{"while volumes are opened", chain(
			before(order.Key, 1, "add_key"), after(order.Key, 1, "add_key"),
			before(order.Ioctl, 1, "DM_TABLE_LOAD"), after(order.Ioctl, 1, "DM_DEV_SUSPEND"))},
		{"while file systems are mounted, and on the way down", append(chain(
			before(order.Mount, 1, "/srv/tank0"), after(order.Mount, 1, "/srv/tank0")),
			order.Kill{Generation: 3, Class: order.Umount, N: 1, Victim: order.All},
			order.Kill{Generation: 4, Class: order.Umount, N: 1, After: true, Victim: order.All})},
		{"only the child that makes the call", []order.Kill{
			caller(after(order.Connect, 1, room.KMSAV4)), caller(before(order.Key, 1, "add_key")),
			caller(after(order.Ioctl, 1, "DM_TABLE_LOAD tank1")), caller(before(order.Mount, 1, "/srv/tank0"))}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s.of(t)
			_, got := s.boot(row.kills...)
			if diff := same(want, got); diff != "" {
				t.Errorf("what the machine is like (-undisturbed +killed):\n%s", diff)
			}
		})
	}
}
