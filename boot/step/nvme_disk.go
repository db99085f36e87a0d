package step

import (
	"context"
	"fmt"
	"strings"

	"initd/boot/engine"
	"initd/boot/plan"
	"initd/hw/nvmeof"
	"initd/hw/sysfs"
	"initd/hw/uevent"
)

// nvmeDiskAction waits until a namespace's disk is there; the kernel makes it.
type nvmeDiskAction struct{ deps *Deps }

func newNVMeDiskAction(d *Deps) engine.Action { return &nvmeDiskAction{deps: d} }

func (a *nvmeDiskAction) Check(_ context.Context, u *plan.Unit) (engine.Checked, error) {
	s, err := spec[nvmeDiskSpec](u)
	if err != nil {
		return engine.Checked{}, err
	}
	f, err := sysfs.Open("/")
	if err != nil {
		return engine.Checked{}, err
	}
	defer f.Close()
	n, err := nvmeof.Disk(f, s.Subsystem, s.NSID)
	if err != nil || n.Bytes == 0 {
		return engine.Checked{Answer: engine.Absent}, nil //nolint:nilerr // that it is not there is the answer
	}
	return engine.Checked{Answer: engine.Follows, Object: "/dev/" + n.Name}, nil
}

// Apply listens for block devices before it looks, so that none is missed.
func (a *nvmeDiskAction) Apply(ctx context.Context, u *plan.Unit, progress func(engine.Progress)) error {
	s, err := spec[nvmeDiskSpec](u)
	if err != nil {
		return err
	}
	events, err := uevent.Subscribe(ctx, uevent.Kernel)
	if err != nil {
		return err
	}
	f, err := sysfs.Open("/")
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		n, err := nvmeof.Disk(f, s.Subsystem, s.NSID)
		if err == nil && n.Bytes > 0 {
			progress(engine.Progress{Object: "/dev/" + n.Name})
			return nil
		}
		progress(engine.Progress{Waiting: s.missing(f)})
		if !awaitNVMe(events) {
			return &ChildError{
				CodeText: "NVME-NAMESPACE", Message: s.missing(f), ObjectText: s.Subsystem,
				HintText: "initd nvme list shows what there is",
			}
		}
	}
}

// awaitNVMe waits for an event that may bring a namespace; false: there are no more.
func awaitNVMe(events <-chan uevent.Event) bool {
	for e := range events {
		if e.Subsystem == "block" || e.Subsystem == "nvme" || e.Action == uevent.Overflow {
			return true
		}
	}
	return false
}

// missing says what there is instead.
func (s nvmeDiskSpec) missing(f *sysfs.FS) string {
	text := fmt.Sprintf("namespace %d of %s: ", s.NSID, s.Subsystem)
	sub, ok := nvmeof.Find(f, s.Subsystem)
	if !ok {
		return text + "the subsystem is not connected"
	}
	var have []string
	for _, n := range sub.Namespaces {
		have = append(have, fmt.Sprint(n.NSID))
	}
	if len(have) == 0 {
		return text + "the subsystem is connected, and has none yet"
	}
	return text + "the subsystem is connected, and has " + strings.Join(have, ", ")
}

// Rollback: nothing was made.
func (a *nvmeDiskAction) Rollback(context.Context, *plan.Unit) error { return nil }

// nvmeFinder answers which node a namespace of the plan means right now.
func nvmeFinder(p *plan.Plan, f *sysfs.FS) Finder {
	return func(r plan.Resource) (string, error) {
		u := p.Unit(string(r))
		if u == nil || u.Kind != nvmeDiskStep().Kind.Name {
			return "", fmt.Errorf("%s is no disk of this plan; a namespace is named nvme/NAME/NSID", r)
		}
		s, err := spec[nvmeDiskSpec](u)
		if err != nil {
			return "", err
		}
		n, err := nvmeof.Disk(f, s.Subsystem, s.NSID)
		if err != nil {
			return "", err
		}
		return "/dev/" + n.Name, nil
	}
}

// NVMeConnected tells whether the subsystem that a secret in the KeyStore is
// for ("nvme/flash") has a connection: the kernel has the secret, then.
func NVMeConnected(p *plan.Plan, f *sysfs.FS, key string) bool {
	parts := strings.Split(key, "/")
	if len(parts) < 2 {
		return false
	}
	u := p.Unit(nvmeID(parts[1]))
	if u == nil {
		return false
	}
	s, err := spec[nvmeSpec](u)
	if err != nil {
		return false
	}
	sub, ok := nvmeof.Find(f, s.Subsystem)
	return ok && len(sub.Controllers) > 0
}
