package step

import (
	"context"

	"golang.org/x/sys/unix"

	"initd/boot/appliance"
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
	c := link.RouteConfig{To: s.To, Via: s.Via, Metric: s.Metric, Table: s.Table, Source: s.Source, OnLink: s.OnLink, Type: routeTypes()[s.Type]}
	if s.Link == "" {
		return st, c, nil
	}
	c.Link, err = kernelName(st, s.Link, s.Match)
	return st, c, err
}

// routeTypes are the kernel's numbers (include/uapi/linux/rtnetlink.h).
func routeTypes() map[string]uint8 {
	return map[string]uint8{"blackhole": unix.RTN_BLACKHOLE, "unreachable": unix.RTN_UNREACHABLE, "prohibit": unix.RTN_PROHIBIT}
}

// kernelName finds a link of the file.
func kernelName(st *link.State, name string, m appliance.LinkMatch) (string, error) {
	match := matchFor(m)
	if m.Zero() {
		match.Name = name
	}
	i, err := st.Find(match)
	return i.Name, err
}

// kernelLink is kernelName of the machine as it is now, where the kernel may
// call the link otherwise than the file.
func kernelLink(name string, m appliance.LinkMatch) (string, error) {
	if m.Zero() {
		return name, nil
	}
	st, err := link.Read()
	if err != nil {
		return "", err
	}
	return kernelName(st, name, m)
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
