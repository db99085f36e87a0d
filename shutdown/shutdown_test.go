package shutdown

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"initd/shutdown/stack"
)

// fake is a machine whose stack is a list of nodes.
type fake struct {
	mu     sync.Mutex
	nodes  []stack.Node
	users  map[string][]stack.User        // mount point -> who keeps it busy
	ends   map[int]syscall.Signal         // which signal ends a process; none: nothing does
	hang   map[string]bool                // paths whose jobs never return by themselves
	appear map[string][]stack.Node        // after the job on this path
	log    []string                       // jobs in the order in which they succeeded
	stop   func(context.Context) []string // services

	lazily   bool                     // what hangs can be detached
	slow     map[string]time.Duration // how long a job goes on after its node is out of sight
	writing  []stack.Node             // such nodes
	early    []string                 // jobs that were tried while something stood on it
	everyone []stack.User             // all other processes
	keeps    map[string]bool          // paths whose jobs succeed and change nothing
	writable map[string]bool          // paths that cannot become read-only
	twice    map[string]int           // paths whose first so many jobs fail
	dies     map[string]int           // paths whose first so many jobs' processes die
}

func (f *fake) Read() (*stack.Stack, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &stack.Stack{Nodes: slices.Clone(f.nodes)}, nil
}

func (f *fake) Users(points []string) []stack.User {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []stack.User
	for _, p := range points {
		list = append(list, f.users[strings.TrimPrefix(p, "/dev/mapper/")]...)
	}
	return list
}

func (f *fake) Do(ctx context.Context, j Job) error {
	if f.hang[j.Path] && j.Op != OpSync && (j.Op != OpLazy || !f.lazily) {
		<-ctx.Done()
		return errors.New("sleeps in the kernel")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dies[j.Path] > 0 {
		f.dies[j.Path]--
		return died{}
	}
	if j.Op == OpReadOnly {
		if f.writable[j.Path] {
			return errors.New("written to")
		}
		f.log = append(f.log, "read-only "+j.Path)
		return nil
	}
	if j.Op == OpSync {
		f.log = append(f.log, "sync")
		return nil
	}
	i := slices.IndexFunc(f.nodes, func(n stack.Node) bool { return n.Path == j.Path })
	if i < 0 {
		return errors.New("not there")
	}
	for _, n := range slices.Concat(f.nodes, f.writing) {
		if slices.Contains(n.Below, f.nodes[i].ID) {
			if j.Op != OpLazy {
				f.early = append(f.early, f.nodes[i].ID+" before "+n.ID)
			}
			return errors.New("busy: " + n.ID + " is on top")
		}
	}
	if f.twice[j.Path]--; f.twice[j.Path] >= 0 {
		return errors.New("not yet")
	}
	if f.keeps[j.Path] {
		return nil
	}
	if len(f.users[j.Path]) > 0 && j.Op != OpLazy {
		return errors.New("busy")
	}
	node := f.nodes[i]
	f.log = append(f.log, node.ID)
	f.nodes = append(slices.Delete(slices.Clone(f.nodes), i, i+1), f.appear[j.Path]...)
	if d := f.slow[j.Path]; d > 0 {
		f.writing = append(f.writing, node)
		f.mu.Unlock()
		time.Sleep(d)
		f.mu.Lock()
		f.writing = slices.DeleteFunc(f.writing, func(n stack.Node) bool { return n.ID == node.ID })
	}
	return nil
}

func (f *fake) Everyone() []stack.User { return f.everyone }

func (f *fake) StopServices(ctx context.Context) []string {
	if f.stop == nil {
		return nil
	}
	return f.stop(ctx)
}

func (f *fake) End(ctx context.Context, u stack.User, sig syscall.Signal) error {
	if f.ends[u.PID] != sig {
		<-ctx.Done()
		return ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for p, list := range f.users {
		f.users[p] = slices.DeleteFunc(list, func(x stack.User) bool { return x.PID == u.PID })
	}
	return nil
}

func machine() *fake {
	return &fake{twice: map[string]int{}, nodes: []stack.Node{
		{ID: "m1", Kind: stack.Mount, Name: "/", Path: "/", Keep: "the root"},
		{ID: "m2", Kind: stack.Mount, Name: "/srv", Path: "/srv", Below: []string{"m1", "dm-0"}},
		{ID: "m3", Kind: stack.Mount, Name: "/bind", Path: "/bind", Below: []string{"m1", "dm-0"}},
		{ID: "loop0", Kind: stack.Loop, Name: "/dev/loop0", Path: "/dev/loop0", Below: []string{"m2"}},
		{ID: "dm-1", Kind: stack.DM, Name: "top", Path: "top", Below: []string{"dm-0"}},
		{ID: "dm-0", Kind: stack.DM, Name: "tank0", Path: "tank0", Below: []string{"vdb"}},
	}}
}

func runFake(f *fake, budget time.Duration) (Result, []Event) {
	var mu sync.Mutex
	var events []Event
	r := Run(context.Background(), budget, f, func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		events = append(events, e)
	})
	return r, events
}

func TestHoldersGoFirst(t *testing.T) {
	f := machine()
	r, _ := runFake(f, time.Minute)
	if len(r.Left) != 0 {
		t.Fatalf("left: %v", r.Left)
	}
	at := func(id string) int { return slices.Index(f.log, id) }
	if at("loop0") > at("m2") || at("m2") > at("dm-0") || at("m3") > at("dm-0") || at("dm-1") > at("dm-0") || at("sync") != len(f.log)-1 {
		t.Errorf("order: %v", f.log)
	}
}

func TestWhatAppearsOnTheWayGoesToo(t *testing.T) {
	f := machine()
	f.appear = map[string][]stack.Node{"/srv": {{ID: "m9", Kind: stack.Mount, Name: "/late", Path: "/late", Below: []string{"dm-0"}}}}
	if r, _ := runFake(f, time.Minute); len(r.Left) != 0 || !slices.Contains(f.log, "m9") {
		t.Errorf("left %v, order %v", r.Left, f.log)
	}
}

func TestAProcessThatIgnoresTermIsNamedAndKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := machine()
		f.users = map[string][]stack.User{"/srv": {{PID: 77, Comm: "sleep", How: "open file /srv/x"}, {PID: 78, Comm: "polite", How: "working directory"}}}
		f.ends = map[int]syscall.Signal{77: syscall.SIGKILL, 78: syscall.SIGTERM}
		r, events := runFake(f, time.Minute)
		if len(r.Left) != 0 {
			t.Fatalf("left: %v", r.Left)
		}
		var said []string
		for _, e := range events {
			if e.Op == "process" {
				said = append(said, e.State+": "+e.Object+": "+e.Reason)
			}
		}
		slices.Sort(said)
		want := []string{
			"done: polite (pid 78, working directory): used /srv",
			"failed: sleep (pid 77, open file /srv/x): used /srv; sleep (pid 77, open file /srv/x) ignored SIGTERM and was killed",
		}
		if diff := cmp.Diff(want, said); diff != "" {
			t.Errorf("processes (-want +got):\n%s", diff)
		}
	})
}

