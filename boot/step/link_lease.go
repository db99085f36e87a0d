package step

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"initd/boot/engine"
	"initd/boot/plan"
	"initd/hw/link"
)

// dhcp4 is the client of a link.
func (a *linkAction) dhcp4(kernel string) link.DHCP {
	return link.DHCP{Link: kernel, Carries: carries}
}

// acquire4 gets a lease and keeps it.
func (a *linkAction) acquire4(ctx context.Context, u *plan.Unit, s linkSpec, kernel string, progress func(engine.Progress)) error {
	if a.kept(u.ID, "lease by DHCP") {
		return nil // an attempt before this one got it, and something else was missing
	}
	l, err := a.dhcp4(kernel).Acquire(ctx, func(why string) { progress(engine.Progress{Waiting: why, Object: kernel}) })
	if err != nil {
		return err
	}
	progress(engine.Progress{Text: "lease of " + l.Address.String(), Object: kernel, Server: l.Server.String()})
	a.keep4(u.ID, s, kernel, l)
	return a.record4(s, l)
}

// keep4 renews the lease in the background.
func (a *linkAction) keep4(unit string, s linkSpec, kernel string, l link.Lease) {
	a.keep(unit, "lease by DHCP", true, func(ctx context.Context) {
		a.dhcp4(kernel).Keep(ctx, l, func(l link.Lease, err error) {
			if err != nil {
				a.deps.Note(err.Error())
				return
			}
			if err := a.record4(s, l); err != nil {
				a.deps.Note(err.Error())
			}
		})
	})
}

func (a *linkAction) leaseFile(what, name string) string {
	return filepath.Join(a.deps.Paths.Run, what+"-"+name+".json")
}

// record4 keeps the lease for a successor, and its name servers.
func (a *linkAction) record4(s linkSpec, l link.Lease) error {
	a.dns.set(s, "dhcp4", texts(l.DNS), l.Search)
	return a.record("lease", s.Name, l)
}

func (a *linkAction) record(what, name string, l any) error {
	b, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("keep lease of %s: %w", name, err)
	}
	if err := renameio.WriteFile(a.leaseFile(what, name), b, 0o644); err != nil {
		return fmt.Errorf("keep lease of %s: %w", name, err)
	}
	return nil
}

// recorded reads the lease of an orchestrator before this one.
func (a *linkAction) recorded(what, name string, l any) bool {
	b, err := os.ReadFile(a.leaseFile(what, name))
	return err == nil && json.Unmarshal(b, l) == nil
}

func texts(list []netip.Addr) []string {
	var out []string
	for _, a := range list {
		out = append(out, a.String())
	}
	return out
}

// resume4 finds the lease of an orchestrator before this one, if its address
// is still there, and keeps it.
func (a *linkAction) resume4(u *plan.Unit, s linkSpec, st *link.State, i link.Interface) bool {
	if a.kept(u.ID, "lease by DHCP") {
		return true
	}
	var l link.Lease
	if !a.recorded("lease", s.Name, &l) || !st.Has(i.Index, l.Address) {
		return false
	}
	a.keep4(u.ID, s, i.Name, l)
	a.dns.set(s, "dhcp4", texts(l.DNS), l.Search)
	return true
}
