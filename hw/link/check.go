package link

import (
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// Config is one interface as somebody wants it.
type Config struct {
	Name   string // what people call it, and the kernel's name of what is made or renamed
	Match  Match  // which one it is; what is made has its name
	Make   Made   // zero: the interface is found
	Rename bool   // give it Name in the kernel too
	// Moving are other interfaces that are to be renamed: one of them that has Name now is put aside. Naming is held while
	// interfaces get their names; nil: nobody else does that.
	Moving    []Match
	Naming    sync.Locker
	MTU       int // bytes; 0: as it is
	Addresses []netip.Prefix
	RA        RA // what is taken of what routers advertise
	// Probe is how long other machines are asked whether they have one of the IPv4 addresses, before it is taken
	// (RFC 5227, which asks for 6 s); 0 leaves it out. IPv6 addresses are always checked, by the kernel.
	Probe time.Duration
	// Carries names the disk that is reached over an interface, "" if none is; nil: none ever is. See Carriers.
	Carries func(Interface) string
}

// which finds the interface, whether or not it has its new name already.
func (c Config) which(s *State) (Interface, error) {
	if c.Make.given() {
		return s.Find(Match{Name: c.Name})
	}
	return s.Find(c.Match)
}

// Answer is how the machine compares with what somebody wants.
type Answer string

// Answers.
const (
	Absent    Answer = "absent"    // nothing of it is there: Apply
	Partial   Answer = "partial"   // something is missing that Apply adds
	Same      Answer = "same"      // nothing to do
	Different Answer = "different" // something else is in its place; the reason says what
)

// Check compares; nothing is changed. An error says that the interface is not there, or not unique.
func Check(s *State, c Config) (Answer, string, error) {
	i, err := c.which(s)
	switch {
	case err != nil && c.Make.given():
		return Absent, "it is not made yet", nil
	case err != nil:
		return "", "", fmt.Errorf("link %s: %w", c.Name, err)
	case c.Make.Bond != nil && s.stray(i):
		return Absent, "nobody uses it", nil
	case c.Make.given():
		if why := c.Make.differs(i, s); why != "" {
			return Different, why, nil
		}
	case c.Rename && i.Name != c.Name:
		return Absent, "its name is " + i.Name, nil
	}
	present, missing := 0, ""
	for _, p := range c.Addresses {
		a, ok := s.address(i.Index, p)
		switch {
		case ok && a.Duplicate:
			missing = fmt.Sprintf("another machine has %s", p.Addr())
		case ok && a.Tentative:
			missing = fmt.Sprintf("%s is still checked for duplicates", p.Addr())
		case ok:
			present++
		default:
			if why := s.elsewhere(i, p); why != "" {
				return Different, why, nil
			}
			missing = "lacks " + p.String()
		}
	}
	if missing == "" && c.Make.given() {
		missing = c.Make.lacks(i, s)
	}
	if missing == "" {
		missing = c.RA.missing(i)
	}
	switch {
	case !i.Up && present == 0:
		return Absent, i.Name + " is down", nil
	case !i.Up:
		return Partial, i.Name + " is down", nil
	case c.MTU != 0 && i.MTU != c.MTU:
		return Partial, fmt.Sprintf("its MTU is %d, not %d", i.MTU, c.MTU), nil
	case missing != "" && present == 0:
		return Absent, missing, nil
	case missing != "":
		return Partial, missing, nil
	}
	return Same, "", nil
}

// elsewhere finds the address of p where it does not belong: on another interface the kernel would answer for it there.
func (s *State) elsewhere(want Interface, p netip.Prefix) string {
	for _, a := range s.Addresses {
		if a.Prefix.Addr() != p.Addr() || a.Index == want.Index || p.Addr().IsLinkLocalUnicast() {
			continue
		}
		on, _ := s.byIndex(a.Index)
		return fmt.Sprintf("%s is on %s", a.Prefix.Addr(), on.Name)
	}
	return ""
}

// DuplicateError is an address that another machine on the link has.
type DuplicateError struct {
	Link    string
	Address netip.Addr
	Owner   string // MAC of the other machine; empty where the kernel does not tell (IPv6)
}

func (e *DuplicateError) Error() string {
	owner := ""
	if e.Owner != "" {
		owner = " (" + e.Owner + ")"
	}
	return fmt.Sprintf("link %s: another machine%s has the address %s", e.Link, owner, e.Address)
}

// Code is the stable code of this error.
func (*DuplicateError) Code() string { return "LINK-DUPLICATE" }

// Object is what the report names.
func (e *DuplicateError) Object() string { return e.Link }

// Hint says what to do.
func (e *DuplicateError) Hint() string {
	return "find it by its neighbours (ip neigh), or give this machine another address"
}
