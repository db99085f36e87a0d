package step

import (
	"context"

	"initd/boot/engine"
	"initd/boot/plan"
	"initd/hw/link"
)

// routeAction adds routes.
type routeAction struct{ deps *Deps }

func newRouteAction(d *Deps) engine.Action { return &routeAction{deps: d} }

func (a *routeAction) config(u *plan.Unit) (*link.State, link.RouteConfig, error) {
	s, err := spec[routeSpec](u)
	if err != nil {
		return nil, link.RouteConfig{}, err
	}
	st, err := link.Read()
	if err != nil {
		return nil, link.RouteConfig{}, err
	}
	c := link.RouteConfig{To: s.To, Via: s.Via, Metric: s.Metric}
	if s.Link == "" {
		return st, c, nil
	}
	m := link.Match{MAC: s.Match.MAC, Path: s.Match.Path, Name: s.Match.Name, Driver: s.Match.Driver}
	if s.Match.Zero() {
		m.Name = s.Link
	}
	i, err := st.Find(m)
	c.Link = i.Name
	return st, c, err
}

func (a *routeAction) Check(_ context.Context, u *plan.Unit) (engine.Checked, error) {
	st, c, err := a.config(u)
	if err != nil {
		return engine.Checked{}, err
	}
	answer, reason, err := link.CheckRoute(st, c)
	return engine.Checked{Answer: engine.Answer(answer), Reason: reason, Object: c.To}, err
}

func (a *routeAction) Apply(_ context.Context, u *plan.Unit, _ func(engine.Progress)) error {
	_, c, err := a.config(u)
	if err != nil {
		return err
	}
	return link.AddRoute(c)
}

func (a *routeAction) Rollback(context.Context, *plan.Unit) error { return nil }
