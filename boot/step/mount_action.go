package step

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"path/filepath"
	"strings"
	"time"

	"initd/boot/engine"
	"initd/boot/plan"
	"initd/hw/mount"
)

// mountAction mounts one file system; what can block runs in children.
type mountAction struct{ deps *Deps }

func newMountAction(d *Deps) engine.Action { return &mountAction{deps: d} }

// Check reads the mount table only: it touches neither the device nor what
// lies below a mount.
func (a *mountAction) Check(_ context.Context, u *plan.Unit) (engine.Checked, error) {
	s, err := spec[mountSpec](u)
	if err != nil {
		return engine.Checked{}, err
	}
	list, err := mount.List()
	if err != nil {
		return engine.Checked{}, err
	}
	want, number, root, err := a.wanted(s, list)
	if err != nil {
		return engine.Checked{}, err
	}
	state, reason := mount.Compare(list, want, number, root)
	if state == mount.Different && want.Where == "/" {
		state, reason = mount.Same, "the root's own init decides: "+reason
	}
	return engine.Checked{Answer: engine.Answer(state), Reason: reason, Object: cmp.Or(want.Device, s.Where)}, nil
}

// wanted resolves the device of a mount, and for a bind mount the device and
// the folder that its source is on.
func (a *mountAction) wanted(s mountSpec, list []mount.Info) (mount.Spec, mount.Number, string, error) {
	want := mount.Spec{Where: a.deps.Paths.place(s.Where), Type: s.Type, Options: s.Options}
	switch s.Type {
	case "tmpfs":
		return want, mount.Number{}, "", nil
	case "bind":
		want.Device = a.deps.Paths.place(s.From)
		n, root := below(list, want.Device)
		return want, n, root, nil
	}
	dev, err := a.deps.Devices.Device(s.What)
	if err != nil {
		return want, mount.Number{}, "", err
	}
	want.Device = dev
	n, err := mount.DeviceNumber(dev)
	return want, n, "/", err
}

// place is where a path of the appliance file is now: until the hand-over the
// root is not at / yet. What is /run, /dev, /proc or /sys goes along.
func (p Paths) place(where string) string {
	for _, along := range []string{"/run", "/dev", "/proc", "/sys"} {
		if where == along || strings.HasPrefix(where, along+"/") {
			return where
		}
	}
	return path.Join(p.Root, where)
}

// below finds the file system that p lies on, and p's place within it.
func below(list []mount.Info, p string) (mount.Number, string) {
	best := -1
	for i, m := range list {
		if (p == m.Point || m.Point == "/" || strings.HasPrefix(p, m.Point+"/")) && (best < 0 || len(m.Point) >= len(list[best].Point)) {
			best = i
		}
	}
	if best < 0 {
		return mount.Number{}, p
	}
	rel, err := filepath.Rel(list[best].Point, p)
	if err != nil {
		rel = p
	}
	return mount.Number{Major: list[best].Major, Minor: list[best].Minor}, path.Join(list[best].Root, rel)
}

func (a *mountAction) Apply(ctx context.Context, u *plan.Unit, progress func(engine.Progress)) error {
	s, err := spec[mountSpec](u)
	if err != nil {
		return err
	}
	list, err := mount.List()
	if err != nil {
		return err
	}
	want, _, _, err := a.wanted(s, list)
	if err != nil {
		return err
	}
	if s.Type == "ext4" || s.Type == "xfs" {
		if err := a.deps.Modules.Load(ctx, "fs-"+s.Type); err != nil {
			return err
		}
	}
	progress(engine.Progress{Object: want.Device})
	if s.FSCK && mount.At(list, want.Where) == nil {
		if err := a.check(ctx, u, want, progress); err != nil {
			return err
		}
	}
	fn := "mount"
	if mount.At(list, want.Where) != nil && s.Type == "bind" {
		fn = "remount" // what Check called partial
	}
	if u.Uninterruptible { // for the check of the file system; this is not
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(u.Policy.Deadline))
		defer cancel()
	}
	_, err = a.deps.Children.Run(ctx, Call{Func: fn, Unit: u.ID, Params: want, Objects: []string{u.ID}})
	return err
}

func (a *mountAction) check(ctx context.Context, u *plan.Unit, want mount.Spec, progress func(engine.Progress)) error {
	r, err := a.deps.Children.Run(ctx, Call{
		Func: "fsck", Unit: u.ID, Params: want, Objects: []string{u.ID},
		Uninterruptible: true, Idle: time.Duration(u.Policy.Deadline),
		Progress: func(p ChildProgress) {
			if p.Progress != nil {
				progress(*p.Progress)
			}
		},
	})
	if err != nil {
		return err
	}
	var f mount.FSCK
	if err := json.Unmarshal(r.Result, &f); err == nil && f.Corrected {
		progress(engine.Progress{Text: "fsck repaired " + want.Device, Object: want.Device})
	}
	return nil
}

// Rollback: mount(2) leaves nothing when it fails; a bind mount whose options
// were refused is what Check calls partial.
func (a *mountAction) Rollback(context.Context, *plan.Unit) error { return nil }

// mountChild is the child mount.
func mountChild(_ context.Context, in *ChildInput) (any, error) {
	var s mount.Spec
	if err := json.Unmarshal(in.Params, &s); err != nil {
		return nil, fmt.Errorf("read parameters: %w", err)
	}
	if err := holds(s); err != nil {
		return nil, err
	}
	return nil, mount.Mount(s)
}

// remountChild is the child remount.
func remountChild(_ context.Context, in *ChildInput) (any, error) {
	var s mount.Spec
	if err := json.Unmarshal(in.Params, &s); err != nil {
		return nil, fmt.Errorf("read parameters: %w", err)
	}
	return nil, mount.Remount(s)
}

// fsckChild is the child fsck.
func fsckChild(ctx context.Context, in *ChildInput) (any, error) {
	var s mount.Spec
	if err := json.Unmarshal(in.Params, &s); err != nil {
		return nil, fmt.Errorf("read parameters: %w", err)
	}
	if err := holds(s); err != nil {
		return nil, err
	}
	return mount.Check(ctx, s.Device, s.Type, func(percent int) {
		in.Tell(ChildProgress{Progress: &engine.Progress{Text: fmt.Sprintf("fsck.%s %s: %d %%", s.Type, s.Device, percent), Object: s.Device}})
	})
}
