package step

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"initd/boot/plan"
	"initd/hw/link"
)

// What is late about another machine's answer, and how long one that is known
// to have an address is asked whether it still has it.
const (
	lateAnswer    = 10 * time.Second
	conflictProbe = 2 * time.Second
)

// addresses4 are the file's IPv4 addresses.
func (s linkSpec) addresses4() []netip.Prefix {
	var list []netip.Prefix
	for _, p := range s.Addresses {
		if p.Addr().Is4() {
			list = append(list, p)
		}
	}
	return list
}

// defend hears of machines that have one of the file's IPv4 addresses too: late
// answers to the question before it was taken, and those that take it later.
func (a *linkAction) defend(u *plan.Unit, s linkSpec, kernel string) {
	var list []netip.Addr
	for _, p := range s.addresses4() {
		list = append(list, p.Addr())
	}
	if len(list) == 0 {
		return
	}
	a.keep(u.ID, "addresses", false, func(ctx context.Context) {
		err := link.Defend(ctx, kernel, list, func(c link.Conflict) bool { return a.conflict(u.ID, s, kernel, c) })
		if err != nil {
			a.deps.Note(err.Error())
		}
		a.drop(u.ID, "addresses") // the interface is gone: the next attempt begins anew
	})
}

// conflict notes who has an address of the unit too, and that the unit is
// therefore not done. An address that was taken a moment ago is given up, as it
// would not have been taken had the answer come in time; one that has been in
// use for longer is kept and defended.
func (a *linkAction) conflict(unit string, s linkSpec, kernel string, c link.Conflict) (defend bool) {
	e := &link.DuplicateError{Link: s.Name, Address: c.Address, Owner: c.Owner.String()}
	a.mu.Lock()
	first := a.conflicts[unit] == nil
	a.conflicts[unit] = e
	early := time.Since(a.taken[unit]) < lateAnswer
	a.mu.Unlock()
	if early {
		for _, p := range s.addresses4() {
			if p.Addr() != c.Address {
				continue
			}
			if err := link.GiveUp(kernel, p); err != nil {
				a.deps.Note(err.Error())
			}
		}
	}
	if first && a.deps.Lose != nil {
		a.deps.Lose(unit, e.Error())
	}
	return !early
}

// disputed is the conflict that stands, or nil.
func (a *linkAction) disputed(unit string) *link.DuplicateError {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.conflicts[unit]
}

// settled asks whether a conflict still stands, where this machine has kept
// the address.
func (a *linkAction) settled(ctx context.Context, unit, kernel string, st *link.State, e *link.DuplicateError) error {
	if !has4(st, kernel, e.Address) {
		return nil // it is asked for before it is taken again
	}
	owner, err := link.Probe(ctx, kernel, e.Address, conflictProbe)
	if err != nil {
		return err
	}
	if owner != nil {
		return e
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.conflicts, unit)
	return nil
}

// took notes that an attempt has taken the addresses that were missing in st.
func (a *linkAction) took(unit string, s linkSpec, kernel string, st *link.State) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range s.addresses4() {
		if has4(st, kernel, p.Addr()) {
			continue
		}
		a.taken[unit] = time.Now()
		if e := a.conflicts[unit]; e != nil && e.Address == p.Addr() {
			delete(a.conflicts, unit)
		}
	}
}

func has4(st *link.State, kernel string, address netip.Addr) bool {
	i, err := st.Find(link.Match{Name: kernel})
	return err == nil && slices.ContainsFunc(st.Addresses, func(a link.Address) bool { return a.Index == i.Index && a.Prefix.Addr() == address })
}
