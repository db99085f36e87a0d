package step

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"initd/boot/appliance"
	"initd/boot/engine"
	"initd/boot/plan"
)

// RootUnit is the unit of an appliance that mounts a root at /: once it and
// the milestone ready are there, the machine can be handed over.
const RootUnit = "root"

// rootSpec is the Spec of the unit root.
type rootSpec struct {
	Init string `json:"init"` // as the root sees it
}

// rootInit is what the kernel would execute too.
const rootInit = "/sbin/init"

// RootInit returns the init of the root that p hands the machine over to.
func RootInit(p *plan.Plan) (init string, ok bool) {
	u := p.Unit(RootUnit)
	if u == nil {
		return "", false
	}
	s, err := spec[rootSpec](u)
	return s.Init, err == nil
}

func rootStep() Step {
	return Step{
		Kind:     plan.Kind{Name: RootUnit, Expand: expandRoot},
		New:      func(d *Deps) engine.Action { return &rootAction{deps: d} },
		Children: map[string]ChildFunc{"root": Takes(rootChild)},
	}
}

// expandRoot: a mount at / makes the unit root.
func expandRoot(x *plan.Expansion) {
	for i, m := range x.Appliance.Mounts {
		if m.Where != "/" {
			continue
		}
		x.Add(fmt.Sprintf("mounts[%d]", i), plan.Unit{
			ID:    RootUnit,
			Stage: plan.Storage,
			Needs: []plan.Need{{AnyOf: []plan.Resource{plan.MountResource("/")}}},
			// What was looked for at the begin is there by now; the kernel's own late comers (NVMe's namespaces, USB) take a second.
			Patience: plan.Duration(2 * time.Second),
			Policy: x.Policy(appliance.Policy{}, plan.Policy{
				Deadline: plan.Duration(time.Minute),
				Retry:    plan.Retry{Initial: plan.Duration(2 * time.Second), Max: plan.Duration(30 * time.Second), Factor: 2, Jitter: 0.1},
			}),
		}, rootSpec{Init: rootInit})
	}
}

// rootAction makes sure that a root can take the machine over, before anything
// is given up for it. The hand-over itself is init's.
type rootAction struct{ deps *Deps }

func (a *rootAction) Check(_ context.Context, u *plan.Unit) (engine.Checked, error) {
	s, err := spec[rootSpec](u)
	if err == nil && a.deps.Paths.Root == "" {
		return engine.Checked{Answer: engine.Same, Reason: "the machine was handed over to it", Object: s.Init}, nil
	}
	return engine.Checked{Answer: engine.Absent, Object: s.Init}, err
}

// rootParams is what the child root is given.
type rootParams struct {
	Root string `json:"root"`
	Init string `json:"init"`
}

func (a *rootAction) Apply(ctx context.Context, u *plan.Unit, progress func(engine.Progress)) error {
	s, err := spec[rootSpec](u)
	if err != nil {
		return err
	}
	progress(engine.Progress{Object: s.Init})
	_, err = a.deps.Children.Run(ctx, Call{Func: "root", Unit: u.ID, Params: rootParams{Root: a.deps.Paths.Root, Init: s.Init}})
	return err
}

// Rollback: folders that were made harm nobody.
func (a *rootAction) Rollback(context.Context, *plan.Unit) error { return nil }

// rootChild looks at the root from the inside, so that its links mean what
// they will mean, and makes the mount points of what goes along.
func rootChild(_ context.Context, _ *ChildInput, p rootParams) (any, error) {
	if err := unix.Chroot(p.Root); err != nil {
		return nil, fmt.Errorf("enter %s: %w", p.Root, err)
	}
	if err := os.Chdir("/"); err != nil {
		return nil, fmt.Errorf("enter %s: %w", p.Root, err)
	}
	st, err := os.Stat(p.Init)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, noInit(p.Init, "there is none")
	case err != nil:
		return nil, fmt.Errorf("look at the root: %w", err)
	case !st.Mode().IsRegular() || st.Mode()&0o111 == 0:
		return nil, noInit(p.Init, "it is no program")
	}
	for _, dir := range []string{"/dev", "/proc", "/run", "/sys"} {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("the root has no %s, which cannot be made: %w", dir, err)
		}
	}
	return nil, nil
}

func noInit(init, why string) error {
	return &ChildError{
		CodeText: "ROOT-NO-INIT", ObjectText: init,
		Message:  fmt.Sprintf("the file system that is to be the root cannot take the machine over: %s: %s", init, why),
		HintText: "initd retry " + RootUnit,
	}
}
