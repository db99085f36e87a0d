package engine

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"initd/boot/plan"
	"initd/boot/report"
)

func TestLoss(t *testing.T) {
	in(t, "a lost need is an event and the unit stays", func(t *testing.T) {
		g := newRig(t, u("a", needs("block/a")))
		g.run()
		defer g.end()
		g.fact("block/a", true, 1, "")
		g.fact("block/a", false, 1, "removed")
		g.wants(map[string]report.State{"a": report.Done})
		g.fact("block/a", true, 2, "")
		var got []string
		for _, e := range g.log.find(report.NeedLost, "a") {
			got = append(got, string(e.Presence)+": "+e.Reason)
		}
		if diff := cmp.Diff([]string{"lost: block/a: removed", "present: everything it needs is there again"}, got); diff != "" {
			t.Errorf("losses (-want +got):\n%s", diff)
		}
		if n := g.m.count("check a"); n != 1 {
			t.Errorf("checked %d times", n)
		}
	})
	in(t, "recheck looks again when the need is back, and applies what is gone", func(t *testing.T) {
		g := newRig(t, u("luks/a", needs("block/a"), loses(plan.LossRecheck)), u("mount/a", needs("luks/a"), loses(plan.LossRecheck)))
		g.run()
		defer g.end()
		g.fact("block/a", true, 1, "")
		g.fact("block/a", false, 0, "removed")
		g.wants(map[string]report.State{"luks/a": report.Lost, "mount/a": report.Done})
		g.fact("block/a", true, 2, "") // the volume is still open
		g.wants(map[string]report.State{"luks/a": report.Done, "mount/a": report.Done})
		if n := g.m.count("check mount/a"); n != 1 {
			t.Errorf("mount checked %d times, though its volume never went", n)
		}
		g.m.remove("luks/a")
		g.fact("block/a", false, 0, "removed")
		g.fact("block/a", true, 3, "")
		g.wants(map[string]report.State{"luks/a": report.Done, "mount/a": report.Done})
		if g.m.count("apply luks/a") != 2 || g.m.count("check mount/a") != 2 {
			t.Errorf("calls: %v", g.m.calls)
		}
	})
	in(t, "an operator's retry looks once although needs are missing, and finds what was made by hand", func(t *testing.T) {
		g := newRig(t, u("key/a", needs("block/a"), loses(plan.LossRecheck)), u("b", needs("key/a")))
		g.run()
		defer g.end()
		if err := g.e.Retry("key/a"); err != nil {
			t.Fatal(err)
		}
		g.after(0)
		g.wants(map[string]report.State{"key/a": report.Waiting, "b": report.Waiting})
		if g.m.count("check key/a") != 1 || g.m.count("apply key/a") != 0 {
			t.Errorf("calls: %v", g.m.calls)
		}
		g.m.put("key/a")
		if err := g.e.Retry("key/a"); err != nil {
			t.Fatal(err)
		}
		g.after(0)
		g.wants(map[string]report.State{"key/a": report.Adopted, "b": report.Done})
		g.fact("block/a", true, 1, "")
		g.wants(map[string]report.State{"key/a": report.Adopted, "b": report.Done})
	})
	in(t, "two retries while needs are missing are two looks, and nothing is made", func(t *testing.T) {
		g := newRig(t, u("a", needs("block/a"), func(u *plan.Unit) { u.Uninterruptible = true }))
		g.m.unit("a").checks = time.Second
		g.run()
		defer g.end()
		for range 2 {
			if err := g.e.Retry("a"); err != nil {
				t.Fatal(err)
			}
			g.after(100 * time.Millisecond)
		}
		g.after(10 * time.Second)
		g.wants(map[string]report.State{"a": report.Waiting})
		if g.m.count("check a") != 2 || g.m.count("apply a") != 0 {
			t.Errorf("calls: %v", g.m.calls)
		}
	})
	in(t, "stop withdraws what the unit provides", func(t *testing.T) {
		g := newRig(t, u("a", needs("block/a"), loses(plan.LossStop)), u("b", needs("a"), loses(plan.LossStop)), u("c", needs("b")))
		g.m.unit("c").checks = 20 * time.Second // c has not started its work when b goes
		g.run()
		defer g.end()
		g.fact("block/a", true, 1, "")
		g.fact("block/a", false, 0, "removed")
		g.wants(map[string]report.State{"a": report.Lost, "b": report.Lost})
		g.after(time.Hour)
		g.fact("block/a", true, 2, "")
		g.after(time.Hour)
		g.wants(map[string]report.State{"a": report.Done, "b": report.Done, "c": report.Done})
	})
	in(t, "a service that died for good is started again", func(t *testing.T) {
		g := newRig(t, u("service/a"), u("b", needs("service/a"), loses(plan.LossRecheck)))
		g.run()
		defer g.end()
		g.m.remove("service/a")
		if err := g.e.Lose("service/a", "exited with status 1, 5 times"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		g.wants(map[string]report.State{"service/a": report.Done, "b": report.Done})
		if g.m.count("apply service/a") != 2 || g.m.count("check b") != 2 {
			t.Errorf("calls: %v", g.m.calls)
		}
	})
}

func TestClaims(t *testing.T) {
	in(t, "a claimed device satisfies nobody else by any of its names until the claimant is done", func(t *testing.T) {
		g := newRig(t, u("luks/a", needs("block/uuid/1", "key/a"), claims("block/uuid/1")), u("key/a", needs("endpoint/k:1")),
			u("mount/x", needs("block/dev/vdb")))
		g.run()
		defer g.end()
		dev := map[string]string{"dev": "/dev/vdb"}
		err := g.e.Post(
			plan.Fact{Resource: "block/dev/vdb", Present: true, Generation: 1, Attrs: dev},
			plan.Fact{Resource: "block/uuid/1", Present: true, Generation: 1, Attrs: dev})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		g.wants(map[string]report.State{"mount/x": report.Waiting})
		list := g.log.find(report.UnitChanged, "mount/x")
		if got, want := list[len(list)-1].Waits[0].Reason, "taken by luks/a, which is not done"; got != want {
			t.Errorf("reason %q, want %q", got, want)
		}
		g.fact("endpoint/k:1", true, 1, "")
		g.wants(map[string]report.State{"luks/a": report.Done, "mount/x": report.Done})
	})
	in(t, "who makes something of a device goes before who needs it, wherever they stand in the plan", func(t *testing.T) {
		g := newRig(t, u("luks/a", needs("block/uuid/1"), claims("block/uuid/1")), u("map/a", needs("endpoint/k:1"), claims("block/path/leg")))
		g.run()
		defer g.end()
		dev := map[string]string{"dev": "/dev/sda"}
		err := g.e.Post(
			plan.Fact{Resource: "block/path/leg", Present: true, Generation: 1, Attrs: dev},
			plan.Fact{Resource: "block/uuid/1", Present: true, Generation: 1, Attrs: dev})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		g.wants(map[string]report.State{"luks/a": report.Waiting, "map/a": report.Waiting})
		g.fact("endpoint/k:1", true, 1, "")
		g.wants(map[string]report.State{"luks/a": report.Done, "map/a": report.Done})
	})
	in(t, "two claims on one name do not block each other", func(t *testing.T) {
		g := newRig(t, u("luks/a", needs("block/h"), claims("block/h")), u("luks/b", needs("block/h"), claims("block/h")))
		g.run()
		defer g.end()
		g.fact("block/h", true, 1, "")
		g.wants(map[string]report.State{"luks/a": report.Done, "luks/b": report.Done})
	})
}

func TestBatches(t *testing.T) {
	in(t, "units that become runnable together share one call", func(t *testing.T) {
		g := newRig(t, u("key/a", needs("endpoint/k:1"), batched("g")), u("key/b", needs("endpoint/k:1"), batched("g")),
			u("key/c", needs("endpoint/k:1"), batched("h")))
		g.m.unit("key/b").checks = 500 * time.Millisecond
		g.run()
		defer g.end()
		g.fact("endpoint/k:1", true, 1, "")
		g.after(time.Second)
		g.wants(map[string]report.State{"key/a": report.Done, "key/b": report.Done, "key/c": report.Done})
		if g.m.count("batch key/a key/b") != 1 || g.m.count("batch key/c") != 1 {
			t.Errorf("calls: %v", g.m.calls)
		}
	})
	in(t, "a check that takes too long does not hold the batch up", func(t *testing.T) {
		g := newRig(t, u("key/a", batched("g")), u("key/b", batched("g")))
		g.m.unit("key/b").checks = 10 * time.Second
		g.run()
		defer g.end()
		g.after(2 * time.Second)
		g.wants(map[string]report.State{"key/a": report.Done, "key/b": report.Running})
		g.after(10 * time.Second)
		g.wants(map[string]report.State{"key/b": report.Done})
	})
	in(t, "results come one by one, and those that failed together try again together", func(t *testing.T) {
		g := newRig(t, u("key/a", batched("g"), attempts(1)), u("key/b", batched("g"), attempts(1)), u("key/c", batched("g"), attempts(1)))
		g.m.unit("key/a").took = 20 * time.Second
		g.m.unit("key/b").fails, g.m.unit("key/c").fails = 1, 1
		g.m.unit("key/c").took = 100 * time.Millisecond
		g.run()
		defer g.end()
		g.after(3 * time.Second)
		g.wants(map[string]report.State{"key/a": report.Running, "key/b": report.Done, "key/c": report.Done})
		if g.m.count("batch key/b key/c") != 1 {
			t.Errorf("calls: %v", g.m.calls)
		}
		g.after(20 * time.Second)
		g.wants(map[string]report.State{"key/a": report.Done})
	})
	in(t, "an answer that the action forgets is an error", func(t *testing.T) {
		g := newRig(t, u("key/a", batched("g"), attempts(1)))
		g.cfg.Actions["batch"] = forgetful{batchFake{fake{g.m}}}
		g.run()
		defer g.end()
		g.wants(map[string]report.State{"key/a": report.Degraded})
	})
}

// undivided cannot end one part alone.
type undivided struct{ batchFake }

func (f undivided) ApplyBatch(ctx context.Context, us []Part, progress func(int, Progress), done func(int, error)) {
	for i := range us {
		us[i].Context = ctx
	}
	f.batchFake.ApplyBatch(ctx, us, progress, done)
}

type forgetful struct{ batchFake }

func (forgetful) ApplyBatch(context.Context, []Part, func(int, Progress), func(int, error)) {}

func TestOrders(t *testing.T) {
	in(t, "a key fed by hand is found by a retry that ends the attempt", func(t *testing.T) {
		g := newRig(t, u("key/a"))
		g.m.unit("key/a").hang = true
		g.run()
		defer g.end()
		g.wants(map[string]report.State{"key/a": report.Running})
		g.m.mu.Lock()
		g.m.there["key/a"] = true
		g.m.mu.Unlock()
		if err := g.e.Retry("key/a"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		// The fake's rollback takes the key away again, so that it is fetched; what counts is that the attempt ended.
		if n := g.m.count("check key/a"); n != 2 {
			t.Errorf("checked %d times, want 2", n)
		}
	})
	in(t, "a retry does not wait for the next attempt", func(t *testing.T) {
		g := newRig(t, u("a", attempts(1)))
		g.m.unit("a").fails = 6
		g.run()
		defer g.end()
		g.after(20 * time.Second)
		g.wants(map[string]report.State{"a": report.Degraded})
		g.m.change("a", func(s *script) { s.fails = 0 })
		if err := g.e.Retry("a"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		g.wants(map[string]report.State{"a": report.Done})
	})
	for order, do := range map[string]func(*Engine, string) error{"skip": (*Engine).Skip, "retry": (*Engine).Retry} {
		in(t, "a "+order+" of one of a batch leaves the others alone", func(t *testing.T) {
			g := newRig(t, u("key/a", batched("g")), u("key/b", batched("g")))
			g.m.unit("key/a").hang = true
			g.m.unit("key/b").took = 10 * time.Second
			g.run()
			defer g.end()
			g.after(5 * time.Second)
			g.m.change("key/a", func(s *script) { s.hang = false })
			if err := do(g.e, "key/a"); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			want := map[string]report.State{"skip": report.Skipped, "retry": report.Done}[order]
			g.wants(map[string]report.State{"key/a": want, "key/b": report.Running})
			g.after(6 * time.Second) // ten seconds after it began, not after the order
			g.wants(map[string]report.State{"key/a": want, "key/b": report.Done, "ready": report.Done})
			if n := g.m.count("apply key/b"); n != 1 {
				t.Errorf("key/b was begun %d times", n)
			}
			if off := g.log.find(report.AttemptCancelled, ""); len(off) != 1 || off[0].Unit != "key/a" {
				t.Errorf("called off: %+v", off)
			}
		})
	}
	in(t, "a call ends with the last part that somebody wants", func(t *testing.T) {
		g := newRig(t, u("key/a", batched("g")), u("key/b", batched("g")))
		g.cfg.Actions["batch"] = undivided{batchFake{fake{g.m}}}
		g.m.unit("key/a").hang, g.m.unit("key/b").hang = true, true
		g.run()
		defer g.end()
		for _, step := range []struct {
			skip string
			ends int // of attempts of key/a: its check; and its part, and cleaning up
		}{{"key/a", 1}, {"key/b", 3}} {
			if err := g.e.Skip(step.skip); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if n := len(g.log.find(report.AttemptEnded, "key/a")); n != step.ends {
				t.Errorf("after the skip of %s: %d ends of attempts of key/a, want %d", step.skip, n, step.ends)
			}
		}
	})
	in(t, "a stop is kept by the ledger and ended by a retry", func(t *testing.T) {
		l := newLedger()
		g := newRig(t, u("service/a"), u("b", needs("service/a"), loses(plan.LossRecheck)))
		g.cfg.Ledger = l
		g.run()
		if err := g.e.Stop("service/a"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		g.wants(map[string]report.State{"service/a": report.Skipped, "b": report.Lost})
		g.end()
		h := newRig(t, g.cfg.Plan.Units[:2]...)
		h.cfg.Ledger = l
		h.run()
		defer h.end()
		h.wants(map[string]report.State{"service/a": report.Skipped, "b": report.Degraded})
		if err := h.e.Retry("service/a"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		h.wants(map[string]report.State{"service/a": report.Done, "b": report.Done})
		if l.Stopped("service/a") {
			t.Error("still stopped")
		}
	})
	in(t, "an order for a unit that is not there is refused", func(t *testing.T) {
		g := newRig(t, u("a"))
		g.run()
		defer g.end()
		if err := g.e.Retry("b"); !errors.Is(err, ErrUnknownUnit) {
			t.Errorf("got %v", err)
		}
	})
	in(t, "units named on the command line are skipped", func(t *testing.T) {
		g := newRig(t, u("a"), u("b", comesAfter("a")), u("c", needs("a")))
		g.cfg.Skip = []string{"a", "x"}
		g.run()
		defer g.end()
		g.wants(map[string]report.State{"a": report.Skipped, "b": report.Done, "c": report.Degraded, "ready": report.Done})
		if n := g.m.count("check a"); n != 0 {
			t.Errorf("a was checked %d times", n)
		}
	})
}

func TestHeartbeatComesFromTheLoop(t *testing.T) {
	in(t, "every second, and never while the loop hangs", func(t *testing.T) {
		g := newRig(t, u("a"))
		var beats atomic.Int32
		hang := make(chan struct{})
		g.cfg.Heartbeat = func() { beats.Add(1) }
		g.cfg.Notify = func(e report.Event) {
			if e.Kind == report.KernelFact {
				<-hang
			}
		}
		g.run()
		defer g.end()
		before := beats.Load()
		g.after(10 * time.Second)
		if n := beats.Load() - before; n < 9 || n > 11 {
			t.Errorf("%d beats in 10 s", n)
		}
		if err := g.e.Record(report.Event{Kind: report.KernelFact, Text: "x"}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		before = beats.Load()
		g.after(10 * time.Second)
		if n := beats.Load() - before; n != 0 {
			t.Errorf("%d beats while the loop hung", n)
		}
		close(hang)
	})
}

func TestSuccessor(t *testing.T) {
	in(t, "takes over what is there, and goes on with the budget and the attempts", func(t *testing.T) {
		l := newLedger()
		g := newRig(t, u("a"), u("b", attempts(3)), u("c", needs("block/c")))
		g.cfg.Ledger = l
		g.m.unit("b").fails = 2
		g.run()
		g.after(1500 * time.Millisecond) // b has failed twice
		g.after(98500 * time.Millisecond)
		g.end()
		h := newRig(t, u("a"), u("b", attempts(3)), u("c", needs("block/c")))
		h.m.there["a"] = true
		h.m.start = g.m.start
		h.m.unit("b").fails = 1
		h.cfg.Ledger = l
		if err := l.Intent("unit/b"); err != nil { // as if killed during an attempt
			t.Fatal(err)
		}
		h.run()
		defer h.end()
		h.wants(map[string]report.State{"a": report.Adopted, "c": report.Waiting})
		if e := h.log.find(report.AttemptStarted, "b")[0]; e.Attempt != 2 {
			t.Errorf("attempt %d, want the second: one began and did not end", e.Attempt)
		}
		h.after(81 * time.Second) // 100 + 81 > 180
		h.wants(map[string]report.State{"c": report.Degraded, "ready": report.Done})
	})
	in(t, "looks around before it says that it waited long enough", func(t *testing.T) {
		l := newLedger()
		g := newRig(t, u("a", needs("block/a"), waits(20*time.Second)), u("b", needs("block/b"), waits(20*time.Second)))
		g.cfg.Ledger = l
		g.run()
		g.after(10 * time.Second) // not settled yet
		g.end()
		time.Sleep(50 * time.Second) // of virtual time
		h := newRig(t, u("a", needs("block/a"), waits(20*time.Second)), u("b", needs("block/b"), waits(20*time.Second)))
		h.m.start = g.m.start
		h.cfg.Ledger = l
		h.run()
		defer h.end()
		h.wants(map[string]report.State{"a": report.Waiting, "b": report.Waiting})
		h.after(lookAround / 2)
		h.fact("block/a", true, 1, "")
		h.wants(map[string]report.State{"a": report.Done, "b": report.Waiting})
		h.after(lookAround)
		h.wants(map[string]report.State{"b": report.Degraded})
	})
}
