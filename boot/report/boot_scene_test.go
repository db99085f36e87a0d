package report_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"initd/boot/engine"
	"initd/boot/plan"
	"initd/boot/report"
)

var play = flag.Bool("play", false, "let the engine play the scenes anew")

// The scenes are event files that the real engine wrote in virtual time; they
// are kept, so that a golden changes only when what it shows does.
var scenes = []struct {
	name string
	play func(t *testing.T) []report.Event
}{
	{"five", five},
	{"thirty", thirty},
	{"twohundred", twoHundred},
}

// load returns the events of a scene.
func load(t *testing.T, name string) []report.Event {
	t.Helper()
	list, err := report.ReadFile(filepath.Join("testdata", name+".events"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestScenesPlay comes first, so that -play -update makes goldens of what it
// played; without -play it only sees that the engine still reaches the end.
func TestScenesPlay(t *testing.T) {
	for _, s := range scenes {
		events := s.play(t)
		if r := report.Fold(events); r.State != report.IsReady {
			t.Errorf("%s: the boot is %s in the end", s.name, r.State)
		}
		if *play {
			writeScene(t, filepath.Join("testdata", s.name+".events"), events)
		}
	}
}

func writeScene(t *testing.T, path string, events []report.Event) {
	t.Helper()
	var b bytes.Buffer
	for i := range events {
		events[i].Seq = uint64(i + 1)
		line, err := json.Marshal(events[i])
		if err != nil {
			t.Fatal(err)
		}
		b.Write(append(line, '\n'))
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// actor takes the time that its script says.
type actor struct {
	mu      sync.Mutex
	there   map[string]bool
	took    map[string]time.Duration
	waiting map[string]string // reason while it works
	until   map[string]time.Duration
	fails   map[string]int
	clock   func() time.Duration
}

func (a *actor) Check(_ context.Context, u *plan.Unit) (engine.Checked, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.there[u.ID] {
		return engine.Checked{Answer: engine.Same}, nil
	}
	return engine.Checked{Answer: engine.Absent, Object: "/dev/" + u.ID}, nil
}

func (a *actor) Apply(ctx context.Context, u *plan.Unit, progress func(engine.Progress)) error {
	a.mu.Lock()
	took, reason, until := a.took[u.ID], a.waiting[u.ID], a.until[u.ID]
	a.mu.Unlock()
	if took == 0 {
		h := fnv.New32()
		h.Write([]byte(u.ID))
		took = time.Duration(50+h.Sum32()%700) * time.Millisecond
	}
	if reason != "" {
		progress(engine.Progress{Waiting: reason, Server: "kms-a"})
		if err := sleep(ctx, until-a.clock()); err != nil {
			return err
		}
		progress(engine.Progress{Server: "kms-b"})
	}
	if err := sleep(ctx, took); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fails[u.ID] != 0 {
		a.fails[u.ID]--
		return &failure{"key from kms-a is not accepted; 3 tries left on the drive"}
	}
	a.there[u.ID] = true
	return nil
}

func (a *actor) Rollback(context.Context, *plan.Unit) error { return nil }

func (a *actor) ApplyBatch(_ context.Context, us []engine.Part, progress func(int, engine.Progress), done func(int, error)) {
	var wg sync.WaitGroup
	for i, u := range us {
		wg.Go(func() { done(i, a.Apply(u.Context, u.Unit, func(p engine.Progress) { progress(i, p) })) })
	}
	wg.Wait()
}

type failure struct{ text string }

func (f *failure) Error() string { return f.text }
func (f *failure) Code() string  { return "key-not-accepted" }
func (f *failure) Hint() string {
	return "ask who rotated the key; initd keys check says which versions there are"
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(max(d, 0))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return errors.New("interrupted")
	}
}

// stage plays plans in virtual time.
type stage struct {
	t      *testing.T
	a      *actor
	start  time.Time
	events []report.Event
	mu     sync.Mutex
	ledger *engine.Ledger
}

const kernel = 1900 * time.Millisecond // what the kernel took before

func newStage(t *testing.T) *stage {
	s := &stage{t: t, start: time.Now()}
	s.a = &actor{
		there: map[string]bool{}, took: map[string]time.Duration{}, waiting: map[string]string{}, until: map[string]time.Duration{},
		fails: map[string]int{}, clock: s.clock,
	}
	l, err := engine.OpenLedger(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s.ledger = l
	t.Cleanup(func() { l.Close() })
	return s
}

func (s *stage) clock() time.Duration { return time.Since(s.start) + kernel }

// Append makes a stage the log of its engines.
func (s *stage) Append(e *report.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.At == 0 {
		e.At = s.clock()
	}
	s.events = append(s.events, *e)
	return nil
}

// run plays a plan with the world's turns until the time end.
func (s *stage) run(gen uint64, p *plan.Plan, notices []string, end time.Duration, turns ...turn) {
	wall := time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC)
	_ = s.Append(&report.Event{Kind: report.GenerationStarted, Gen: gen, Text: "1.0", PID: 200 + int(gen), Reason: map[bool]string{true: "boot", false: "the one before was killed"}[gen == 1]})
	if gen == 1 {
		_ = s.Append(&report.Event{Kind: report.ClockStepped, Gen: 1, Wall: &wall})
	}
	e, err := engine.New(engine.Config{
		Plan: p, Actions: map[string]engine.Action{"x": s.a}, Log: s, Ledger: s.ledger, Generation: gen, Seed: 3, Notices: notices, Clock: s.clock,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	for _, w := range turns {
		time.Sleep(w.at - s.clock())
		if err := e.Post(w.facts...); err != nil {
			s.t.Fatal(err)
		}
	}
	time.Sleep(end - s.clock())
	synctest.Wait()
	cancel()
	if err := <-done; err != nil {
		s.t.Fatal(err)
	}
}

type turn struct {
	at    time.Duration
	facts []plan.Fact
}

func at(t time.Duration, facts ...plan.Fact) turn { return turn{t, facts} }

func here(names ...plan.Resource) (list []plan.Fact) {
	for _, n := range names {
		list = append(list, plan.Fact{Resource: n, Present: true, Generation: 1})
	}
	return list
}

func gone(name plan.Resource, reason string) plan.Fact {
	return plan.Fact{Resource: name, Reason: reason}
}

// unit makes a unit that needs and comes after resources.
func unit(st plan.Stage, id string, needs, after []plan.Resource, more ...func(*plan.Unit)) plan.Unit {
	u := plan.Unit{ID: id, Kind: "x", Stage: st, Provides: []plan.Resource{plan.Resource(id)}, Origin: "appliance.yaml:7"}
	for _, n := range needs {
		u.Needs = append(u.Needs, plan.Need{AnyOf: []plan.Resource{n}})
	}
	for _, n := range after {
		u.Needs = append(u.Needs, plan.Need{AnyOf: []plan.Resource{n}, Mode: plan.After})
	}
	for _, f := range more {
		f(&u)
	}
	plan.Defaults(&u)
	return u
}

func rs(names ...plan.Resource) []plan.Resource { return names }

func anyOf(names ...plan.Resource) func(*plan.Unit) {
	return func(u *plan.Unit) { u.Needs = append(u.Needs, plan.Need{AnyOf: names}) }
}

func inBatch(name string) func(*plan.Unit) { return func(u *plan.Unit) { u.Batch = name } }

func waitsAtMost(d time.Duration) func(*plan.Unit) {
	return func(u *plan.Unit) { u.Policy.Wait = plan.Duration(d) }
}

func planOf(name string, units ...plan.Unit) *plan.Plan {
	ready := plan.Unit{ID: plan.ReadyID, Kind: "milestone", Stage: plan.Ready, Milestone: true, Provides: rs("milestone/ready")}
	for _, u := range units {
		ready.Needs = append(ready.Needs, plan.Need{AnyOf: u.Provides[:1], Mode: plan.After})
	}
	plan.Defaults(&ready)
	rank := map[plan.Stage]int{}
	for i, s := range plan.Stages() {
		rank[s] = i
	}
	slices.SortStableFunc(units, func(a, b plan.Unit) int { return rank[a.Stage] - rank[b.Stage] })
	return &plan.Plan{Name: name, Budget: plan.Duration(3 * time.Minute), Units: append(units, ready), Digest: "5d41402abc4b2a76"}
}

// five: one volume whose key server comes 20 s late.
func five(t *testing.T) (events []report.Event) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.a.waiting["key/tank0"], s.a.until["key/tank0"] = "kms-a: connection refused", 22*time.Second
		p := planOf("store-07",
			unit(plan.Network, "net/storage", rs("link/storage"), nil),
			unit(plan.Keys, "key/tank0", rs("endpoint/192.0.2.21:5696"), nil, func(u *plan.Unit) { u.Policy.Deadline = plan.Duration(time.Minute) }),
			unit(plan.Unlock, "luks/tank0", rs("block/uuid/6d6b1c5e-7c0f-4c38-9d31-0f8ab6a6a3f5", "key/tank0"), nil),
			unit(plan.Storage, "mount/srv/tank0", rs("luks/tank0"), nil),
			unit(plan.Services, "service/redis", rs("mount/srv/tank0"), nil))
		s.run(1, p, nil, 40*time.Second,
			at(2*time.Second, gone("endpoint/192.0.2.21:5696", "storage: no carrier")),
			at(2100*time.Millisecond, here("link/storage")...),
			at(2300*time.Millisecond, here("block/uuid/6d6b1c5e-7c0f-4c38-9d31-0f8ab6a6a3f5")...),
			at(4500*time.Millisecond, here("endpoint/192.0.2.21:5696")...))
		events = s.events
	})
	return events
}

// thirty: an orchestrator is killed on the way, a disk never comes, a key is
// refused twice, and the last good plan had to be used.
func thirty(t *testing.T) (events []report.Event) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		units := []plan.Unit{
			unit(plan.Network, "net/storage", rs("link/mac/52:54:00:00:00:01"), nil),
			unit(plan.Network, "net/mgmt", rs("link/path/pci-0000:00:04.0"), nil),
			unit(plan.Network, "net/dns", rs("net/mgmt"), nil),
			unit(plan.Time, "time", rs("endpoint/198.51.100.123:123"), rs("net/dns")),
		}
		disks := here("link/mac/52:54:00:00:00:01", "link/path/pci-0000:00:04.0")
		for i := range 7 {
			n := fmt.Sprintf("tank%d", i)
			d := plan.Resource("block/partlabel/" + n)
			if i != 5 {
				disks = append(disks, here(d)...)
			}
			units = append(units,
				unit(plan.Keys, "key/"+n, nil, rs("time"), anyOf("endpoint/192.0.2.21:5696", "endpoint/192.0.2.22:5696"), inBatch("default")),
				unit(plan.Unlock, "luks/"+n, rs(d, plan.Resource("key/"+n)), nil, inBatch("luks"), waitsAtMost(15*time.Second)),
				unit(plan.Storage, "mount/srv/"+n, rs(plan.Resource("luks/"+n)), nil))
		}
		units = append(units,
			unit(plan.Services, "service/redis", rs("mount/srv/tank0"), nil),
			unit(plan.Services, "service/tomcat", rs("service/redis", "mount/srv/tank1"), nil),
			unit(plan.Services, "service/archive", rs("mount/srv/tank5"), nil))
		s.a.fails["luks/tank3"] = 2
		s.a.took["luks/tank2"] = 4 * time.Second
		s.a.took["service/tomcat"] = 3 * time.Second
		s.a.waiting["service/tomcat"], s.a.until["service/tomcat"] = "127.0.0.1:8080: connection refused", 14*time.Second
		p := planOf("store-07", units...)
		notice := "last good plan used because appliance.yaml:41:3: media.luks[2].device: \"uid/4f\" is no resource; did you mean \"uuid/4f\"?"
		s.run(1, p, []string{notice}, 6*time.Second,
			at(2*time.Second, append(disks,
				gone("endpoint/192.0.2.21:5696", "storage: no address yet"), gone("endpoint/192.0.2.22:5696", "storage: no address yet"),
				gone("endpoint/198.51.100.123:123", "mgmt: DHCP has no lease yet"), gone("block/partlabel/tank5", "no partition with this label"))...),
			at(3200*time.Millisecond, here("endpoint/198.51.100.123:123")...),
			at(4*time.Second, append(here("endpoint/192.0.2.22:5696"), gone("endpoint/192.0.2.21:5696", "no route to host"))...))
		disks = append(disks, here("endpoint/192.0.2.22:5696", "endpoint/198.51.100.123:123")...)
		time.Sleep(400 * time.Millisecond)
		s.run(2, p, []string{notice}, 30*time.Second,
			at(s.clock()+50*time.Millisecond, append(disks, gone("block/partlabel/tank5", "no partition with this label"), gone("endpoint/192.0.2.21:5696", "no route to host"))...))
		events = s.events
	})
	return events
}

