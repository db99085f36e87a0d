package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"initd/boot/engine"
	"initd/boot/report"
	"initd/boot/step"
	"initd/hw/kmod"
	"initd/hw/mount"
	"initd/hw/watchdog"
	"initd/initd/handover"
)

// adopt runs beside the init of a root that the machine was handed over to.
// There is no init of ours: a lock says who leads, keys do not outlive this
// process, services and the way down are that init's.
//
// It may be started while the disk of that root does not answer, and has to
// get it back: until it keeps what it opened it touches nothing of that root.
func adopt(ctx context.Context, p places) error {
	if err := handover.Lead(ctx, p.run); err != nil {
		return err
	}
	o := &orchestrator{places: p, root: newRoot()}
	last, err := lastGeneration(p.run)
	if err != nil {
		return err
	}
	o.gen = last + 1
	unread := o.root.look(p.run)
	switch {
	case unread != nil: // of another version: nothing of it is believed, and nothing touched
		o.root.handed = &handover.State{Init: "PID 1", Plan: emptyPlan()}
	case o.root.handed == nil:
		return errors.New("boot --adopt is for a root that initd handed the machine over to, and there is no trace of that")
	}
	o.root.inside = true
	time.Local = time.UTC // else the first time that is printed is looked up in /etc/localtime
	// What the orchestrator before this one left half done ends here, as init
	// would see to it.
	_ = os.WriteFile(filepath.Join(p.cgroup, "cgroup.kill"), []byte("1"), 0)
	reason := "the orchestrator before this one ended"
	if o.gen == o.root.handed.Generation+1 {
		reason = "the machine was handed over to " + o.root.handed.Init
	}
	if err := o.prepare(reason, newMirror); err != nil {
		return err
	}
	o.leftovers(nil)
	life, end := context.WithCancel(ctx)
	defer end()
	defer o.flushNotes()
	o.keys = step.NewKeyStore(nil)
	o.desk.Hold() // the consoles are that init's; who has a key: initd keys unlock
	o.pulse = o.feeder()
	o.takeHanded()
	if unread != nil {
		o.note("nothing is adopted: " + unread.Error())
	}
	o.note(fmt.Sprintf("services and the way down are the business of %s in this root; initd keeps what it opened, leases and commands", o.root.handed.Init))
	if err := o.makeEngine(life); err != nil {
		return err
	}
	go o.serve(life)
	go o.watchClock(life)
	return fmt.Errorf("the engine ended: %w", o.engine.Load().Run(life))
}

// takeHanded goes on with the plan that was handed over.
func (o *orchestrator) takeHanded() {
	o.chosen = chosen{plan: o.root.handed.Plan, config: o.root.handed.Config}
	list, err := mount.List()
	if err == nil && mount.At(list, o.state) != nil {
		o.stateDir = o.state // it came along below /run
	}
}

// modules loads kernel modules: from the initramfs, or from the root that has
// taken over.
func (o *orchestrator) modules() step.Modules {
	if o.root.inside {
		return rootModules{sync.OnceValues(func() (*kmod.Loader, error) { return kmod.System("/") })}
	}
	return o.loader
}

// rootModules are those of somebody else's root, which need not have a tree
// for this kernel: what was loaded before is there still, and what is built in
// too. The kernel says what it lacks. The tree is opened when a unit asks for
// a module, and not before: it lies on the root, whose disk may be what this
// orchestrator has to get back first.
type rootModules struct {
	open func() (*kmod.Loader, error)
}

func (m rootModules) Load(ctx context.Context, names ...string) error {
	loader, err := m.open()
	if err != nil {
		return err
	}
	err = loader.Load(ctx, names...)
	var unknown *kmod.UnknownError
	if errors.As(err, &unknown) && unknown.NoTree {
		return nil
	}
	return err
}

// noServices: they belong to another init.
type noServices struct{}

var errNoServices = errors.New("services belong to this root's own init: enable its unit there")

func (noServices) Check(s step.ServiceSpec) engine.Checked {
	return engine.Checked{Answer: engine.Foreign, Reason: errNoServices.Error(), Object: s.Name}
}
func (noServices) Start(context.Context, step.ServiceSpec, func(string)) error { return errNoServices }
func (noServices) Stop(context.Context, string) error                          { return errNoServices }

// feeder feeds a watchdog that could not be stopped at the hand-over and that
// nobody has taken on since.
func (o *orchestrator) feeder() func() {
	const class = "/sys/class/watchdog"
	entries, err := os.ReadDir(class)
	if err != nil {
		return func() {}
	}
	for _, e := range entries {
		state, err := os.ReadFile(filepath.Join(class, e.Name(), "state"))
		if err != nil || strings.TrimSpace(string(state)) != "active" {
			continue
		}
		d, err := watchdog.Open("/dev/"+e.Name(), "/sys")
		if err != nil {
			o.note(err.Error()) // the root's init feeds it, then
			continue
		}
		o.note(e.Name() + " cannot be stopped; initd goes on feeding it")
		every, err := d.SetTimeout(watchdogTimeout)
		if err != nil || every <= 0 {
			every = 10 * time.Second
		}
		return feedEvery(d, every/4)
	}
	return func() {}
}

// feedEvery returns a heartbeat that feeds d now and then. The engine's loop
// calls it, and nobody else.
func feedEvery(d *watchdog.Device, every time.Duration) func() {
	last := time.Duration(0)
	return func() {
		if now := report.Boottime(); last == 0 || now-last >= every {
			last = now
			_ = d.Feed() // a device that fails has no better end than its own
		}
	}
}
