package engine

import "initd/boot/plan"

// standsOn tells whether the unit names r.
func (u *unit) standsOn(r plan.Resource) bool {
	for _, n := range u.requires {
		for _, e := range n.edges {
			if e.r.name == r {
				return true
			}
		}
	}
	return false
}

// remember takes down which resources, in which generation, the unit stands
// on from now on.
func (u *unit) remember() {
	for _, n := range u.requires {
		n.stood = n.met()
		for _, e := range n.edges {
			e.seen = 0
			if e.ok {
				e.seen = e.r.gen
			}
		}
	}
}

// disturbed returns the first need that is no longer met by what met it when
// the unit was last looked at. What was not met even then and yet was found
// up, by an operator's order, stands without it.
func (u *unit) disturbed() *need {
	for _, n := range u.requires {
		if !n.stood {
			continue
		}
		same := 0
		for _, e := range n.edges {
			if e.ok && e.seen == e.r.gen {
				same++
			}
		}
		if same < n.want {
			return n
		}
	}
	return nil
}
