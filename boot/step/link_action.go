package step

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"initd/boot/engine"
	"initd/boot/plan"
	"initd/hw/link"
)

// linkAction brings interfaces up. rtnetlink does not block on a device, so it
// works here and in no child. What has to be kept up (leases, name servers of
// routers, members that come late) is, for as long as this process lives; a
// successor resumes it from files.
type linkAction struct {
	deps *Deps
	dns  *nameServerFiles

	naming sync.Mutex // held while interfaces get their names

	mu      sync.Mutex
	keepers map[string]context.CancelFunc // guarded by mu; by unit and what is kept

	conflicts map[string]*link.DuplicateError // guarded by mu; by unit: who has an address too
	taken     map[string]time.Time            // guarded by mu; by unit: when addresses were taken last
}

func newLinkAction(d *Deps) engine.Action {
	return &linkAction{deps: d, dns: d.nameServers(), keepers: map[string]context.CancelFunc{},
		conflicts: map[string]*link.DuplicateError{}, taken: map[string]time.Time{}}
}

// partnerPatience is how long the switch of an 802.3ad bond is waited for.
// The first answer of one takes a few seconds.
const partnerPatience = 10 * time.Second

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
	i, err := s.which(st)
	if err == nil && answer == link.Same {
		if why := a.resume(u, s, st, i); why != "" {
			answer, reason = link.Partial, why
		}
		if e := a.disputed(u.ID); e != nil {
			answer, reason = link.Partial, e.Error()
		}
	}
	return engine.Checked{Answer: engine.Answer(answer), Reason: reason, Object: i.Name}, nil
}

// resume takes up what an orchestrator before this one kept, and says what is
// missing.
func (a *linkAction) resume(u *plan.Unit, s linkSpec, st *link.State, i link.Interface) (missing string) {
	if s.DHCP4 && !a.resume4(u, s, st, i) {
		return "no lease by DHCP"
	}
	if s.DHCP6 && !a.resume6(u, s, st, i) {
		return "no lease by DHCPv6"
	}
	if s.RA && !s.DHCP6 && !a.resume6(u, s, st, i) && !st.HasDynamic6(i.Index) {
		return "no address from a router"
	}
	if s.Bond != nil && s.Bond.LACP && i.PartnerMissing() {
		return "no LACP partner"
	}
	if e := link.MissingMember(st, s.config()); e != nil {
		return e.Error()
	}
	a.follow(u, s, i.Name)
	return ""
}

func (a *linkAction) Apply(ctx context.Context, u *plan.Unit, progress func(engine.Progress)) error {
	s, err := spec[linkSpec](u)
	if err != nil {
		return err
	}
	before, err := link.Read()
	if err != nil {
		return err
	}
	c := s.config()
	c.Naming = &a.naming
	if e := a.disputed(u.ID); e != nil {
		c.Probe = conflictProbe
		if i, err := s.which(before); err == nil {
			if err := a.settled(ctx, u.ID, i.Name, before, e); err != nil {
				return err
			}
		}
	}
	name, err := link.Apply(ctx, c, func(why string) { progress(engine.Progress{Waiting: why}) })
	if err != nil {
		return err
	}
	a.took(u.ID, s, name, before)
	progress(engine.Progress{Object: name})
	waiting := func(why string) { progress(engine.Progress{Waiting: why, Object: name}) }
	a.follow(u, s, name)
	var failed []error
	if s.Bond != nil && s.Bond.LACP {
		failed = append(failed, link.AwaitPartner(ctx, name, partnerPatience, waiting))
	}
	var jobs sync.WaitGroup
	var mu sync.Mutex
	do := func(f func() error) {
		jobs.Go(func() {
			err := f()
			mu.Lock()
			defer mu.Unlock()
			failed = append(failed, err)
		})
	}
	if s.DHCP4 {
		do(func() error { return a.acquire4(ctx, u, s, name, progress) })
	}
	if s.DHCP6 {
		do(func() error { return a.acquire6(ctx, u, s, name, progress) })
	} else if s.RA {
		do(func() error { return a.awaitRouters(ctx, u, s, name, progress) })
	}
	jobs.Wait()
	if st, err := link.Read(); err != nil {
		failed = append(failed, err)
	} else if e := link.MissingMember(st, c); e != nil {
		failed = append(failed, e)
	}
	if e := a.disputed(u.ID); e != nil {
		failed = append(failed, e)
	}
	return errors.Join(failed...)
}

