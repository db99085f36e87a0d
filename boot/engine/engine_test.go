package engine

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"initd/boot/plan"
	"initd/boot/report"
)

// in runs a test in virtual time.
func in(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

func TestUnitsRunWhenTheirNeedsAreMet(t *testing.T) {
	in(t, "a chain runs in order and ready is reached", func(t *testing.T) {
		g := newRig(t, u("mount/a", needs("luks/a")), u("luks/a", needs("key/a", "block/a")), u("key/a"))
		g.run()
		defer g.end()
		g.wants(map[string]report.State{"key/a": report.Done, "luks/a": report.Waiting, "mount/a": report.Waiting, "ready": report.Waiting})
		g.fact("block/a", true, 1, "")
		g.wants(map[string]report.State{"luks/a": report.Done, "mount/a": report.Done, "ready": report.Done})
		want := []string{"check key/a", "apply key/a", "check luks/a", "apply luks/a", "check mount/a", "apply mount/a"}
		if diff := cmp.Diff(want, g.m.calls); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
		if n := len(g.log.find(report.Settled, "")); n != 1 {
			t.Errorf("settled %d times, want once", n)
		}
	})
	in(t, "what is there already is adopted and not applied", func(t *testing.T) {
		g := newRig(t, u("a"), u("b", needs("a")))
		g.m.there["a"] = true
		g.run()
		defer g.end()
		g.wants(map[string]report.State{"a": report.Adopted, "b": report.Done})
		if n := g.m.count("apply a"); n != 0 {
			t.Errorf("applied %d times", n)
		}
	})
	in(t, "any one of several will do", func(t *testing.T) {
		g := newRig(t, u("key/a", needsAny(1, "endpoint/a:1", "endpoint/b:1")))
		g.run()
		defer g.end()
		g.fact("endpoint/a:1", false, 0, "no route")
		g.wants(map[string]report.State{"key/a": report.Waiting})
		g.fact("endpoint/b:1", true, 1, "")
		g.wants(map[string]report.State{"key/a": report.Done})
	})
	in(t, "two of three are needed", func(t *testing.T) {
		g := newRig(t, u("pool", needsAny(2, "block/a", "block/b", "block/c")))
		g.run()
		defer g.end()
		g.fact("block/a", true, 1, "")
		g.wants(map[string]report.State{"pool": report.Waiting})
		g.fact("block/c", true, 1, "")
		g.wants(map[string]report.State{"pool": report.Done})
	})
	in(t, "what follows what it needs is adopted only where that was", func(t *testing.T) {
		g := newRig(t, u("path/made"), u("path/found"), u("a", needs("path/made")), u("b", needs("path/found")), u("c", needs("path/made"), needs("path/found")))
		g.m.put("path/found")
		for _, id := range []string{"a", "b", "c"} {
			g.m.unit(id).answer = Follows
		}
		g.run()
		defer g.end()
		g.wants(map[string]report.State{"path/made": report.Done, "path/found": report.Adopted, "a": report.Done, "b": report.Adopted, "c": report.Done})
		if n := g.m.count("apply a") + g.m.count("apply b") + g.m.count("apply c"); n != 0 {
			t.Errorf("applied: %v", g.m.calls)
		}
	})
	in(t, "foreign and different things are errors and stay untouched", func(t *testing.T) {
		g := newRig(t, u("a"), u("b"))
		g.m.unit("a").answer = Foreign
		g.m.unit("b").answer = Different
		g.run()
		defer g.end()
		g.after(time.Minute)
		g.wants(map[string]report.State{"a": report.Degraded, "b": report.Degraded, "ready": report.Done})
		if g.m.count("apply a")+g.m.count("apply b")+g.m.count("rollback a") != 0 {
			t.Errorf("touched: %v", g.m.calls)
		}
		if e := g.log.find(report.UnitChanged, "a")[0]; e.Error == nil || e.Error.Code != "foreign" || !strings.Contains(e.Error.Text, "scripted") {
			t.Errorf("error of a: %+v", e.Error)
		}
	})
	in(t, "a kind with a live change changes what differs", func(t *testing.T) {
		g := newRig(t, u("a", kind("change")))
		g.m.unit("a").answer = Different
		g.run()
		defer g.end()
		g.wants(map[string]report.State{"a": report.Done})
		if g.m.count("change a") != 1 || g.m.count("apply a") != 0 {
			t.Errorf("calls: %v", g.m.calls)
		}
	})
}

func TestFailures(t *testing.T) {
	in(t, "a failed Apply is cleaned up and tried again until the first round is over", func(t *testing.T) {
		g := newRig(t, u("a", attempts(3)), u("b", comesAfter("a")))
		g.m.unit("a").fails = 4
		g.run()
		defer g.end()
		g.wants(map[string]report.State{"a": report.Waiting, "b": report.Waiting})
		g.after(4 * time.Second) // 1 s and 2 s between three attempts
		g.wants(map[string]report.State{"a": report.Degraded, "b": report.Done, "ready": report.Done})
		g.after(time.Minute) // 4 s, 8 s
		g.wants(map[string]report.State{"a": report.Done})
		if got, want := g.m.count("rollback a"), 4; got != want {
			t.Errorf("rolled back %d times, want %d", got, want)
		}
	})
	in(t, "what depends on a degraded unit is degraded at once, and starts when it comes", func(t *testing.T) {
		g := newRig(t, u("luks/a", needs("block/a"), waits(10*time.Second)), u("mount/a", needs("luks/a")), u("redis", needs("mount/a")))
		g.run()
		defer g.end()
		g.fact("block/a", false, 0, "no such disk")
		g.after(11 * time.Second)
		g.wants(map[string]report.State{"luks/a": report.Degraded, "mount/a": report.Degraded, "redis": report.Degraded, "ready": report.Done})
		last := g.log.find(report.UnitChanged, "redis")
		if got := last[len(last)-1].Reason; !strings.Contains(got, "mount/a, which is degraded") || !strings.Contains(got, "no such disk") {
			t.Errorf("reason of redis: %q", got)
		}
		g.after(time.Hour)
		g.fact("block/a", true, 1, "")
		g.wants(map[string]report.State{"luks/a": report.Done, "mount/a": report.Done, "redis": report.Done})
	})
	in(t, "an error that cannot be helped is not tried again before a need changes", func(t *testing.T) {
		g := newRig(t, u("a", needs("block/a")))
		g.m.unit("a").fails, g.m.unit("a").err = 1, final(errors.New("no LUKS header"))
		g.run()
		defer g.end()
		g.fact("block/a", true, 1, "")
		g.after(time.Hour)
		g.wants(map[string]report.State{"a": report.Failed})
		if n := g.m.count("apply a"); n != 1 {
			t.Errorf("applied %d times, want once", n)
		}
		g.fact("block/a", true, 2, "") // another disk
		g.wants(map[string]report.State{"a": report.Done})
	})
	in(t, "the deadline ends an attempt and says what it waited for", func(t *testing.T) {
		g := newRig(t, u("a"))
		s := g.m.unit("a")
		s.hang, s.progress = true, []Progress{{Waiting: "kms-a: connection refused", Server: "kms-a"}}
		g.run()
		defer g.end()
		g.after(31 * time.Second)
		g.wants(map[string]report.State{"a": report.Degraded})
		ended := g.log.find(report.AttemptEnded, "a")[1]
		if got, want := ended.Error.Text, "kms-a: connection refused; given up after 30s"; got != want {
			t.Errorf("error %q, want %q", got, want)
		}
		if ended.Server != "kms-a" {
			t.Errorf("server %q", ended.Server)
		}
	})
	in(t, "what an action notes stays in the report", func(t *testing.T) {
		g := newRig(t, u("a"))
		g.m.unit("a").progress = []Progress{{Note: "opened by the second header"}, {Text: "working"}}
		g.run()
		defer g.end()
		g.wants(map[string]report.State{"a": report.Done})
		notices := g.log.find(report.Notice, "")
		if len(notices) != 1 || notices[0].Text != "a: opened by the second header" {
			t.Errorf("got %+v", notices)
		}
	})
	in(t, "an action with a bug fails its unit and nothing else", func(t *testing.T) {
		g := newRig(t, u("a"), u("b"))
		g.cfg.Actions["panics"] = panics{}
		g.cfg.Plan.Units[0].Kind = "panics"
		g.run()
		defer g.end()
		g.wants(map[string]report.State{"a": report.Failed, "b": report.Done, "ready": report.Done})
	})
}

// ofTheClock is an error that another clock may end.
type ofTheClock struct{ error }

func (ofTheClock) Clock() bool { return true }

func TestAStepOfTheClockStartsWhatFailedBecauseOfIt(t *testing.T) {
	expired := ofTheClock{errors.New("certificate has expired by this clock")}
	slow := func(x *plan.Unit) { x.Policy.Retry = plan.Retry{Initial: plan.Duration(time.Hour)} }
	in(t, "at once, and nothing else", func(t *testing.T) {
		g := newRig(t, u("a", slow), u("b", slow), u("c", slow))
		g.m.unit("a").fails, g.m.unit("a").err = 2, expired
		g.m.unit("b").fails = 1
		g.run()
		defer g.end()
		g.after(time.Minute)
		g.wants(map[string]report.State{"a": report.Degraded, "b": report.Degraded, "c": report.Done, "ready": report.Done})
		for range 2 { // it helps the second time
			if err := g.e.Record(report.Anchor(time.Now())); err != nil {
				t.Fatal(err)
			}
			g.after(time.Second)
		}
		g.wants(map[string]report.State{"a": report.Done, "b": report.Degraded})
		if n := g.m.count("apply c"); n != 1 {
			t.Errorf("what is up was applied %d times", n)
		}
	})
	in(t, "also when it comes while the attempt runs", func(t *testing.T) {
		g := newRig(t, u("a", slow))
		s := g.m.unit("a")
		s.fails, s.err, s.took = 1, expired, 10*time.Second
		g.run()
		defer g.end()
		g.after(5 * time.Second)
		if err := g.e.Record(report.Anchor(time.Now())); err != nil {
			t.Fatal(err)
		}
		g.after(20 * time.Second)
		g.wants(map[string]report.State{"a": report.Done})
	})
	in(t, "and a clock that was set before the attempt is no reason to hurry", func(t *testing.T) {
		g := newRig(t, u("a", slow))
		s := g.m.unit("a")
		s.fails, s.err = -1, expired
		g.run()
		defer g.end()
		if err := g.e.Record(report.Anchor(time.Now())); err != nil {
			t.Fatal(err)
		}
		g.after(time.Minute)
		if n := g.m.count("apply a"); n > 2 {
			t.Errorf("applied %d times within a minute, want 2 at most", n)
		}
	})
}

func TestHalt(t *testing.T) {
	in(t, "nothing new starts, the network and retries go on, and recovery ends it", func(t *testing.T) {
		g := newRig(t,
			u("key/a", attempts(1), onFailure(plan.Halt)), u("luks/a", needs("key/a")),
			u("other", needs("link/x")),
			u("net/x", needs("link/x"), func(u *plan.Unit) { u.Stage = plan.Network }))
		g.m.unit("key/a").fails = 2
		g.run()
		defer g.end()
		g.fact("link/x", true, 1, "")
		g.wants(map[string]report.State{"key/a": report.Failed, "other": report.Waiting, "net/x": report.Done, "ready": report.Waiting})
		if n := len(g.log.find(report.Halted, "key/a")); n != 1 {
			t.Errorf("halted %d times", n)
		}
		g.after(10 * time.Second)
		g.wants(map[string]report.State{"key/a": report.Done, "luks/a": report.Done, "other": report.Done, "ready": report.Done})
		if n := len(g.log.find(report.Resumed, "")); n != 1 {
			t.Errorf("resumed %d times", n)
		}
	})
	in(t, "what the halting unit stands on may still start", func(t *testing.T) {
		g := newRig(t, u("luks/a", needs("block/a"), waits(5*time.Second)), u("root", needs("luks/a"), onFailure(plan.Halt)))
		g.run()
		defer g.end()
		g.after(6 * time.Second)
		g.wants(map[string]report.State{"luks/a": report.Degraded, "root": report.Failed, "ready": report.Waiting})
		g.fact("block/a", true, 1, "")
		g.wants(map[string]report.State{"luks/a": report.Done, "root": report.Done, "ready": report.Done})
	})
	in(t, "skipping the unit ends the halt", func(t *testing.T) {
		g := newRig(t, u("a", attempts(1), onFailure(plan.Halt)), u("b", comesAfter("a")))
		g.m.unit("a").fails = -1
		g.run()
		defer g.end()
		g.wants(map[string]report.State{"a": report.Failed, "b": report.Waiting})
		if err := g.e.Skip("a"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		g.wants(map[string]report.State{"a": report.Skipped, "b": report.Done, "ready": report.Done})
	})
	in(t, "a halted boot settles with its budget, without ready", func(t *testing.T) {
		g := newRig(t, u("a", attempts(1), onFailure(plan.Halt)), u("b", comesAfter("a")))
		g.m.unit("a").fails = -1
		g.run()
		defer g.end()
		g.after(3*time.Minute + time.Second)
		g.wants(map[string]report.State{"a": report.Failed, "b": report.Degraded, "ready": report.Degraded})
		if len(g.log.find(report.Settled, "")) != 1 || len(g.log.find(report.ReadyReached, "")) != 0 {
			t.Error("want settled and not ready")
		}
	})
	in(t, "a reboot that is refused leaves the boot halted and says why", func(t *testing.T) {
		g := newRig(t, u("a", attempts(1), onFailure(plan.Reboot)))
		g.m.unit("a").fails = -1
		g.run()
		defer g.end()
		notices := g.log.find(report.Notice, "")
		if len(notices) != 1 || !strings.Contains(notices[0].Text, "no reboot because of a") {
			t.Errorf("notices: %+v", notices)
		}
		if len(g.log.find(report.Halted, "a")) != 1 {
			t.Error("not halted")
		}
	})
}

func TestBudget(t *testing.T) {
	in(t, "what still waits or runs is degraded with the reason, and goes on", func(t *testing.T) {
		g := newRig(t, u("a", needs("endpoint/kms:5696")), u("b", func(u *plan.Unit) { u.Uninterruptible = true }))
		g.m.unit("b").took = 10 * time.Minute
		g.m.unit("b").progress = []Progress{{Text: "fsck.ext4: 40 %"}}
		g.run()
		defer g.end()
		g.fact("endpoint/kms:5696", false, 0, "eth0: no carrier")
		g.after(3*time.Minute + time.Second)
		g.wants(map[string]report.State{"a": report.Degraded, "b": report.Degraded, "ready": report.Done})
		for unit, want := range map[string]string{
			"a": "boot budget of 3m over, still waiting for endpoint/kms:5696: eth0: no carrier",
			"b": "boot budget of 3m over during apply: fsck.ext4: 40 %",
		} {
			list := g.log.find(report.UnitChanged, unit)
			if got := list[len(list)-1].Reason; got != want {
				t.Errorf("%s: reason %q, want %q", unit, got, want)
			}
		}
		g.fact("endpoint/kms:5696", true, 1, "")
		g.after(10 * time.Minute)
		g.wants(map[string]report.State{"a": report.Done, "b": report.Done})
	})
}

func TestStuck(t *testing.T) {
	in(t, "a process that cannot be ended makes its unit stuck, until it is gone", func(t *testing.T) {
		g := newRig(t, u("a"), u("b", comesAfter("a")))
		freed := make(chan struct{})
		g.m.unit("a").fails, g.m.unit("a").err = 1, stuckError{freed}
		g.run()
		defer g.end()
		g.wants(map[string]report.State{"a": report.Stuck, "b": report.Done, "ready": report.Done})
		if e := g.log.find(report.UnitChanged, "a")[0]; e.PID != 42 || e.Wchan != "blk_mq_freeze" {
			t.Errorf("stuck at pid %d in %q", e.PID, e.Wchan)
		}
		g.after(time.Hour)
		if n := g.m.count("apply a"); n != 1 {
			t.Errorf("applied %d times while stuck", n)
		}
		close(freed)
		synctest.Wait()
		g.wants(map[string]report.State{"a": report.Done})
	})
	in(t, "an action that ignores its deadline makes its unit stuck and is not run beside itself", func(t *testing.T) {
		g := newRig(t, u("a"))
		g.m.unit("a").deaf = 5 * time.Minute
		g.run()
		defer g.end()
		g.after(36 * time.Second)
		g.wants(map[string]report.State{"a": report.Stuck, "ready": report.Done})
		g.m.change("a", func(s *script) { s.deaf = 0 })
		g.after(10 * time.Minute)
		g.wants(map[string]report.State{"a": report.Done})
	})
}

type panics struct{ fake }

func (panics) Check(_ context.Context, _ *plan.Unit) (Checked, error) { panic("index out of range") }

type stuckError struct{ freed chan struct{} }

func (stuckError) Error() string            { return "pid 42 cannot be ended" }
func (stuckError) Stuck() (int, string)     { return 42, "blk_mq_freeze" }
func (e stuckError) Freed() <-chan struct{} { return e.freed }
