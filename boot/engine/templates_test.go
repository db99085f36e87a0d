package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"initd/boot/plan"
	"initd/boot/report"
)

// drives is a kind whose template matches drives.
type drives struct{ fake }

func (drives) Instances(t *plan.Template, f plan.Fact) ([]plan.Unit, error) {
	if f.Attrs["model"] == "broken" {
		return nil, errors.New("model broken has no serial")
	}
	if f.Attrs["model"] != "KCD" {
		return nil, nil
	}
	id := "sed/" + f.Attrs["serial"]
	return []plan.Unit{{ID: id, Kind: "sed", Needs: []plan.Need{{AnyOf: []plan.Resource{f.Resource}}}, Provides: []plan.Resource{plan.Resource(id)}}}, nil
}

func TestTemplates(t *testing.T) {
	template := plan.Template{ID: "drives", Kind: "sed", Stage: plan.Unlock, Class: "block", Expect: plan.Expect{Count: 3, Within: plan.Duration(30 * time.Second)}}
	post := func(g *rig, n int, model string) {
		f := plan.Fact{Resource: plan.Resource(fmt.Sprintf("block/path/%d", n)), Present: true, Generation: 1,
			Attrs: map[string]string{"model": model, "serial": fmt.Sprint("S", n), "dev": fmt.Sprint("/dev/nvme", n)}}
		if err := g.e.Post(f); err != nil {
			g.t.Fatal(err)
		}
		synctest.Wait()
	}
	in(t, "each drive that matches becomes a unit; fewer than expected degrade the template; late ones join", func(t *testing.T) {
		g := newRig(t, u("a"))
		g.cfg.Plan.Templates = []plan.Template{template}
		g.cfg.Actions["sed"] = drives{fake{g.m}}
		g.run()
		defer g.end()
		post(g, 1, "KCD")
		post(g, 2, "other")
		post(g, 3, "KCD")
		post(g, 4, "broken")
		post(g, 1, "KCD")
		g.wants(map[string]report.State{"sed/S1": report.Done, "sed/S3": report.Done, "drives": "", "ready": report.Waiting})
		g.after(31 * time.Second)
		g.wants(map[string]report.State{"drives": report.Degraded, "ready": report.Done})
		changes := g.log.find(report.TemplateChanged, "drives")
		if got, want := changes[len(changes)-1].Reason, "2 of 3 there after 30s"; got != want {
			t.Errorf("reason %q, want %q", got, want)
		}
		g.after(time.Hour)
		post(g, 5, "KCD")
		g.wants(map[string]report.State{"sed/S5": report.Done, "drives": report.Done})
		if _, ok := g.log.states()["sed/S2"]; ok {
			t.Error("another model became a unit")
		}
	})
	in(t, "ready waits until the template is whole and its units are through", func(t *testing.T) {
		g := newRig(t, u("a"))
		g.cfg.Plan.Templates = []plan.Template{template}
		g.cfg.Actions["sed"] = drives{fake{g.m}}
		g.m.unit("sed/S2").took = 5 * time.Second
		g.run()
		defer g.end()
		for n := range 3 {
			post(g, n, "KCD")
		}
		g.wants(map[string]report.State{"drives": report.Done, "sed/S2": report.Running, "ready": report.Waiting})
		g.after(6 * time.Second)
		g.wants(map[string]report.State{"sed/S2": report.Done, "ready": report.Done})
	})
}

// wire is a watcher whose facts a test sends.
type wire struct {
	interests chan []plan.Resource
	facts     chan []plan.Fact
	fail      chan error
	starts    atomic.Int32
}

func (w *wire) Classes() []string { return []string{"block"} }

func (w *wire) Watch(ctx context.Context, interests <-chan []plan.Resource, post func([]plan.Fact)) error {
	w.starts.Add(1)
	for {
		select {
		case <-ctx.Done():
			return nil
		case list := <-interests:
			w.interests <- list
		case f := <-w.facts:
			post(f)
		case err := <-w.fail:
			return err
		}
	}
}

func TestWatchers(t *testing.T) {
	in(t, "a watcher hears what is needed, and is started again when it fails", func(t *testing.T) {
		w := &wire{interests: make(chan []plan.Resource, 10), facts: make(chan []plan.Fact), fail: make(chan error)}
		g := newRig(t, u("a", needs("block/a", "endpoint/k:1")), u("b", needsAny(1, "block/b", "block/a"), claims("block/c")))
		g.cfg.Watchers = []Watcher{w}
		g.run()
		defer g.end()
		want := []plan.Resource{"block/a", "block/b", "block/c"}
		if diff := cmp.Diff(want, <-w.interests); diff != "" {
			t.Errorf("interests (-want +got):\n%s", diff)
		}
		w.facts <- []plan.Fact{{Resource: "block/b", Present: true, Generation: 1}}
		synctest.Wait()
		g.wants(map[string]report.State{"b": report.Done})
		w.fail <- errors.New("netlink: too many open files")
		g.after(2 * time.Second)
		if w.starts.Load() != 2 {
			t.Errorf("started %d times, want 2", w.starts.Load())
		}
		if diff := cmp.Diff(want, <-w.interests); diff != "" {
			t.Errorf("interests after the restart (-want +got):\n%s", diff)
		}
		if n := g.log.find(report.Notice, ""); len(n) != 1 || !strings.Contains(n[0].Text, "too many open files") {
			t.Errorf("notices: %+v", n)
		}
	})
	in(t, "an instance's needs reach the watcher, and what it saw before counts", func(t *testing.T) {
		w := &wire{interests: make(chan []plan.Resource, 10), facts: make(chan []plan.Fact), fail: make(chan error)}
		g := newRig(t, u("a"))
		g.cfg.Plan.Templates = []plan.Template{{ID: "drives", Kind: "sed", Class: "link"}}
		g.cfg.Actions["sed"] = linked{fake{g.m}}
		g.cfg.Watchers = []Watcher{w}
		g.run()
		defer g.end()
		<-w.interests
		g.fact("block/for-x", true, 1, "")
		g.fact("link/x", true, 1, "")
		if diff := cmp.Diff([]plan.Resource{"block/for-x"}, <-w.interests); diff != "" {
			t.Errorf("interests (-want +got):\n%s", diff)
		}
		synctest.Wait()
		g.wants(map[string]report.State{"of-x": report.Done})
	})
}

type linked struct{ fake }

func (linked) Instances(_ *plan.Template, f plan.Fact) ([]plan.Unit, error) {
	n := f.Resource.Name()
	return []plan.Unit{{ID: "of-" + n, Kind: "fake", Needs: []plan.Need{{AnyOf: []plan.Resource{plan.Resource("block/for-" + n)}}}}}, nil
}
