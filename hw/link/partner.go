package link

import (
	"context"
	"fmt"
	"time"
)

// PartnerError is an 802.3ad bond whose switch does not answer.
type PartnerError struct{ Link string }

func (e *PartnerError) Error() string {
	return fmt.Sprintf("link %s: no LACP partner: one member after the other carries traffic alone, or none does", e.Link)
}

// Code is the stable code of this error.
func (*PartnerError) Code() string { return "LINK-NO-PARTNER" }

// Object is what the report names.
func (e *PartnerError) Object() string { return e.Link }

// Hint says what to do.
func (*PartnerError) Hint() string {
	return "make the ports of the switch a group with LACP, or write mode: active-backup"
}

// AwaitPartner waits until the switch of an 802.3ad bond has answered, for at most patience; then the error is a
// *PartnerError. Without a carrier there is nobody to wait for.
func AwaitPartner(ctx context.Context, name string, patience time.Duration, waiting func(string)) error {
	soon, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	missing, said := false, false
	err := Watch(soon, func(s *State) {
		i, err := s.Find(Match{Name: name})
		missing = err == nil && i.PartnerMissing()
		if !missing && err == nil && i.Carrier {
			cancel()
		}
		if missing && !said {
			said = true
			waiting(name + ": no LACP partner")
		}
	})
	switch {
	case err != nil:
		return fmt.Errorf("link %s: %w", name, err)
	case ctx.Err() != nil:
		return fmt.Errorf("link %s: no LACP partner: %w", name, context.Cause(ctx))
	case missing:
		return &PartnerError{Link: name}
	}
	return nil
}
