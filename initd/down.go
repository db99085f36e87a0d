package main

import (
	"context"
	"strings"
	"sync"
	"time"

	"initd/boot/report"
	"initd/boot/step"
	"initd/shutdown"
)

// down is the machine as shutdown needs it: what can block runs in children.
type down struct {
	shutdown.Live
	children step.Children
	stop     func(context.Context) []string
}

func (d *down) StopServices(ctx context.Context) []string { return d.stop(ctx) }

func (d *down) Do(ctx context.Context, j shutdown.Job) error {
	_, err := d.children.Run(ctx, step.Call{Func: "teardown", Unit: strings.TrimSpace(j.Op + " " + j.Path), Params: j, Grace: 200 * time.Millisecond})
	return err
}

// stepOf turns an event of the way down into the report's.
func stepOf(e shutdown.Event) report.Event {
	phase := map[string]string{
		"services": "services", "process": "processes",
		shutdown.OpUnmount: "mounts", shutdown.OpLazy: "mounts", shutdown.OpReadOnly: "mounts",
		shutdown.OpNVMe: "sessions", shutdown.OpISCSI: "sessions",
		shutdown.OpDM: "volumes", shutdown.OpLoop: "volumes", shutdown.OpSwap: "volumes",
	}[e.Op]
	if phase == "" {
		phase = "end"
	}
	state := report.Running
	switch e.State {
	case "done":
		state = report.Done
	case "failed":
		state = report.Failed
	case "stuck":
		state = report.Stuck
	}
	return report.Event{Kind: report.ShutdownStep, Step: &report.Step{
		Phase: phase, Action: e.Op, Object: e.Object, State: state, Reason: e.Reason, Took: e.Took,
	}}
}

// takeDown runs the way down and writes each step to the event file.
func takeDown(ctx context.Context, budget time.Duration, sys shutdown.System, record func(report.Event)) shutdown.Result {
	var mu sync.Mutex
	return shutdown.Run(ctx, budget, sys, func(e shutdown.Event) {
		mu.Lock()
		defer mu.Unlock()
		record(stepOf(e))
	})
}
