package step

import (
	"context"
	"fmt"
	"sync"

	"initd/boot/engine"
	"initd/boot/plan"
	"initd/hw/nvmeof"
	"initd/hw/sysfs"
)

// nvmeAction connects subsystems. One keeper, which lives as long as this
// process, does the work for all units, also after they are done: the paths that
// were not needed join later, and what the kernel gives up is connected again.
type nvmeAction struct {
	deps *Deps

	mu     sync.Mutex
	keeper *nvmeKeeper // guarded by mu; nil until the first unit
}

func newNVMeAction(d *Deps) engine.Action { return &nvmeAction{deps: d} }

// the starts the keeper with the first unit: an appliance without NVMe over a
// network listens to nothing.
func (a *nvmeAction) the() *nvmeKeeper {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.keeper == nil {
		a.keeper = newNVMeKeeper(a.deps)
		go a.keeper.run(a.deps.Life)
	}
	return a.keeper
}

// Check: what is connected is adopted, whoever connected it; paths that are
// missing are dialled without holding anybody up.
func (a *nvmeAction) Check(_ context.Context, u *plan.Unit) (engine.Checked, error) {
	s, err := spec[nvmeSpec](u)
	if err != nil {
		return engine.Checked{}, err
	}
	s = s.here()
	f, err := sysfs.Open("/")
	if err != nil {
		return engine.Checked{}, err
	}
	defer f.Close()
	list, err := nvmeof.Connections(f)
	if err != nil {
		return engine.Checked{}, err
	}
	up, there := 0, 0
	for _, t := range s.Paths {
		for _, c := range list {
			if c.Match(t, s.Host) {
				there++
				if c.State == nvmeof.StateLive {
					up++
				}
				break
			}
		}
	}
	checked := engine.Checked{Object: s.Subsystem}
	switch {
	case len(s.Discovery) > 0: // which paths there are, only the log says
		checked.Answer = engine.Absent
	case up >= s.MinPaths:
		a.the().keep(u.ID, s)
		checked.Answer, checked.Reason = engine.Same, fmt.Sprintf("%d of %d paths up", up, len(s.Paths))
	case there > 0:
		checked.Answer, checked.Reason = engine.Partial, fmt.Sprintf("%d of %d paths up", up, len(s.Paths))
	default:
		checked.Answer = engine.Absent
	}
	return checked, nil
}

// Apply connects one subsystem; ApplyBatch does the same for many.
func (a *nvmeAction) Apply(ctx context.Context, u *plan.Unit, progress func(engine.Progress)) error {
	return engine.ApplyOne(ctx, a, u, progress)
}

// ApplyBatch: all portals are looked at together, and one child connects what
// answers.
func (a *nvmeAction) ApplyBatch(ctx context.Context, us []engine.Part, progress func(int, engine.Progress), done func(int, error)) {
	if err := a.deps.Modules.Load(ctx, "nvme-tcp"); err != nil {
		for i := range us {
			done(i, fmt.Errorf("%s: %w", us[i].ID, err))
		}
		return
	}
	k := a.the()
	kept := make([]*nvmeKept, len(us))
	for i, u := range us {
		s, err := spec[nvmeSpec](u.Unit)
		if err != nil {
			done(i, err)
			continue
		}
		kept[i] = k.add(u.ID, s)
	}
	k.poke()
	var wg sync.WaitGroup
	for i := range us {
		if kept[i] == nil {
			continue
		}
		wg.Go(func() {
			done(i, k.await(us[i].Context, kept[i], func(p engine.Progress) { progress(i, p) }))
		})
	}
	wg.Wait()
}

// Rollback leaves what is connected, and dials no more until the next attempt.
func (a *nvmeAction) Rollback(_ context.Context, u *plan.Unit) error {
	a.the().rest(u.ID)
	return nil
}
