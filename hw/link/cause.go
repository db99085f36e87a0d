package link

import (
	"slices"
	"strings"
)

// maxStack bounds how many interfaces stand on each other; the kernel has a bound too (MAX_NEST_DEV).
const maxStack = 8

// Cause says why nothing can pass through i: the lowest reason there is, named by the interface that has it. "" if
// something can, as far as this machine knows.
func (s *State) Cause(i Interface) string { return s.cause(i, maxStack) }

func (s *State) cause(i Interface, depth int) string {
	if depth == 0 {
		return ""
	}
	if lower, ok := s.byIndex(i.Lower); ok && i.Lower != 0 {
		if why := s.cause(lower, depth-1); why != "" {
			return why
		}
	}
	switch {
	case !i.Up:
		return i.Name + " is down"
	case !i.Carrier:
		return s.noCarrier(i, depth)
	case i.Kind == "bond" && i.Bond.Mode == BondMode8023AD && i.Bond.Partner == "" && !slices.Contains(s.Alone, i.Index):
		return i.Name + ": no LACP partner"
	}
	return ""
}

// noCarrier looks for the reason in what i is made of.
func (s *State) noCarrier(i Interface, depth int) string {
	if i.Kind != "bond" && i.Kind != "bridge" {
		return i.Name + ": no carrier"
	}
	var why []string
	parts := 0
	for _, p := range s.Interfaces {
		if p.Master != i.Index {
			continue
		}
		parts++
		if w := s.cause(p, depth-1); w != "" {
			why = append(why, w)
		}
	}
	switch {
	case parts == 0:
		return i.Name + ": none of its " + map[string]string{"bond": "members", "bridge": "ports"}[i.Kind] + " is there"
	case len(why) < parts: // what works is not enough, or not yet in use
		return i.Name + ": no carrier"
	}
	return strings.Join(why, ", ")
}

// PartnerMissing tells whether i is an 802.3ad bond with a carrier whose switch has not answered.
func (i Interface) PartnerMissing() bool {
	return i.Kind == "bond" && i.Bond.Mode == BondMode8023AD && i.Up && i.Carrier && i.Bond.Partner == ""
}
