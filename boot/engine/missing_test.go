package engine

import (
	"testing"
	"time"

	"initd/boot/plan"
	"initd/boot/report"
)

func patience(d time.Duration) func(*plan.Unit) {
	return func(u *plan.Unit) { u.Patience = plan.Duration(d) }
}

func TestMissingDevicesDoNotHoldUpWhatIsDoneWithoutThem(t *testing.T) {
	root := u("root", needs("block/root"), patience(2*time.Second))
	in(t, "they are waited for until no device has come for as long as the patience is", func(t *testing.T) {
		g := newRig(t, root, u("luks/a", needs("block/a")), u("luks/b", needs("block/b")), u("mount/b", needs("luks/b")))
		g.run()
		defer g.end()
		g.fact("block/b", false, 0, "no such device")
		g.fact("block/root", true, 1, "")
		g.after(1900 * time.Millisecond)
		g.fact("block/a", true, 1, "")
		g.after(1900 * time.Millisecond)
		g.wants(map[string]report.State{"root": report.Done, "luks/a": report.Done, "luks/b": report.Waiting, "mount/b": report.Waiting, "ready": report.Waiting})
		g.after(100 * time.Millisecond)
		g.wants(map[string]report.State{"luks/b": report.Degraded, "mount/b": report.Degraded, "ready": report.Done})
		const reason = "still waiting for block/b: no such device; all else is done, and no device has come for 2s"
		if list := g.log.find(report.UnitChanged, "luks/b"); list[len(list)-1].Reason != reason {
			t.Errorf("got %q, want %q", list[len(list)-1].Reason, reason)
		}
		g.fact("block/b", true, 1, "")
		g.wants(map[string]report.State{"luks/b": report.Done, "mount/b": report.Done})
	})
	for _, row := range []struct {
		name string
		more []plan.Unit
		want map[string]report.State
	}{
		{"not while the impatient one is not up", []plan.Unit{u("root", needs("block/none"), patience(2*time.Second)), u("luks/b", needs("block/b"))},
			map[string]report.State{"root": report.Waiting, "luks/b": report.Waiting, "ready": report.Waiting}},
		{"not while somebody waits for something else, which may bring them",
			[]plan.Unit{root, u("iscsi/b", needs("endpoint/t:3260")), u("luks/b", needs("block/b"))},
			map[string]report.State{"root": report.Done, "luks/b": report.Waiting, "ready": report.Waiting}},
		{"not those whose policy says how long", []plan.Unit{root, u("luks/b", needs("block/b"), waits(time.Minute))},
			map[string]report.State{"luks/b": report.Waiting, "ready": report.Waiting}},
		{"not those without whom the boot halts", []plan.Unit{root, u("luks/b", needs("block/b"), onFailure(plan.Halt))},
			map[string]report.State{"luks/b": report.Waiting, "ready": report.Waiting}},
		{"without an impatient one they are waited for", []plan.Unit{u("root", needs("block/root")), u("luks/b", needs("block/b"))},
			map[string]report.State{"root": report.Done, "luks/b": report.Waiting, "ready": report.Waiting}},
		{"enough of several are there", []plan.Unit{root, u("pool", needsAny(1, "block/root", "block/b")), u("md", needsAny(2, "block/root", "block/b"))},
			map[string]report.State{"pool": report.Done, "md": report.Degraded, "ready": report.Done}},
	} {
		in(t, row.name, func(t *testing.T) {
			g := newRig(t, row.more...)
			g.run()
			defer g.end()
			g.fact("block/root", true, 1, "")
			g.after(20 * time.Second)
			g.wants(row.want)
		})
	}
	in(t, "not while another one is at work", func(t *testing.T) {
		g := newRig(t, root, u("slow"), u("luks/b", needs("block/b")))
		g.m.unit("slow").took = 10 * time.Second
		g.run()
		defer g.end()
		g.fact("block/root", true, 1, "")
		g.after(9 * time.Second)
		g.wants(map[string]report.State{"slow": report.Running, "luks/b": report.Waiting})
		g.after(time.Second)
		g.wants(map[string]report.State{"slow": report.Done, "luks/b": report.Degraded, "ready": report.Done})
	})
}