func TestItAlwaysEndsWithinItsBudget(t *testing.T) {
	for _, tt := range []struct {
		name string
		f    func(*fake)
		left string
	}{
		{"an unmount that never returns", func(f *fake) { f.hang = map[string]bool{"/srv": true} }, "/srv: sleeps in the kernel"},
		{"a process that nothing ends", func(f *fake) {
			f.users = map[string][]stack.User{"/srv": {{PID: 9, Comm: "dead", How: "program"}}}
		}, "/srv: busy; dead (pid 9, program) cannot be killed"},
		{"services that never stop", func(f *fake) {
			f.stop = func(ctx context.Context) []string { <-ctx.Done(); return []string{"redis: still running"} }
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := machine()
				tt.f(f)
				r, _ := runFake(f, 20*time.Second)
				if r.Took > 20*time.Second {
					t.Errorf("took %v of 20s", r.Took)
				}
				if !slices.Contains(f.log, "sync") {
					t.Error("no sync at the end")
				}
				var lines []string
				for _, l := range r.Left {
					lines = append(lines, l.Object+": "+l.Reason)
				}
				if tt.left != "" && !slices.Contains(lines, tt.left) || tt.left == "" && len(lines) > 0 {
					t.Errorf("left: got %s, want %q in it", strings.Join(lines, " | "), tt.left)
				}
				if tt.left != "" && !slices.Contains(f.log, "m3") {
					t.Errorf("what was free did not go: %v", f.log)
				}
			})
		})
	}
}

// A device that hangs holds up what it stands on, and nothing else: all that
// is independent of it goes at once, wave after wave.
type died struct{}

func (died) Error() string { return "process 1 ended without a result: signal: killed" }
func (died) Died() bool    { return true }

