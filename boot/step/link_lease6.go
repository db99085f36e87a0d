package step

import (
	"context"
	"fmt"
	"net"

	"initd/boot/engine"
	"initd/boot/plan"
	"initd/hw/link"
	"initd/hw/sysfs"
)

const keeps6 = "lease by DHCPv6"

// dhcp6 is the client of a link.
func (a *linkAction) dhcp6(kernel string) (link.DHCP6, error) {
	i, err := net.InterfaceByName(kernel)
	if err != nil {
		return link.DHCP6{}, err
	}
	sys, err := sysfs.Open("/")
	if err != nil {
		return link.DHCP6{}, err
	}
	defer sys.Close()
	return link.DHCP6{Link: kernel, DUID: link.DUID(sys, i.HardwareAddr), Carries: carries}, nil
}

// acquire6 gets a lease by DHCPv6 and keeps it. Its routes come from routers,
// who are asked beside it; whether one has answered shows in the way to
// whoever is to be reached.
func (a *linkAction) acquire6(ctx context.Context, u *plan.Unit, s linkSpec, kernel string, progress func(engine.Progress)) error {
	if a.kept(u.ID, keeps6) {
		return nil // an attempt before this one got it, and something else was missing
	}
	a.keep(u.ID, "routers", true, func(ctx context.Context) {
		_, _ = link.AwaitRouters(ctx, kernel, false, func(string) {}) // it ends with the orchestrator, at the latest
	})
	c, err := a.dhcp6(kernel)
	if err != nil {
		return fmt.Errorf("link %s: %w", s.Name, err)
	}
	l, err := c.Acquire(ctx, func(why string) { progress(engine.Progress{Waiting: why, Object: kernel}) })
	if err != nil {
		return err
	}
	progress(engine.Progress{Text: "lease of " + l.Address.String(), Object: kernel})
	a.keep6(u.ID, s, c, l)
	return a.record6(s, kernel, l)
}

// awaitRouters waits for an address as routers advertise, or by DHCPv6 where
// they say so.
func (a *linkAction) awaitRouters(ctx context.Context, u *plan.Unit, s linkSpec, kernel string, progress func(engine.Progress)) error {
	waiting := func(why string) { progress(engine.Progress{Waiting: why, Object: kernel}) }
	said, err := link.AwaitRouters(ctx, kernel, true, waiting)
	switch {
	case err != nil:
		return fmt.Errorf("link %s: %w", s.Name, err)
	case said.Managed && !said.Address:
		return a.acquire6(ctx, u, s, kernel, progress)
	case said.Managed:
		a.behind(u, s, kernel, link.DHCP6.Acquire)
	case said.Other:
		a.behind(u, s, kernel, link.DHCP6.Inform)
	}
	return nil
}

// behind asks by DHCPv6 for what the link can do without: an address of
// another kind than it has, name servers.
func (a *linkAction) behind(u *plan.Unit, s linkSpec, kernel string, ask func(link.DHCP6, context.Context, func(string)) (link.Lease6, error)) {
	a.keep(u.ID, "question by DHCPv6", false, func(ctx context.Context) {
		c, err := a.dhcp6(kernel)
		if err != nil {
			a.deps.Note(fmt.Sprintf("link %s: %v", s.Name, err))
			return
		}
		l, err := ask(c, ctx, func(string) {})
		if err != nil {
			return // the orchestrator ends
		}
		a.keep6(u.ID, s, c, l)
		if err := a.record6(s, kernel, l); err != nil {
			a.deps.Note(err.Error())
		}
	})
}

// keep6 renews the lease in the background.
func (a *linkAction) keep6(unit string, s linkSpec, c link.DHCP6, l link.Lease6) {
	a.keep(unit, keeps6, true, func(ctx context.Context) {
		c.Keep(ctx, l, func(l link.Lease6, err error) {
			if err == nil {
				err = a.record6(s, c.Link, l)
			}
			if err != nil {
				a.deps.Note(err.Error())
			}
		})
	})
}

// record6 keeps the lease for a successor, and its name servers.
func (a *linkAction) record6(s linkSpec, kernel string, l link.Lease6) error {
	a.dns.set(s, "dhcp6", texts(link.Scoped(l.DNS, kernel)), l.Search)
	return a.record("lease6", s.Name, l)
}

// resume6 finds the lease of an orchestrator before this one, if its address
// is still there, and keeps it. Information alone is kept too, and is no
// lease: then the answer is false.
func (a *linkAction) resume6(u *plan.Unit, s linkSpec, st *link.State, i link.Interface) bool {
	if a.kept(u.ID, keeps6) {
		return true
	}
	var l link.Lease6
	if !a.recorded("lease6", s.Name, &l) || l.Address.IsValid() && !st.Has(i.Index, l.Prefix()) {
		return false
	}
	c, err := a.dhcp6(i.Name)
	if err != nil {
		return false
	}
	a.keep6(u.ID, s, c, l)
	a.dns.set(s, "dhcp6", texts(link.Scoped(l.DNS, i.Name)), l.Search)
	return l.Address.IsValid()
}