// twoHundred: 48 drives, with everything on them.
func twoHundred(t *testing.T) (events []report.Event) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		units := []plan.Unit{
			unit(plan.Network, "net/storage", rs("link/storage"), nil),
			unit(plan.Time, "time", rs("endpoint/198.51.100.123:123"), nil),
		}
		var disks []plan.Fact
		for i := range 48 {
			n := fmt.Sprintf("data%02d", i)
			d := plan.Resource("block/partlabel/" + n)
			disks = append(disks, here(d)...)
			units = append(units,
				unit(plan.Keys, "key/"+n, rs("endpoint/192.0.2.21:5696"), rs("time"), inBatch("default")),
				unit(plan.Unlock, "luks/"+n, rs(d, plan.Resource("key/"+n)), nil, inBatch(fmt.Sprint("luks", i/8))),
				unit(plan.Storage, "mount/srv/"+n, rs(plan.Resource("luks/"+n)), nil))
			if i < 50 {
				units = append(units, unit(plan.Services, "service/osd."+fmt.Sprint(i), rs(plan.Resource("mount/srv/"+n)), nil))
			}
		}
		s.a.took["luks/data31"] = 6 * time.Second
		s.a.fails["luks/data07"] = 3
		p := planOf("ceph-03", units...)
		s.run(1, p, nil, 25*time.Second,
			at(2*time.Second, append(here("link/storage"), gone("endpoint/192.0.2.21:5696", "storage: no address yet"))...),
			at(2500*time.Millisecond, disks[:40]...),
			at(2700*time.Millisecond, here("endpoint/198.51.100.123:123")...),
			at(3500*time.Millisecond, here("endpoint/192.0.2.21:5696")...),
			at(8*time.Second, disks[40:]...))
		events = s.events
	})
	return events
}