func TestAJobWhoseProcessDiesIsDoneAgain(t *testing.T) {
	for _, deaths := range []int{1, maxDeaths - 1, maxDeaths} {
		f := machine()
		f.dies = map[string]int{"tank0": deaths}
		r, _ := runFake(f, time.Minute)
		if gone := len(r.Left) == 0; gone != (deaths < maxDeaths) {
			t.Errorf("after %d deaths: left %v", deaths, r.Left)
		}
	}
}

func TestWhatHangsHoldsUpNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{twice: map[string]int{}, hang: map[string]bool{"/dead": true}, nodes: []stack.Node{
			{ID: "m1", Kind: stack.Mount, Name: "/dead", Path: "/dead", Below: []string{"dm-0"}},
			{ID: "dm-0", Kind: stack.DM, Name: "dead", Path: "dead"},
			{ID: "m2", Kind: stack.Mount, Name: "/a", Path: "/a", Below: []string{"dm-1"}},
			{ID: "dm-1", Kind: stack.DM, Name: "a", Path: "a", Below: []string{"loop0"}},
			{ID: "loop0", Kind: stack.Loop, Name: "/dev/loop0", Path: "/dev/loop0"},
		}}
		var at time.Duration
		start := time.Now()
		r := Run(context.Background(), time.Minute, f, func(e Event) {
			if e.Op == OpLoop && e.State == "done" {
				at = time.Since(start)
			}
		})
		if at != 0 || !slices.Contains(f.log, "loop0") {
			t.Errorf("loop0 went after %v of virtual time, order %v", at, f.log)
		}
		var left []string
		for _, l := range r.Left {
			left = append(left, l.Object)
		}
		if diff := cmp.Diff([]string{"/dead", "dead"}, left); diff != "" {
			t.Error(diff)
		}
	})
}

func TestAFailureIsTriedAgainWhenSomethingElseHasGone(t *testing.T) {
	f := machine()
	f.twice["/bind"] = 1
	if r, _ := runFake(f, time.Minute); len(r.Left) != 0 {
		t.Errorf("left: %v", r.Left)
	}
}

// A loop device whose descriptor somebody keeps is let go and stays: it is
// named, and nobody spins.
func TestWhatStaysThoughItWasLetGoIsNamed(t *testing.T) {
	f := machine()
	f.keeps = map[string]bool{"/dev/loop0": true}
	r, events := runFake(f, time.Minute)
	tries := 0
	for _, e := range events {
		if e.Op == OpLoop {
			tries++
		}
	}
	if tries == 0 || tries > 2*maxTries {
		t.Errorf("%d tries", tries)
	}
	want := Left{Object: "/dev/loop0", Reason: "it was let go, but something still holds it"}
	if !slices.Contains(r.Left, want) {
		t.Errorf("left: %v", r.Left)
	}
}

// An unmount takes the mount out of the kernel's table first and writes then:
// what it stood on waits for the end of the job, not for the table.
func TestWhatIsBeingTakenDownStillHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := machine()
		f.slow = map[string]time.Duration{"/srv": 2 * time.Second, "/bind": time.Second} // one ends while the other writes
		r, _ := runFake(f, time.Minute)
		if len(r.Left) != 0 || len(f.early) != 0 {
			t.Errorf("left %v, too early %v", r.Left, f.early)
		}
	})
}

// A dead file system mounted inside a good one is detached, so that the good
// one can be unmounted cleanly.
func TestADeadMountInsideAGoodOneIsDetached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{twice: map[string]int{}, hang: map[string]bool{"/good/dead": true}, lazily: true, nodes: []stack.Node{
			{ID: "m1", Kind: stack.Mount, Name: "/good", Path: "/good", Below: []string{"dm-0"}},
			{ID: "m2", Kind: stack.Mount, Name: "/good/dead", Path: "/good/dead", Below: []string{"m1"}},
			{ID: "dm-0", Kind: stack.DM, Name: "good", Path: "good"},
		}}
		r, _ := runFake(f, time.Minute)
		if !slices.Contains(f.log, "m1") || !slices.Contains(f.log, "dm-0") {
			t.Errorf("order %v", f.log)
		}
		want := []Left{{Object: "/good/dead", Reason: "sleeps in the kernel"}}
		if diff := cmp.Diff(want, r.Left); diff != "" {
			t.Error(diff)
		}
	})
}

func TestAMountThatIsDetachedInUseIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := machine()
		f.users = map[string][]stack.User{"/bind": {{PID: 9, Comm: "dead", How: "program"}}}
		f.writable = map[string]bool{"/bind": true}
		r, _ := runFake(f, time.Minute)
		want := Left{Object: "/bind", Reason: "detached while it was in use: busy; dead (pid 9, program) cannot be killed"}
		if !slices.Contains(r.Left, want) {
			t.Errorf("left: %v", r.Left)
		}
		if !slices.Contains(f.log, "dm-0") {
			t.Errorf("what the detached mount freed did not go: %v", f.log)
		}
	})
}

func TestEveryProcessIsAskedBeforeItIsKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := machine()
		f.everyone = []stack.User{{PID: 5, Comm: "bash"}, {PID: 6, Comm: "stubborn"}}
		f.ends = map[int]syscall.Signal{5: syscall.SIGTERM, 6: syscall.SIGKILL}
		_, events := runFake(f, time.Minute)
		var said []string
		for _, e := range events {
			if e.Op == "process" {
				said = append(said, e.State+": "+e.Object+": "+e.Reason)
			}
		}
		slices.Sort(said)
		want := []string{"done: bash (pid 5): ", "failed: stubborn (pid 6): stubborn (pid 6) ignored SIGTERM and was killed"}
		if diff := cmp.Diff(want, said); diff != "" {
			t.Error(diff)
		}
	})
}

func TestThingsThatStandOnEachOtherAreTriedAndTold(t *testing.T) {
	f := &fake{twice: map[string]int{}, nodes: []stack.Node{
		{ID: "a", Kind: stack.DM, Name: "a", Path: "a", Below: []string{"b"}},
		{ID: "b", Kind: stack.DM, Name: "b", Path: "b", Below: []string{"a"}},
	}}
	r, events := runFake(f, time.Minute)
	if len(r.Left) != 2 || !slices.ContainsFunc(events, func(e Event) bool { return e.Op == "order" && strings.Contains(e.Reason, "a, b") }) {
		t.Errorf("left %v, events %v", r.Left, events)
	}
}

// Whatever the stack and whatever fails, Run ends in time, never takes
// something down before its holders, and names all that is left.
func TestAnyStackComesDownOrIsNamed(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		f := &fake{twice: map[string]int{}, hang: map[string]bool{}, keeps: map[string]bool{}, users: map[string][]stack.User{}, ends: map[int]syscall.Signal{}}
		kinds := []stack.Kind{stack.Mount, stack.DM, stack.Loop, stack.Swap, stack.MD}
		n := rapid.IntRange(0, 12).Draw(rt, "nodes")
		for i := range n {
			node := stack.Node{ID: fmt.Sprint("n", i), Path: fmt.Sprint("p", i), Name: fmt.Sprint("p", i), Kind: rapid.SampledFrom(kinds).Draw(rt, "kind")}
			for j := range i {
				if rapid.IntRange(0, 3).Draw(rt, "on") == 0 {
					node.Below = append(node.Below, fmt.Sprint("n", j))
				}
			}
			switch rapid.IntRange(0, 9).Draw(rt, "trouble") {
			case 0:
				f.hang[node.Path] = true
			case 1:
				f.keeps[node.Path] = true
			case 2:
				f.twice[node.Path] = rapid.IntRange(1, 5).Draw(rt, "times")
			case 3:
				pid := 100 + i
				f.users[node.Path] = []stack.User{{PID: pid, Comm: "u"}}
				if rapid.Bool().Draw(rt, "ends") {
					f.ends[pid] = syscall.SIGKILL
				}
			}
			f.nodes = append(f.nodes, node)
		}
		var r Result
		synctest.Test(t, func(*testing.T) { r, _ = runFake(f, time.Minute) })
		if r.Took > time.Minute {
			rt.Fatalf("took %v", r.Took)
		}
		named := map[string]bool{}
		for _, l := range r.Left {
			named[l.Object] = true
			if l.Reason == "" {
				rt.Fatalf("%s is left without a reason", l.Object)
			}
		}
		for _, node := range f.nodes {
			if !named[node.Name] {
				rt.Fatalf("%s is left and not named", node.Name)
			}
		}
		if len(f.early) > 0 {
			rt.Fatalf("tried too early: %v", f.early)
		}
		if slices.Index(f.log, "sync") != len(f.log)-1 {
			rt.Fatalf("sync is not the last: %v", f.log)
		}
	})
}
