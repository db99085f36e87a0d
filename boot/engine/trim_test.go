package engine

import (
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"initd/boot/report"
)

// TestALongLogStaysBounded lets a unit fail in the background for days, with
// small bounds, and wants little memory and the right report.
func TestALongLogStaysBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "events")
		w, err := report.Open(path, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		g := newRig(t, u("a", attempts(1)), u("b", needs("block/b")), u("c"), u("d", needs("c")))
		g.m.unit("a").fails = -1
		g.cfg.Log, g.cfg.keepFirst, g.cfg.trimEvery = w, 1<<20, 1<<20
		g.run()
		g.fact("block/b", true, 1, "")
		g.after(3 * 24 * time.Hour)
		g.fact("block/b", false, 0, "unplugged")
		g.m.change("a", func(s *script) { s.fails = 0 })
		g.after(3 * 24 * time.Hour)
		g.end()
		var st syscall.Stat_t
		if err := syscall.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		if st.Size < 5*g.cfg.trimEvery {
			t.Fatalf("the story is too short to be trimmed: %d bytes", st.Size)
		}
		if used := st.Blocks * 512; used > g.cfg.keepFirst+2*g.cfg.trimEvery {
			t.Errorf("%d KiB of memory in use", used>>10)
		}
		events, err := report.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		r := report.Fold(events)
		got := map[string]report.State{}
		for _, u := range r.Units {
			got[u.ID] = u.State
		}
		want := map[string]report.State{"a": report.Done, "b": report.Done, "c": report.Done, "d": report.Done, "ready": report.Done}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
		if b := r.Unit("b"); b.Lost == "" {
			t.Errorf("the loss of block/b is not in the report: %+v", b)
		}
		synctest.Wait()
	})
}
