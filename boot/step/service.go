package step

import (
	"context"
	"fmt"
	"time"

	"initd/boot/appliance"
	"initd/boot/engine"
	"initd/boot/plan"
)

// ServiceSpec is the Spec of a unit of kind service.
type ServiceSpec struct {
	Name      string            `json:"name"`
	Command   []string          `json:"command"`
	User      string            `json:"user,omitempty"`
	Group     string            `json:"group,omitempty"`
	Env       map[string]string `json:"env,omitempty"`
	Directory string            `json:"directory,omitempty"`
	Ready     appliance.Ready   `json:"ready"`
	Restart   string            `json:"restart"`
	Signal    string            `json:"signal"`
	Timeout   plan.Duration     `json:"timeout"`
}

// Services starts and watches services; their parent is PID 1.
type Services interface {
	// Check tells whether the service runs as s says.
	Check(s ServiceSpec) engine.Checked
	// Start starts it and returns once it is ready; waiting hears what is
	// still missing. A service that runs already is only waited for.
	Start(ctx context.Context, s ServiceSpec, waiting func(string)) error
	// Stop ends it and what it left in its cgroup.
	Stop(ctx context.Context, name string) error
}

func serviceStep() Step {
	return Step{
		Kind: plan.Kind{Name: "service", Expand: expandServices},
		New:  newServiceAction,
	}
}

// expandServices: a service needs what it says, and the mounts that hold its
// program and its folder. The worker of v2v jobs is one too.
func expandServices(x *plan.Expansion) {
	for i, v := range x.Appliance.Services {
		at := fmt.Sprintf("services[%d]", i)
		s := ServiceSpec{
			Name: v.Name, Command: v.Command, User: v.User, Group: v.Group, Env: v.Env, Directory: v.Directory,
			Ready: v.Ready, Restart: v.Restart, Signal: v.Stop.Signal, Timeout: plan.Duration(v.Stop.Timeout.Or(10 * time.Second)),
		}
		if s.Restart == "" {
			s.Restart = "on-failure"
		}
		if s.Signal == "" {
			s.Signal = "TERM"
		}
		u := plan.Unit{
			ID:       plan.ClassService + "/" + v.Name,
			Stage:    plan.Services,
			Provides: []plan.Resource{plan.Resource(plan.ClassService + "/" + v.Name)},
			Policy: x.Policy(v.Policy, plan.Policy{
				Deadline: plan.Duration(time.Minute),
				Retry:    plan.Retry{Initial: plan.Duration(time.Second), Max: plan.Duration(30 * time.Second), Factor: 2, Jitter: 0.1},
			}),
		}
		seen := map[plan.Resource]bool{}
		need := func(r plan.Resource, mode plan.Mode) {
			if !seen[r] {
				seen[r] = true
				u.Needs = append(u.Needs, plan.Need{AnyOf: []plan.Resource{r}, Mode: mode})
			}
		}
		for j, n := range v.Needs {
			if r, ok := x.Needed(fmt.Sprintf("%s.needs[%d]", at, j), n); ok {
				need(r, plan.Require)
			}
		}
		for _, p := range append([]string{v.Directory}, v.Command...) {
			if len(p) > 0 && p[0] == '/' {
				if r, ok := x.MountOf(p); ok {
					need(r, plan.Require)
				}
			}
		}
		for j, n := range v.After {
			if r, ok := x.Needed(fmt.Sprintf("%s.after[%d]", at, j), n); ok {
				need(r, plan.After)
			}
		}
		x.Add(at, u, s)
	}
	expandJobs(x)
}

// serviceAction starts services.
type serviceAction struct{ deps *Deps }

func newServiceAction(d *Deps) engine.Action { return &serviceAction{deps: d} }

func (a *serviceAction) Check(_ context.Context, u *plan.Unit) (engine.Checked, error) {
	s, err := spec[ServiceSpec](u)
	if err != nil {
		return engine.Checked{}, err
	}
	return a.deps.Services.Check(s), nil
}

func (a *serviceAction) Apply(ctx context.Context, u *plan.Unit, progress func(engine.Progress)) error {
	s, err := spec[ServiceSpec](u)
	if err != nil {
		return err
	}
	return a.deps.Services.Start(ctx, s, func(why string) { progress(engine.Progress{Waiting: why, Object: s.Command[0]}) })
}

// Rollback stops what a failed start left running.
func (a *serviceAction) Rollback(ctx context.Context, u *plan.Unit) error {
	s, err := spec[ServiceSpec](u)
	if err != nil {
		return err
	}
	return a.deps.Services.Stop(ctx, s.Name)
}
