package report

import (
	"slices"
	"time"
)

// critical walks back from ready, or from the unit that was through last: at
// each unit the need that was met last, and from there on the unit that
// provides it. The links are in the order of time.
func critical(r *Report) []Link {
	idx := newIndex(r)
	u := idx.target(r)
	var path []Link
	seen := map[*Unit]bool{}
	for u != nil && !seen[u] {
		seen[u] = true
		began := idx.began(u, r.Now)
		name, at, never := idx.lastNeed(u, began)
		l := Link{Unit: u.ID, For: name, From: at, To: u.Ended}
		if u.Ended == 0 {
			l.To = r.Now
		}
		if name == "" {
			l.From = r.Origin
			if u.Started > 0 {
				l.From = u.Started
			}
		}
		if never {
			l.From = l.To // it never began
			l.Reason = u.Reason
		}
		path = append(path, l)
		if name == "" {
			break
		}
		p := idx.provider[name]
		if p == nil {
			w := Link{For: name, To: at, Never: never, From: r.Origin}
			if res := idx.resource[name]; res != nil {
				w.Reason = res.Reason
			}
			path = append(path, w)
		}
		u = p
	}
	slices.Reverse(path)
	return path
}

// index finds things by name.
type index struct {
	provider map[string]*Unit
	resource map[string]*Resource
}

func newIndex(r *Report) *index {
	x := &index{provider: map[string]*Unit{}, resource: map[string]*Resource{}}
	for i := range r.Units {
		u := &r.Units[i]
		for _, p := range u.Provides {
			if x.provider[p] == nil {
				x.provider[p] = u
			}
		}
	}
	for i := range r.Resources {
		x.resource[r.Resources[i].Name] = &r.Resources[i]
	}
	return x
}

// target is ready if it was reached, else the unit that was through last.
func (x *index) target(r *Report) *Unit {
	var last *Unit
	for i := range r.Units {
		u := &r.Units[i]
		if u.ID == "ready" && u.State.OK() {
			return u
		}
		if u.Milestone {
			continue
		}
		if last == nil || endOf(u, r.Now) > endOf(last, r.Now) {
			last = u
		}
	}
	return last
}

func endOf(u *Unit, now time.Duration) time.Duration {
	if u.Ended == 0 {
		return now
	}
	return u.Ended
}

// began is when the unit stopped waiting for needs: its first attempt, or, if
// there was none, the end of its first round.
func (x *index) began(u *Unit, now time.Duration) time.Duration {
	if u.Started > 0 && (u.Ended == 0 || u.Started <= u.Ended) {
		return u.Started
	}
	return endOf(u, now)
}

// lastNeed is the need that was met last by the time at; never: one that was
// not met at all.
func (x *index) lastNeed(u *Unit, at time.Duration) (name string, when time.Duration, never bool) {
	for _, n := range u.Needs {
		who, t, ok := x.met(n, at)
		if !ok && u.Started > 0 && u.Started <= at {
			continue // met all the same: its events are not in the file
		}
		if !ok {
			return who, at, true
		}
		if who != "" && (name == "" || t >= when) {
			name, when = who, t
		}
	}
	return name, when, false
}

// met tells when a need was met, looking back from at, and by which resource
// in the end; ok is false if it was not.
func (x *index) met(n Need, at time.Duration) (name string, when time.Duration, ok bool) {
	type arrival struct {
		name string
		at   time.Duration
	}
	var list []arrival
	for _, r := range n.AnyOf {
		if t, here := x.came(r, n.After, at); here {
			list = append(list, arrival{r, t})
		}
	}
	slices.SortStableFunc(list, func(a, b arrival) int { return int(a.at - b.at) })
	want := max(n.Min, 1)
	if n.After {
		want = len(n.AnyOf)
	}
	if len(list) < want || want == 0 {
		for _, r := range n.AnyOf {
			if !slices.ContainsFunc(list, func(a arrival) bool { return a.name == r }) {
				return r, 0, false
			}
		}
		return "", 0, want == 0
	}
	return list[want-1].name, list[want-1].at, true
}

// came is when a resource last came before at, or, for after, when the unit
// that provides it was through its first round.
func (x *index) came(name string, after bool, at time.Duration) (time.Duration, bool) {
	if after {
		p := x.provider[name]
		if p == nil {
			return 0, true
		}
		return p.Ended, p.Ended > 0 && p.Ended <= at
	}
	r := x.resource[name]
	if r == nil {
		return 0, false
	}
	when, ok := time.Duration(0), false
	for _, t := range r.present {
		if t <= at {
			when, ok = t, true
		}
	}
	return when, ok
}
