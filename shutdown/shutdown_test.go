package shutdown

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

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
}

func (f *fake) Read() (*stack.Stack, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &stack.Stack{Nodes: slices.Clone(f.nodes)}, nil
}

func (f *fake) Users(points []string) []stack.User {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.users[points[0]])
}

func (f *fake) Do(ctx context.Context, j Job) error {
	if f.hang[j.Path] && j.Op != OpSync {
		<-ctx.Done()
		return errors.New("sleeps in the kernel")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if j.Op == OpReadOnly {
		f.log = append(f.log, "read-only "+j.Path)
		return nil
	}
	if j.Op == OpSync {
		f.log = append(f.log, "sync")
		return nil
	}
	i := slices.IndexFunc(f.nodes, func(n stack.Node) bool { return n.Path == j.Path })
	for _, n := range f.nodes {
		if slices.Contains(n.Below, f.nodes[i].ID) {
			return errors.New("busy: " + n.ID + " is on top")
		}
	}
	if len(f.users[j.Path]) > 0 {
		return errors.New("busy")
	}
	f.log = append(f.log, f.nodes[i].ID)
	f.nodes = append(slices.Delete(f.nodes, i, i+1), f.appear[j.Path]...)
	return nil
}

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
	return &fake{nodes: []stack.Node{
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
