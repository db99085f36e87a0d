package main

import (
	"path/filepath"
	"strings"
	"testing"

	"initd/boot/plan"
	"initd/boot/report"
	"initd/boot/step"
	"initd/initd/handover"
)

func TestNobodyIsAdoptedWhereNothingWasHandedOver(t *testing.T) {
	err := adopt(t.Context(), places{run: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "there is no trace of that") {
		t.Errorf("got %v", err)
	}
}

func TestAnOrchestratorKnowsOnWhichSideItIs(t *testing.T) {
	run := t.TempDir()
	r := newRoot()
	if err := r.look(run); err != nil || r.handed != nil || r.inside {
		t.Fatalf("before: %+v, %v", r, err)
	}
	for _, row := range []struct {
		name, root string
		inside     bool
	}{
		{"the root is still mounted where it was to be handed over", "/proc", false}, // some mount point
		{"it is the root itself", filepath.Join(run, "nowhere"), true},
	} {
		if err := handover.Save(run, handover.State{Root: row.root, Plan: &plan.Plan{Schema: plan.Schema}}); err != nil {
			t.Fatal(err)
		}
		if err := r.look(run); err != nil || r.handed == nil || r.inside != row.inside {
			t.Errorf("%s: %+v, %v", row.name, r, err)
		}
	}
}

func TestPathsBeforeAndAfterTheHandOver(t *testing.T) {
	o := &orchestrator{places: places{run: "/run/initd"}, root: newRoot()}
	o.chosen.plan = &plan.Plan{}
	for _, row := range []struct {
		name         string
		units        []plan.Unit
		inside       bool
		root, resolv string
	}{
		{"no root in the plan", nil, false, "", "/etc/resolv.conf"},
		{"a root, not handed over yet", []plan.Unit{{ID: step.RootUnit}}, false, "/sysroot", "/etc/resolv.conf"},
		{"in that root", []plan.Unit{{ID: step.RootUnit}}, true, "", "/run/initd/resolv.conf"},
	} {
		o.chosen.plan, o.root.inside = &plan.Plan{Units: row.units}, row.inside
		if p := o.paths(nil); p.Root != row.root || p.Resolv != row.resolv {
			t.Errorf("%s: got root %q and %s, want %q and %s", row.name, p.Root, p.Resolv, row.root, row.resolv)
		}
	}
}

func TestTheGenerationCountsOn(t *testing.T) {
	run := t.TempDir()
	if n, err := lastGeneration(run); n != 0 || err != nil {
		t.Errorf("without events: %d, %v", n, err)
	}
	for _, gen := range []uint64{1, 4, 2} {
		w, err := report.Open(filepath.Join(run, "events"), gen)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Append(&report.Event{Kind: report.Notice, Text: "x"}); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := lastGeneration(run); n != 4 || err != nil {
		t.Errorf("got %d, %v; want 4", n, err)
	}
}
