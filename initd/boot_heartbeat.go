package main

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// watchdogTimeout is how long the engine's loop may hang before the hardware
// resets the machine.
const watchdogTimeout = time.Minute

// watchdog lets init arm the hardware's watchdog, where there is one: it is
// fed for as long as this process's heartbeat comes.
func (o *orchestrator) watchdog(ctx context.Context) {
	const device = "/dev/watchdog" // or what the kernel command line told init
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := o.init.Watchdog(ctx, device, watchdogTimeout)
	switch {
	case err == nil, errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV): // this machine has none
	case errors.Is(err, unix.EPERM): // nor is it to have one
	default:
		o.note(err.Error())
	}
}

// startLimit bounds the time until the engine runs; each step before it has a
// bound of its own below that.
const startLimit = 2 * time.Minute

// beat tells init that this process is on its way, until the engine's own loop
// does.
func (o *orchestrator) beat(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for o.init.Heartbeat() == nil {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}
