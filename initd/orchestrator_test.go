package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"initd/boot/appliance"
	"initd/boot/engine"
	"initd/boot/plan"
	"initd/boot/report"
	"initd/boot/step"
	"initd/initd/api"
)

// hang is a guard, never a measure.
const hang = time.Minute

// orchestrate is the script command 'orchestrate FILE DIR': the engine, the
// event file and the local interface of an orchestrator run in DIR until the
// script ends. No device and no server of the plan is ever there.
func orchestrate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: orchestrate FILE DIR")
	}
	file, dir := ts.MkAbs(args[0]), ts.MkAbs(args[1])
	ctx, cancel := context.WithCancel(context.Background())
	done, err := runOrchestrator(ctx, file, dir)
	if err != nil {
		cancel()
		ts.Fatalf("orchestrate: %v", err)
	}
	ts.Defer(func() {
		cancel()
		for range 2 {
			ts.Check(<-done)
		}
	})
}

// runOrchestrator returns when it listens; done gets an error of the engine
// and one of the interface after the end of ctx.
func runOrchestrator(ctx context.Context, file, dir string) (done chan error, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	o := &orchestrator{places: places{file: file, run: dir}, screen: &screen{lines: report.NewConsole()}, keys: step.NewKeyStore(nil), desk: step.NewDesk(), down: make(chan string, 1)}
	sources, err := appliance.ReadSources(file)
	if err != nil {
		return nil, err
	}
	p, err := compileSources(sources, plan.Facts{}, appliance.Parse)
	if err != nil {
		return nil, err
	}
	o.chosen = chosen{plan: p, config: filepath.Dir(file)}
	if o.log, err = report.Open(filepath.Join(dir, "events"), 1); err != nil {
		return nil, err
	}
	eng, err := engine.New(engine.Config{
		Plan: p, Log: o.log, Notify: o.screen.show,
		Actions: step.Actions(&step.Deps{Volumes: volumes{}, Keys: o.keys, Desk: o.desk, Life: ctx, Note: o.note}),
	})
	if err != nil {
		return nil, err
	}
	o.use(eng)
	done = make(chan error, 2)
	go func() { done <- eng.Run(ctx) }()
	sock := filepath.Join(dir, "api.sock")
	go func() { done <- api.Serve(ctx, sock, o.handle) }()
	return done, listens(ctx, sock)
}

func listens(ctx context.Context, sock string) error {
	ctx, cancel := context.WithTimeout(ctx, hang)
	defer cancel()
	for {
		a, err := api.Ask(ctx, sock, api.Request{Op: api.OpPing}, nil)
		if err == nil && a.OK || !errors.Is(err, api.ErrNotRunning) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Millisecond):
		}
	}
}

// becomes is the script command 'becomes DIR UNIT STATE': it waits until the
// report of DIR says so.
func becomes(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: becomes DIR UNIT STATE")
	}
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	events, found := report.NewFolder(), errors.New("found")
	err := report.Follow(ctx, filepath.Join(ts.MkAbs(args[0]), "events"), func(e report.Event, _ bool) error {
		events.Add(e)
		if u := events.Report().Unit(args[1]); u != nil && string(u.State) == args[2] {
			return found
		}
		return nil
	})
	if !errors.Is(err, found) {
		ts.Fatalf("%s does not become %s: %v", args[1], args[2], err)
	}
}
