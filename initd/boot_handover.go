package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"initd/boot/plan"
	"initd/boot/report"
	"initd/boot/step"
	"initd/hw/dm"
	"initd/hw/mount"
	"initd/initd/handover"
	"initd/initd/pid1/client"
	"initd/initd/pid1/wire"
)

// sysroot is where the root is mounted until the machine is handed over to it.
const sysroot = "/sysroot"

// root is what an orchestrator knows of the root that its plan may have.
type root struct {
	handed *handover.State // what an orchestrator before this one handed over; nil without
	inside bool            // this is that root
	up     chan struct{}   // closed when the unit root is done
	isUp   bool            // belongs to the engine's loop
	again  chan struct{}   // somebody asks to try once more
	leave  chan struct{}   // closed when the machine is to be handed over
}

func newRoot() root {
	return root{up: make(chan struct{}), again: make(chan struct{}, 1), leave: make(chan struct{})}
}

// look finds out what an orchestrator before this one did about the root.
func (r *root) look(run string) error {
	var err error
	if r.handed, err = handover.Load(run); err != nil || r.handed == nil {
		return err
	}
	list, err := mount.List()
	r.inside = err == nil && mount.At(list, r.handed.Root) == nil
	return err
}

// heard is called with every event, in the engine's loop.
func (o *orchestrator) heard(e report.Event) {
	o.screen.show(e)
	if e.Kind == report.UnitChanged && e.Unit == step.RootUnit && e.State.OK() && !o.root.isUp {
		o.root.isUp = true
		close(o.root.up)
	}
}

// paths are where the steps find things, before and after the hand-over.
func (o *orchestrator) paths(identity []string) step.Paths {
	p := step.Paths{Config: o.chosen.config, Identity: identity, Run: o.run, Resolv: "/etc/resolv.conf"}
	switch {
	case o.root.inside:
		p.Resolv = filepath.Join(o.run, "resolv.conf") // that in /etc is the root's own
	case o.chosen.plan.Unit(step.RootUnit) != nil:
		p.Root = sysroot
	}
	return p
}

// awaitRoot says when the machine can be handed over: all is ready, and the
// root too. A hand-over that failed is not tried again by itself.
func (o *orchestrator) awaitRoot(ctx context.Context) {
	if o.root.inside || o.chosen.plan.Unit(step.RootUnit) == nil {
		return
	}
	if o.root.handed != nil {
		o.note("the machine was not handed over to the root, for the reason that init said; to try once more: initd retry " + step.RootUnit)
		select {
		case <-o.root.again:
		case <-ctx.Done():
			return
		}
	}
	for _, c := range []<-chan struct{}{o.engine.Load().ReadyC(), o.root.up} {
		select {
		case <-c:
		case <-ctx.Done():
			return
		}
	}
	close(o.root.leave)
}

// handOverTime bounds what is written before the hand-over.
const handOverTime = 2 * time.Minute

// prepareHandOver leaves what the new root needs of this one. Nothing is given
// up yet, and the engine goes on. copied says whether the program was kept.
func (o *orchestrator) prepareHandOver(ctx context.Context, copied <-chan error) error {
	ctx, cancel := context.WithTimeout(ctx, handOverTime)
	defer cancel()
	select {
	case err := <-copied:
		if err != nil { // once more, for now it matters
			err = o.keepProgramNow(ctx)
		}
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	links, err := step.KeptLinks(o.chosen.plan)
	if err != nil {
		return err
	}
	var kept []handover.Link
	for _, l := range links {
		kept = append(kept, handover.Link{Name: l.Name, Kernel: l.Kernel})
	}
	if err := handover.Prepare(filepath.Dir(o.run), kept, rootChecked(o.chosen.plan)); err != nil {
		return err
	}
	return dm.Record(filepath.Join(filepath.Dir(o.run), "udev/data"))
}

// rootChecked tells whether the plan checks the root's file system before it
// mounts it.
func rootChecked(p *plan.Plan) bool {
	u := p.Unit(string(plan.MountResource("/")))
	var s struct {
		FSCK bool `json:"fsck"`
	}
	return u != nil && json.Unmarshal(u.Spec, &s) == nil && s.FSCK
}

// handOver lets init hand the machine over when this process has ended. The
// engine has ended.
func (o *orchestrator) handOver(ctx context.Context) error {
	init, _ := step.RootInit(o.chosen.plan)
	err := handover.Save(o.run, handover.State{
		Generation: o.gen, Root: sysroot, Init: init, Config: o.chosen.config, Plan: o.chosen.plan,
	})
	if err != nil {
		return err
	}
	o.record(report.Event{Kind: report.Notice, Text: fmt.Sprintf("the machine is handed over to %s of the root; this report goes on there", init)})
	patience, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	o.screen.drain(patience.Done())
	err = o.init.SwitchRoot(ctx, wire.SwitchRoot{Root: sysroot, Init: init, Adopt: true})
	if err != nil && !errors.Is(err, client.ErrLost) {
		o.record(report.Event{Kind: report.Notice, Text: "the machine is not handed over: " + err.Error()})
		return err
	}
	return nil
}

// lastGeneration is the generation of the last orchestrator that wrote to the
// event file.
func lastGeneration(run string) (uint64, error) {
	events, err := report.ReadFile(filepath.Join(run, "events"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, err
	}
	last := uint64(0)
	for i := range events {
		last = max(last, events[i].Gen)
	}
	return last, nil
}
