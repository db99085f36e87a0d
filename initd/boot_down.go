package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"initd/boot/report"
	"initd/boot/step"
	"initd/hw/mount"
	"initd/initd/pid1/client"
	"initd/initd/pid1/wire"
)

// wait returns when somebody asks for a way down. An engine that ends, or a
// connection to init that does, ends this process: init starts another. No
// kind and no error: the machine is to be handed over to its root.
func (o *orchestrator) wait(ended <-chan error) (wire.Kind, error) {
	if k := o.init.Hello().Pending; k.Valid() {
		return k, nil
	}
	for {
		select {
		case err := <-ended:
			return 0, fmt.Errorf("the engine ended: %w", err)
		case <-o.init.Done():
			return 0, client.ErrLost
		case <-o.root.leave:
			return 0, nil
		case name := <-o.down:
			return kinds[name], nil
		case e := <-o.told:
			switch e.Kind {
			case wire.EventAsked:
				return wire.Kind(e.Value), nil
			case wire.EventPower:
				o.note("the power supply fails")
				return wire.KindPowerOff, nil
			}
		}
	}
}

// hearInit puts what init has to say into the report, from the first moment
// on: how an orchestrator before this one ended stands above all else.
func (o *orchestrator) hearInit() {
	for e := range o.init.Events() {
		switch e.Kind {
		case wire.EventNote:
			o.note("init: " + e.Text)
		case wire.EventAsked, wire.EventPower:
			select {
			case o.told <- e:
			default: // one way down is asked for already
			}
		}
	}
}

var kinds = map[string]wire.Kind{"poweroff": wire.KindPowerOff, "reboot": wire.KindReboot, "halt": wire.KindHalt}

// endMargin is what init gives beyond the budget before it ends the machine
// by itself.
const endMargin = 10 * time.Second

// initsPart is how long init may take after this process has done its part,
// where something does not go: see initd/pid1, down.go. It is part of the budget.
const initsPart = 4 * time.Second

// goDown takes the machine down and lets init end it. The engine has ended.
func (o *orchestrator) goDown(ctx context.Context, kind wire.Kind) error {
	budget := time.Duration(o.chosen.plan.Shutdown)
	if err := o.init.Going(ctx, kind, budget+endMargin); err != nil && !errors.Is(err, client.ErrLost) {
		o.record(report.Event{Kind: report.Notice, Text: err.Error()})
	}
	sys := &down{children: o.children, stop: func(c context.Context) []string {
		return o.services.StopAll(c, o.chosen.plan)
	}}
	sys.All = true // init is ours: nobody else ends what is left
	sys.Spare = func(pid int) bool { return pid == os.Getppid() }
	res := takeDown(ctx, budget-min(initsPart, budget/4), sys, o.record)
	text := fmt.Sprintf("down in %.1f s, nothing left", res.Took.Seconds())
	if n := len(res.Left); n > 0 {
		text = fmt.Sprintf("down in %.1f s, %d left behind", res.Took.Seconds(), n)
	}
	o.record(report.Event{Kind: report.ShutdownStep, Step: &report.Step{Phase: "end", Action: kind.String(), State: report.Done, Reason: text, Took: res.Took}})
	patience, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	o.screen.drain(patience.Done())
	if err := o.init.Reboot(ctx, kind); err != nil && !errors.Is(err, client.ErrLost) {
		return err
	}
	select { // init ends everything, this process too
	case <-o.init.Done():
	case <-time.After(endMargin):
	}
	return nil
}

// mountState mounts the state disk, in a child.
func (o *orchestrator) mountState(ctx context.Context, dev string) error {
	list, err := mount.List()
	if err != nil {
		return err
	}
	if mount.At(list, o.state) != nil {
		return nil // by the orchestrator before this one
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	_, err = o.children.Run(ctx, step.Call{Func: "mount", Unit: "state disk", Objects: []string{o.state}, Params: mount.Spec{
		Device: dev, Where: o.state, Type: "ext4", Options: []string{"nosuid", "nodev", "noexec"},
	}})
	return err
}
