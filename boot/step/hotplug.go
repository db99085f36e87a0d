package step

import (
	"context"
	"errors"
	"fmt"

	"initd/hw/kmod"
	"initd/hw/uevent"
)

// Drivers loads kernel modules for the devices of the machine.
type Drivers interface {
	Coldplug(ctx context.Context) error
	Load(ctx context.Context, names ...string) error
}

// Hotplug loads the drivers of devices that are there and of those that come,
// until ctx ends; where udevd runs that is its work. note hears of drivers
// that do not load: the machine may do without them.
func Hotplug(ctx context.Context, d Drivers, note func(string)) error {
	events, err := uevent.Subscribe(ctx, uevent.Kernel)
	if err != nil {
		return fmt.Errorf("load drivers: %w", err)
	}
	if err := d.Coldplug(ctx); err != nil {
		note("drivers: " + err.Error())
	}
	for e := range events {
		alias := e.Properties["MODALIAS"]
		switch {
		case e.Action == uevent.Failed:
			return fmt.Errorf("load drivers: %w", e.Err)
		case e.Action == uevent.Overflow:
			if err := d.Coldplug(ctx); err != nil {
				note("drivers: " + err.Error())
			}
		case e.Action == uevent.Add && alias != "":
			var unknown *kmod.UnknownError
			if err := d.Load(ctx, alias); err != nil && !errors.As(err, &unknown) {
				note(fmt.Sprintf("driver of %s: %v", e.Path, err))
			}
		}
	}
	return nil
}
