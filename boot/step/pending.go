package step

import (
	"context"
	"initd/boot/engine"
)

func newLinkAction(d *Deps) engine.Action                           { return nil }
func newRouteAction(d *Deps) engine.Action                          { return nil }
func newDNSAction(d *Deps) engine.Action                            { return nil }
func newClockAction(d *Deps) engine.Action                          { return nil }
func promptKey(ctx context.Context, in *ChildInput) (any, error)    { return nil, nil }
func (d *Deps) ask(ctx context.Context, unit, name, q string) error { return nil }
