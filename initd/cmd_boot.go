package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"initd/boot/appliance"
	"initd/boot/engine"
	"initd/boot/plan"
	"initd/boot/report"
	"initd/boot/step"
	"initd/hw/clock"
	"initd/hw/kmod"
	"initd/hw/link"
	"initd/hw/luks"
	"initd/hw/sysfs"
	"initd/hw/uevent"
	"initd/initd/api"
	"initd/initd/child"
	"initd/initd/cli"
	"initd/initd/pid1/client"
	"initd/initd/pid1/wire"
)

// places are the paths of a boot; tests change them.
type places struct {
	file   string // the image's appliance file
	run    string // /run/initd
	state  string // where the state disk is mounted
	cgroup string // of the children
}

// bootPlaces are those of a machine.
func bootPlaces() places {
	return places{file: "/etc/initd/appliance.yaml", run: "/run/initd", state: "/run/initd/state", cgroup: "/sys/fs/cgroup/initd/children"}
}

func bootCommand() *cobra.Command {
	p := bootPlaces()
	adopted := false
	c := &cobra.Command{
		Use:   "boot",
		Short: "Run the appliance: started by init, not by hand",
		Long: `The orchestrator. init starts it with its socket as descriptor 3, and starts it
again when it ends; services live on meanwhile. Where the file mounts a root at /, the machine is handed over to that
root's own init once all is ready, and an orchestrator lives on beside it. On an installed system it will be a stage of
systemd; that is not built yet.`,
		Args: cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if adopted {
				return adopt(c.Context(), p)
			}
			return boot(c.Context(), p)
		},
	}
	c.Flags().StringVar(&p.file, "file", p.file, "the appliance file")
	c.Flags().BoolVar(&adopted, "adopt", false, "go on in a root that the machine was handed over to")
	return c
}

// orchestrator is one running boot.
type orchestrator struct {
	places
	args     kernelArgs
	init     *client.Client
	log      *report.Writer
	notes    notes
	screen   *screen
	children *child.Runner
	loader   *kmod.Loader
	blocks   *step.BlockWatcher
	keys     *step.KeyStore
	desk     *step.Desk
	people   *people
	services *services
	chosen   chosen
	floor    time.Time                     // of the clock
	stateDir string                        // "" without a state disk
	engine   atomic.Pointer[engine.Engine] // nil until the plan is there
	down     chan string                   // a way down that somebody asked for
	told     chan wire.Event               // a way down that init asks for
	gen      uint64                        // this orchestrator's generation
	pulse    func()                        // the engine's loop turns
	root     root
}

// boot runs until the machine goes down, or init ends this process.
func boot(ctx context.Context, p places) error {
	o := &orchestrator{places: p, down: make(chan string, 1), told: make(chan wire.Event, 1), root: newRoot()}
	var err error
	if o.init, err = client.Open(ctx, 0); err != nil {
		return err
	}
	hello := o.init.Hello()
	o.gen = hello.Generation
	o.pulse = func() { _ = o.init.Heartbeat() } // a lost connection ends this process by wait
	reason := ""
	if o.gen > 1 {
		reason = "the orchestrator before this one ended"
		tidyConsoles()
	}
	if err := o.prepare(reason, newScreen); err != nil {
		return err
	}
	o.leftovers(hello.BusyPIDs)
	o.keys = step.NewKeyStore(&fdStore{o.init})
	if err := o.root.look(p.run); err != nil {
		o.note(err.Error())
	}
	life, end := context.WithCancel(ctx)
	defer end()
	defer o.flushNotes()
	go o.hearInit()
	beating, ready := context.WithTimeout(life, startLimit)
	defer ready()
	go o.beat(beating)
	go o.screen.waits(life)
	parse := parser(appliance.Parse)
	if !o.root.inside {
		parse = parseAhead(p.file)
	}
	plugged := make(chan struct{})
	go o.drivers(life, plugged)
	<-plugged
	if !o.root.inside {
		linkModprobe()
	}
	o.watchdog(life)
	if o.root.inside {
		o.takeHanded()
	} else {
		state := o.stateDisk(life)
		_ = o.loader.Load(life, "iscsi_ibft") // without it, or without its table, there is nothing to say
		o.chosen = choosePlan(p.file, state, hostFacts(), parse)
		o.clock(state)
		o.nameHost()
	}
	if o.services, err = newServices(life, o.init, o.run, o.children, o.lose); err != nil {
		return err
	}
	upkeep, rest := context.WithCancel(life) // of leases and connections: none is renewed on the way down
	defer rest()
	if err := o.makeEngine(upkeep); err != nil {
		return err
	}
	go o.modulesAhead(life)
	go o.serve(life)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		o.keepPlan(life)
	}()
	copied := make(chan error, 1)
	go o.keepProgram(life, copied)
	go o.watchProgram(life)
	go o.watchClock(life)
	go o.calmKernel(life)
	go o.helpPeople(life)
	go o.awaitRoot(life)
	running, stop := context.WithCancel(life)
	defer stop()
	ready() // from here on the heartbeat is the engine's
	ended := make(chan error, 1)
	go func() { ended <- o.engine.Load().Run(running) }()
	kind, err := o.wait(ended)
	if err == nil && kind == 0 {
		err = o.prepareHandOver(life, copied)
	}
	if err != nil {
		return err
	}
	stop()
	rest()
	<-ended
	o.awaitKept(kept)
	if kind == 0 {
		return o.handOver(life)
	}
	return o.goDown(life, kind)
}

