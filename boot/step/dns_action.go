package step

import (
	"context"
	"os"

	"initd/boot/engine"
	"initd/boot/plan"
	"initd/hw/link"
)

// dnsAction writes resolv.conf.
type dnsAction struct{ deps *Deps }

func newDNSAction(d *Deps) engine.Action { return &dnsAction{deps: d} }

func (a *dnsAction) Check(_ context.Context, u *plan.Unit) (engine.Checked, error) {
	s, err := spec[dnsSpec](u)
	if err != nil {
		return engine.Checked{}, err
	}
	b, err := os.ReadFile(a.deps.Paths.Resolv)
	if err == nil && string(b) == link.Resolv(s.Servers, s.Search) {
		return engine.Checked{Answer: engine.Same, Object: a.deps.Paths.Resolv}, nil
	}
	return engine.Checked{Answer: engine.Absent, Object: a.deps.Paths.Resolv}, nil
}

func (a *dnsAction) Apply(_ context.Context, u *plan.Unit, _ func(engine.Progress)) error {
	s, err := spec[dnsSpec](u)
	if err != nil {
		return err
	}
	return link.WriteResolv(a.deps.Paths.Resolv, s.Servers, s.Search)
}

func (a *dnsAction) Rollback(context.Context, *plan.Unit) error { return nil }
