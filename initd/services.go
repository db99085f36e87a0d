package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"initd/boot/engine"
	"initd/boot/plan"
	"initd/boot/step"
	"initd/initd/pid1/client"
	"initd/initd/supervise"
	"initd/shutdown/order"
)

// services is supervise as the steps and the way down see it.
type services struct{ m *supervise.Manager }

// adoptTime bounds taking services over; init never waits for a device.
const adoptTime = 30 * time.Second

// newServices takes over what runs. lost hears of services that ended and are
// not started again.
func newServices(life context.Context, init *client.Client, run string, children step.Children, lost func(unit, reason string)) (*services, error) {
	m := supervise.New(init, supervise.Options{
		Run: run,
		Exists: func(ctx context.Context, path string) (bool, error) {
			return step.Exists(ctx, children, path)
		},
		Changed: func(st supervise.Status) {
			if st.Phase == supervise.Failed {
				lost(plan.ClassService+"/"+st.Name, st.Reason)
			}
		},
	})
	ctx, cancel := context.WithTimeout(life, adoptTime)
	defer cancel()
	if err := m.Adopt(ctx); err != nil {
		return nil, err
	}
	go m.Run(life)
	return &services{m}, nil
}

func serviceOf(s step.ServiceSpec) supervise.Service {
	return supervise.Service{
		Name: s.Name, Command: s.Command, User: s.User, Group: s.Group, Env: s.Env, Dir: s.Directory,
		Ready:   supervise.Ready{Exec: s.Ready.Exec, TCP: s.Ready.TCP, Notify: s.Ready.Notify, File: s.Ready.File},
		Restart: supervise.Restart{When: s.Restart},
		Stop:    supervise.Stop{Signal: s.Signal, Timeout: time.Duration(s.Timeout)},
	}
}

func (v *services) Check(s step.ServiceSpec) engine.Checked {
	found, reason := v.m.Check(serviceOf(s))
	return engine.Checked{Answer: engine.Answer(found), Reason: reason, Object: s.Command[0]}
}

func (v *services) Start(ctx context.Context, s step.ServiceSpec, waiting func(string)) error {
	return v.m.Start(ctx, serviceOf(s), waiting)
}

func (v *services) Stop(ctx context.Context, name string) error { return v.m.Stop(ctx, name) }

// StopAll stops what runs, in waves: what needs others goes before them.
func (v *services) StopAll(ctx context.Context, p *plan.Plan) []string {
	below := map[string][]string{}
	for _, st := range v.m.List() {
		below[st.Name] = nil
		u := p.Unit(plan.ClassService + "/" + st.Name)
		if u == nil {
			continue
		}
		for _, n := range u.Needs {
			for _, r := range n.AnyOf {
				if other, ok := strings.CutPrefix(string(r), plan.ClassService+"/"); ok {
					below[st.Name] = append(below[st.Name], other)
				}
			}
		}
	}
	waves, err := order.Waves(below)
	var lines []string
	if cycle := (*order.Cycle)(nil); errors.As(err, &cycle) {
		lines = append(lines, cycle.Error())
	}
	for _, err := range v.m.StopAll(ctx, waves) {
		lines = append(lines, err.Error())
	}
	slices.Sort(lines)
	return lines
}
