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
	if goesAlong(where) {
		return where
	}
	return path.Join(p.Root, where)
}

func goesAlong(where string) bool {
	for _, along := range []string{"/run", "/dev", "/proc", "/sys"} {
		if where == along || strings.HasPrefix(where, along+"/") {
			return true
		}
	}
	return false
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
	there := mount.At(list, want.Where) != nil
	if there && s.Type == "bind" {
		return a.run(ctx, u, "remount", want, nil) // what Check called partial
	}
	if s.FSCK && !there {
		var tried mountTried
		if err := a.run(ctx, u, "mount", mountParams{want, true}, &tried); err != nil || tried.Unchecked == "" {
			return err
		}
		progress(engine.Progress{Text: "fsck." + want.Type + " " + want.Device + ": " + tried.Unchecked, Object: want.Device})
		if err := a.check(ctx, u, want, progress); err != nil {
			return err
		}
	}
	return a.run(ctx, u, "mount", mountParams{want, false}, nil)
}

// mountParams is what the child mount is given.
type mountParams struct {
	mount.Spec
	IfClean bool `json:"ifClean,omitempty"` // only if it wants no check
}

// mountTried is what it answers.
type mountTried struct {
	Unchecked string `json:"unchecked,omitempty"` // why it was not mounted: it wants a check first
}

// run runs a child within the unit's deadline, also where a check of the file
// system beside it has none.
func (a *mountAction) run(ctx context.Context, u *plan.Unit, fn string, params, result any) error {
	if u.Uninterruptible {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(u.Policy.Deadline))
		defer cancel()
	}
	r, err := a.deps.Children.Run(ctx, Call{Func: fn, Unit: u.ID, Params: params, Objects: []string{u.ID}})
	if err != nil || result == nil {
		return err
	}
	if err := json.Unmarshal(r.Result, result); err != nil {
		return fmt.Errorf("read the answer of %s: %w", fn, err)
	}
	return nil
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
func mountChild(_ context.Context, _ *ChildInput, p mountParams) (any, error) {
	if err := holds(p.Spec); err != nil {
		return nil, err
	}
	if err := mount.Writable(p.Spec); err != nil {
		return nil, err
	}
	if !p.IfClean {
		return mountTried{}, mount.Mount(p.Spec)
	}
	if why := mount.UncheckedDevice(p.Device); why != "" {
		return mountTried{why}, nil
	}
	if err := mount.Mount(p.Spec); err != nil { // its superblock may be all that is clean
		return mountTried{"it does not mount as it is"}, nil
	}
	return mountTried{}, nil
}

// remountChild is the child remount.
func remountChild(_ context.Context, _ *ChildInput, s mount.Spec) (any, error) {
	return nil, mount.Remount(s)
}

// fsckChild is the child fsck.
func fsckChild(ctx context.Context, in *ChildInput, s mount.Spec) (any, error) {
	if err := holds(s); err != nil {
		return nil, err
	}
	return mount.Check(ctx, s.Device, s.Type, func(percent int) {
		in.Tell(ChildProgress{Progress: &engine.Progress{Text: fmt.Sprintf("fsck.%s %s: %d %%", s.Type, s.Device, percent), Object: s.Device}})
	})
}