// Rollback leaves what is there: a half-configured interface is completed by
// the next attempt, and taking addresses away could cut somebody off.
func (a *linkAction) Rollback(context.Context, *plan.Unit) error { return nil }

// keep runs f in the background until the orchestrator ends; one at a time of
// each unit and what. It returns false if one runs and again is not set.
func (a *linkAction) keep(unit, what string, again bool, f func(context.Context)) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := unit + " " + what
	stop := a.keepers[key]
	if stop != nil && !again {
		return false
	}
	if stop != nil {
		stop()
	}
	ctx, cancel := context.WithCancel(a.deps.Life)
	a.keepers[key] = cancel
	go f(ctx)
	return true
}

// drop forgets a keeper that has ended by itself.
func (a *linkAction) drop(unit, what string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if stop := a.keepers[unit+" "+what]; stop != nil {
		stop()
		delete(a.keepers, unit+" "+what)
	}
}

func (a *linkAction) kept(unit, what string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.keepers[unit+" "+what] != nil
}

// follow keeps up what needs no lease: the file's name servers, those of
// routers, the parts of bonds and bridges that come late, and an eye on the
// carrier.
func (a *linkAction) follow(u *plan.Unit, s linkSpec, kernel string) {
	if s.DNS != nil {
		a.dns.set(s, "file", s.DNS.Servers, s.DNS.Search)
	}
	if s.RA || s.DHCP6 {
		a.keep(u.ID, "routers' name servers", false, func(ctx context.Context) { a.routersDNS(ctx, s, kernel) })
	}
	a.defend(u, s, kernel)
	a.keep(u.ID, "state", false, func(ctx context.Context) { a.watch(ctx, u.ID, s, kernel) })
}

// watch reports a link that was up and lost its carrier, its LACP partner or
// itself, and its return; and puts parts that come late into a bond or bridge.
// Nothing is taken away meanwhile: leases and addresses stay.
func (a *linkAction) watch(ctx context.Context, unit string, s linkSpec, kernel string) {
	was, lost := false, ""
	joined := joiner{join: func() error { return link.Join(s.config()) }, note: a.deps.Note}
	err := link.Watch(ctx, func(st *link.State) {
		i, err := st.Find(link.Match{Name: kernel})
		why := ""
		if err != nil {
			why = "the interface " + kernel + " is gone"
		} else {
			why = st.Cause(i)
		}
		switch {
		case why == "" && lost != "":
			a.deps.lost(unit, kernel, "it is there again", true)
			lost = ""
		case why != "" && why != lost && was:
			a.deps.lost(unit, kernel, why, false)
			lost = why
		}
		was = was || why == ""
		if link.CanJoin(st, s.config()) {
			joined.try()
		}
	})
	if err != nil {
		a.deps.Note(fmt.Sprintf("%s is not watched any more: %v", unit, err))
	}
}

// joinPause lies between two attempts to put parts into a bond or bridge that
// failed: an attempt is a change of links itself, of which the watch is told.
const joinPause = 10 * time.Second

// joiner puts parts that come late where they belong.
type joiner struct {
	join func() error
	note func(string)

	failed time.Time // when the last attempt did; zero: it did not
	said   string
}

func (j *joiner) try() {
	if !j.failed.IsZero() && time.Since(j.failed) < joinPause {
		return
	}
	err := j.join()
	if err == nil {
		j.failed, j.said = time.Time{}, ""
		return
	}
	if j.failed = time.Now(); err.Error() != j.said {
		j.said = err.Error()
		j.note(j.said)
	}
}

// routersDNS takes down what routers say about name servers, and forgets what
// they do not repeat in time.
func (a *linkAction) routersDNS(ctx context.Context, s linkSpec, kernel string) {
	said := make(chan link.RouterDNS)
	go func() {
		defer close(said)
		err := link.WatchRouterDNS(ctx, func(d link.RouterDNS) {
			if i, err := link.InterfaceName(d.Index); err != nil || i != kernel {
				return
			}
			d.Servers = link.Scoped(d.Servers, kernel)
			select {
			case said <- d:
			case <-ctx.Done():
			}
		})
		if err != nil {
			a.deps.Note(fmt.Sprintf("link %s: name servers of routers: %v", s.Name, err))
		}
	}()
	ends := time.NewTimer(0) // what an orchestrator before this one was told
	defer ends.Stop()
	for {
		var d link.RouterDNS
		select {
		case more, ok := <-said:
			if !ok {
				return
			}
			d = more
		case <-ends.C:
		}
		if next := a.dns.router(s, d); next > 0 {
			ends.Reset(next)
		}
	}
}
