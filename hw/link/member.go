package link

import (
	"fmt"
	"strings"
)

// MemberError is a bond that lacks some of its members: it works, and has nothing left to lose.
type MemberError struct {
	Link    string
	Missing []string // why each is not there
}

func (e *MemberError) Error() string {
	return fmt.Sprintf("link %s works with fewer members than it is to have: %s", e.Link, strings.Join(e.Missing, "; "))
}

// Code is the stable code of this error.
func (*MemberError) Code() string { return "LINK-NO-MEMBER" }

// Object is what the report names.
func (e *MemberError) Object() string { return e.Link }

// Hint says what to do.
func (*MemberError) Hint() string {
	return "look for the card, its driver and its MAC; it joins by itself when it comes"
}

// MissingMember returns a *MemberError for a bond whose members are not all there, else nil.
func MissingMember(s *State, c Config) error {
	if c.Make.Bond == nil {
		return nil
	}
	e := &MemberError{Link: c.Name}
	for _, m := range c.Make.Bond.Members {
		if _, err := s.Find(m); err != nil {
			e.Missing = append(e.Missing, err.Error())
		}
	}
	if e.Missing == nil {
		return nil
	}
	return e
}