// prepare opens what everything else needs. reason says why there is another
// orchestrator.
func (o *orchestrator) prepare(reason string, open func(kernelArgs) *screen) error {
	var err error
	if err = os.MkdirAll(o.run, 0o755); err != nil {
		return fmt.Errorf("boot: %w", err)
	}
	o.args = readKernelArgs("/proc/cmdline")
	if o.log, err = report.Open(filepath.Join(o.run, "events"), o.gen); err != nil {
		return err
	}
	o.people = newPeople()
	o.screen = open(o.args)
	o.screen.failing = o.people.fails
	o.record(report.Event{Kind: report.GenerationStarted, Text: version, PID: os.Getpid(), Reason: reason})
	o.record(report.Anchor(time.Now()))
	for _, text := range o.args.ignored {
		o.note(text)
	}
	o.noteSpare()
	if err := link.LoopbackUp(); err != nil {
		o.note(err.Error())
	}
	o.children = &child.Runner{Exe: "/proc/self/exe", Cgroup: existing(o.cgroup), State: filepath.Join(o.run, "children")}
	for _, dir := range []string{o.run, o.children.State, filepath.Join(o.run, "services"), filepath.Join(o.run, "bin")} {
		step.TidyTemporary(dir, nil)
	}
	if !o.root.inside {
		if o.loader, err = kmod.System("/"); err != nil {
			return err
		}
	}
	sys, err := sysfs.Open("/")
	if err != nil {
		return err
	}
	o.blocks = step.NewBlockWatcher(sys, uevent.Kernel, o.children)
	o.desk = o.newDesk()
	return nil
}

func existing(dir string) string {
	if _, err := os.Stat(dir); err != nil {
		return ""
	}
	return dir
}

// record writes an event of this program itself.
func (o *orchestrator) record(e report.Event) {
	if err := o.log.Append(&e); err == nil {
		o.screen.show(e)
	}
}

// lose tells the engine that a unit that was done is no longer.
func (o *orchestrator) lose(unit, reason string) {
	if e := o.engine.Load(); e == nil || e.Lose(unit, reason) != nil {
		o.note(unit + ": " + reason)
	}
}

// clock raises the clock to its floor: before it, no certificate is valid.
func (o *orchestrator) clock(state step.StateFiles) {
	o.floor = clock.Floor(builtAt(), state.NotBefore, step.NotBefore(filepath.Dir(o.file)))
	before := time.Now()
	raised, err := clock.Raise(o.floor)
	switch {
	case err != nil:
		o.note(err.Error())
	case raised:
		o.note(fmt.Sprintf("the clock stood at %s and was raised to %s, the latest time that is certainly past",
			before.UTC().Format(time.RFC3339), o.floor.UTC().Format(time.RFC3339)))
		o.record(report.Anchor(time.Now()))
	}
}

func (o *orchestrator) watchClock(ctx context.Context) {
	err := clock.Watch(ctx, func() { _ = o.engine.Load().Record(report.Anchor(time.Now())) })
	if err != nil {
		o.note(err.Error())
	}
}

func (o *orchestrator) makeEngine(life context.Context) error {
	ledger, err := engine.OpenLedger(o.run)
	if err != nil {
		return err
	}
	identity := []string{}
	if o.stateDir != "" {
		identity = append(identity, o.stateDir)
	}
	var svc step.Services = noServices{}
	if o.services != nil {
		svc = o.services
	}
	o.blocks.Finders = step.Finders(o.chosen.plan, o.blocks.Sys, o.run)
	deps := &step.Deps{
		Children: o.children, Services: svc, Devices: o.blocks, Volumes: volumes{plan: o.chosen.plan, sys: o.blocks.Sys}, Keys: o.keys,
		Modules: o.modules(), Desk: o.desk, Life: life, Note: o.note, Lose: o.lose, Lost: o.lost,
		ClockFloor: o.floor, OwnDNS: o.chosen.plan.Unit("dns") != nil,
		Paths: o.paths(identity),
	}
	if b, err := json.Marshal(o.chosen.plan); err == nil { // for people and bundles
		err = renameio.WriteFile(filepath.Join(o.run, "plan.json"), b, 0o600, renameio.WithTempDir(o.run))
		if err != nil {
			o.note("the plan cannot be kept for people to read: " + err.Error())
		}
	}
	eng, err := engine.New(engine.Config{
		Plan: o.chosen.plan, Actions: step.Actions(deps),
		Watchers: []engine.Watcher{o.blocks, &step.LinkWatcher{Resolv: deps.Paths.Resolv, Plan: o.chosen.plan}},
		Log:      o.log, Ledger: ledger, Generation: o.gen,
		Notices: append(o.chosen.notices, o.notes.take()...), Skip: o.args.skip,
		Heartbeat: o.pulse,
		Notify:    o.heard,
	})
	if err != nil {
		return err
	}
	o.use(eng)
	return nil
}

// lost puts into the report that what a finished unit stands on went, or is
// there again.
func (o *orchestrator) lost(unit, resource, reason string, back bool) {
	e := report.Event{Kind: report.NeedLost, Unit: unit, Resource: resource, Reason: reason, Presence: report.Gone}
	if back {
		e.Presence = report.Present
	}
	if eng := o.engine.Load(); eng != nil {
		_ = eng.Record(e) // it ends with the engine
	}
}

// volumes answers whether a mapping is there, or a fabric connected.
type volumes struct {
	plan *plan.Plan
	sys  *sysfs.FS
}

func (v volumes) Open(name string) bool {
	if strings.HasPrefix(name, plan.ClassNVMe+"/") {
		return step.NVMeConnected(v.plan, v.sys, name)
	}
	c, err := luks.Check(name, "")
	return err == nil && c.Answer == luks.Same
}

// serve answers commands.
func (o *orchestrator) serve(ctx context.Context) {
	if err := api.Serve(ctx, filepath.Join(o.run, "api.sock"), o.handle); err != nil {
		o.note(err.Error())
	}
}
