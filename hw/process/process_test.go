package process

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestStateOfAProcessWhoseNameHasBrackets(t *testing.T) {
	for _, row := range []struct {
		name, stat string
		want       byte
	}{
		{"a plain name", "12 (cat) D 1 12 12 0", 'D'},
		{"a name that looks like the rest", "12 (a) S (b) D 1 12", 'D'},
		{"torn", "12 (a)", 0},
		{"nothing", "", 0},
	} {
		if got := state(row.stat); got != row.want {
			t.Errorf("%s: got %q, want %q", row.name, got, row.want)
		}
	}
}

func TestAProcessIsFoundByItsName(t *testing.T) {
	b, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	name := string(b[:len(b)-1])
	if !Runs(name) || Runs(name+"!") || Runs("") {
		t.Errorf("%q: %v, %v, %v; want true, false, false", name, Runs(name), Runs(name+"!"), Runs(""))
	}
}

func TestThisProcessIsNotAsleep(t *testing.T) {
	if w, ok := Asleep(os.Getpid()); ok || w != Unknown {
		t.Errorf("got %q, %v; this process runs", w, ok)
	}
	if pid, _ := Sleeper([]int{os.Getpid(), 1}); pid != os.Getpid() {
		t.Errorf("without a sleeper: got %d, want the first", pid)
	}
	if pid, _ := Sleeper(nil); pid != 0 {
		t.Errorf("of none: got %d, want 0", pid)
	}
}

// The files stand for the kernel's; what the kernel does is proved in a VM,
// by everything that goes through initd/child.
func TestAGroupIsAwaited(t *testing.T) {
	dir := t.TempDir()
	events := filepath.Join(dir, "cgroup.events")
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	g := Group(dir)
	if !g.Empty() || g.AwaitEmpty() != nil {
		t.Error("a group that is not there counts as full")
	}
	write(events, "populated 1\nfrozen 0\n")
	write(filepath.Join(dir, "cgroup.procs"), "12\n34\n")
	if got := g.PIDs(); len(got) != 2 || got[0] != 12 || got[1] != 34 {
		t.Errorf("pids: got %v", got)
	}
	done := make(chan error, 1)
	go func() { done <- g.AwaitEmpty() }()
	write(events, "populated 1\nfrozen 1\n")
	write(events, "populated 0\nfrozen 0\n")
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("the group is empty, and nobody says so")
	}
}
