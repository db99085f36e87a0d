package main

import (
	"context"
	"os"

	"initd/boot/step"
	"initd/hw/kmod"
)

// drivers loads what the machine's devices need, and goes on doing so. plugged
// is closed when those that are there now have been served.
func (o *orchestrator) drivers(ctx context.Context, plugged chan struct{}) {
	if err := step.Hotplug(ctx, &onceDrivers{Loader: o.loader, done: plugged}, o.note); err != nil {
		o.note(err.Error())
	}
}

// modulesAhead loads what the plan's units will ask for, while what they need is on its way. Whoever needs one asks for it
// himself, and says what is wrong with it.
func (o *orchestrator) modulesAhead(ctx context.Context) {
	if o.root.inside {
		return
	}
	for _, u := range o.chosen.plan.Units {
		_ = o.modules().Load(ctx, u.Wants.Modules...)
	}
}

// linkModprobe lets the kernel's own requests for modules find this program.
// The link is not in the image: on its way to /init, and while the drivers
// are loaded, the kernel asks for dozens of algorithms that no module has, and
// would start initd for each. A root that has a modprobe keeps it.
func linkModprobe() {
	if _, err := os.Lstat(usual); err == nil {
		_ = os.Symlink("../bin/initd", "/usr/sbin/modprobe") // it is there: kept
	}
}

// onceDrivers closes done after the first Coldplug.
type onceDrivers struct {
	*kmod.Loader
	done chan struct{}
}

func (d *onceDrivers) Coldplug(ctx context.Context) error {
	err := d.Loader.Coldplug(ctx)
	select {
	case <-d.done:
	default:
		close(d.done)
	}
	return err
}
