package step

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/renameio/v2"

	"initd/boot/engine"
	"initd/boot/plan"
	"initd/hw/link"
)

// linkAction brings interfaces up. rtnetlink does not block on a device, so it
// works here and in no child. Leases are kept renewed for as long as this
// process lives; a successor resumes them from a file.
type linkAction struct {
	deps *Deps

	mu     sync.Mutex
	keeper map[string]context.CancelFunc // guarded by mu; by unit
}

func newLinkAction(d *Deps) engine.Action {
	return &linkAction{deps: d, keeper: map[string]context.CancelFunc{}}
}

// addressProbe is how long other machines are asked whether they have an IPv4
// address of the file, before it is taken. A network that answers at all
// answers within milliseconds; every boot pays this.
const addressProbe = 300 * time.Millisecond

func (s linkSpec) config() link.Config {
	return link.Config{
		Probe: addressProbe,
		Name:  s.Name, MTU: s.MTU, Addresses: s.Addresses,
		Match: link.Match{MAC: s.Match.MAC, Path: s.Match.Path, Name: s.Match.Name, Driver: s.Match.Driver},
	}
}

func (a *linkAction) Check(_ context.Context, u *plan.Unit) (engine.Checked, error) {
	s, err := spec[linkSpec](u)
	if err != nil {
		return engine.Checked{}, err
	}
	st, err := link.Read()
	if err != nil {
		return engine.Checked{}, err
	}
	answer, reason, err := link.Check(st, s.config())
	if err != nil {
		return engine.Checked{}, err
	}
	i, err := st.Find(s.config().Match)
	if err == nil && answer == link.Same && s.DHCP4 {
		if l, ok := a.resume(s.Name, st, i); ok {
			a.keep(u.ID, s.Name, i.Name, l)
		} else {
			answer, reason = link.Partial, "no lease"
		}
	}
	return engine.Checked{Answer: engine.Answer(answer), Reason: reason, Object: i.Name}, nil
}

func (a *linkAction) Apply(ctx context.Context, u *plan.Unit, progress func(engine.Progress)) error {
	s, err := spec[linkSpec](u)
	if err != nil {
		return err
	}
	name, err := link.Apply(ctx, s.config(), func(why string) { progress(engine.Progress{Waiting: why}) })
	if err != nil {
		return err
	}
	progress(engine.Progress{Object: name})
	if !s.DHCP4 {
		return nil
	}
	l, err := link.Acquire(ctx, name, func(why string) { progress(engine.Progress{Waiting: why, Object: name}) })
	if err != nil {
		return err
	}
	progress(engine.Progress{Text: "lease of " + l.Address.String(), Object: name, Server: l.Server.String()})
	a.keep(u.ID, s.Name, name, l)
	return a.record(s.Name, l)
}

// Rollback leaves what is there: a half-configured interface is completed by
// the next attempt, and taking addresses away could cut somebody off.
func (a *linkAction) Rollback(context.Context, *plan.Unit) error { return nil }

func (a *linkAction) leaseFile(name string) string {
	return filepath.Join(a.deps.Paths.Run, "lease-"+name+".json")
}

// record keeps the lease for a successor, and its name servers where the file
// names none.
func (a *linkAction) record(name string, l link.Lease) error {
	b, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("keep lease of %s: %w", name, err)
	}
	if err := renameio.WriteFile(a.leaseFile(name), b, 0o644, renameio.WithTempDir(a.deps.Paths.Run)); err != nil {
		return fmt.Errorf("keep lease of %s: %w", name, err)
	}
	if a.deps.OwnDNS || len(l.DNS) == 0 {
		return nil
	}
	var servers []string
	for _, s := range l.DNS {
		servers = append(servers, s.String())
	}
	return link.WriteResolv(a.deps.Paths.Resolv, servers, l.Search)
}

// resume finds the lease of an orchestrator before this one, if its address is
// still there.
func (a *linkAction) resume(name string, st *link.State, i link.Interface) (link.Lease, bool) {
	b, err := os.ReadFile(a.leaseFile(name))
	if err != nil {
		return link.Lease{}, false
	}
	var l link.Lease
	if json.Unmarshal(b, &l) != nil {
		return l, false
	}
	for _, x := range st.Addresses {
		if x.Index == i.Index && x.Prefix == l.Address {
			return l, true
		}
	}
	return l, false
}

// keep renews the lease in the background; one keeper a unit.
func (a *linkAction) keep(unit, name, kernel string, l link.Lease) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if stop := a.keeper[unit]; stop != nil {
		stop()
	}
	ctx, cancel := context.WithCancel(a.deps.Life)
	a.keeper[unit] = cancel
	go link.Keep(ctx, kernel, l, func(l link.Lease, err error) {
		if err != nil {
			a.deps.Note(err.Error())
			return
		}
		if err := a.record(name, l); err != nil {
			a.deps.Note(err.Error())
		}
	})
}
