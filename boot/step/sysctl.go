package step

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"initd/boot/appliance"
	"initd/boot/engine"
	"initd/boot/plan"
	"initd/hw/sysctl"
)

// sysctlSpec is the Spec of a unit of kind sysctl.
type sysctlSpec struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

func sysctlStep() Step {
	return Step{
		Kind: plan.Kind{Name: "sysctl", Expand: expandSysctl},
		New:  func(*Deps) engine.Action { return sysctlAction{} },
	}
}

// expandSysctl: each parameter becomes sysctl/KEY, which needs nothing.
func expandSysctl(x *plan.Expansion) {
	for _, key := range x.Appliance.Sysctl.Keys() {
		x.Add("sysctl."+key, plan.Unit{
			ID:       "sysctl/" + key,
			Stage:    plan.Network,
			Provides: []plan.Resource{plan.Resource("sysctl/" + key)},
			Policy:   x.Policy(appliance.Policy{}, plan.Policy{Deadline: plan.Duration(5 * time.Second)}),
		}, sysctlSpec{Key: key, Value: x.Appliance.Sysctl[key]})
	}
}

// sysctlAction sets one kernel parameter. A value that is not ours is no
// conflict: the file says what it is to be.
type sysctlAction struct{}

func (sysctlAction) Check(_ context.Context, u *plan.Unit) (engine.Checked, error) {
	s, err := spec[sysctlSpec](u)
	if err != nil {
		return engine.Checked{}, err
	}
	sys, err := os.OpenRoot("/proc/sys")
	if err != nil {
		return engine.Checked{}, fmt.Errorf("sysctl %s: %w", s.Key, err)
	}
	defer sys.Close()
	have, err := sysctl.Read(sys, s.Key)
	switch {
	case errors.As(err, new(*sysctl.UnknownError)): // a module may bring it, but no operator can
		return engine.Checked{}, advised{err, "initd skip " + u.ID}
	case err != nil:
		return engine.Checked{}, err
	case have == sysctl.Normal(s.Value):
		return engine.Checked{Answer: engine.Same, Object: s.Key}, nil
	}
	return engine.Checked{Answer: engine.Partial, Reason: "it is " + have, Object: s.Key}, nil
}

func (sysctlAction) Apply(_ context.Context, u *plan.Unit, _ func(engine.Progress)) error {
	s, err := spec[sysctlSpec](u)
	if err != nil {
		return err
	}
	sys, err := os.OpenRoot("/proc/sys")
	if err != nil {
		return fmt.Errorf("sysctl %s: %w", s.Key, err)
	}
	defer sys.Close()
	return sysctl.Write(sys, s.Key, s.Value)
}

// Rollback: a value that the kernel refused was not taken.
func (sysctlAction) Rollback(context.Context, *plan.Unit) error { return nil }
