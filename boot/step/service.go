package step

import (
	"fmt"
	"time"

	"initd/boot/appliance"
	"initd/boot/plan"
)

// serviceSpec is the Spec of a unit of kind service.
type serviceSpec struct {
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

func serviceStep() Step {
	return Step{
		Kind: plan.Kind{Name: "service", Expand: expandServices},
		New:  newServiceAction,
	}
}

// expandServices: a service needs what it says, and the mounts that hold its
// program and its folder.
func expandServices(x *plan.Expansion) {
	for i, v := range x.Appliance.Services {
		at := fmt.Sprintf("services[%d]", i)
		s := serviceSpec{
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
}
