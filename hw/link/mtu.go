package link

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// MTUError is an MTU that the kernel refuses.
type MTUError struct {
	Link, Interface string // as the file calls it, and as the kernel does
	MTU             int    // what was wanted
	Most            int    // what can be; 0: nobody says
	Below           string // the interface that sets the bound, where it is not Interface
}

func (e *MTUError) Error() string {
	s := fmt.Sprintf("link %s: set MTU %d: ", e.Link, e.MTU)
	switch {
	case e.Below != "":
		return s + fmt.Sprintf("%s below it has %d", e.Below, e.Most)
	case e.Most > 0 && e.Most < e.MTU:
		return s + fmt.Sprintf("%s can do %d at most", e.Interface, e.Most)
	}
	return s + e.Interface + " cannot do that"
}

// Code is the stable code of this error.
func (*MTUError) Code() string { return "LINK-MTU" }

// Object is what the report names.
func (e *MTUError) Object() string { return e.Interface }

// Hint says what to do.
func (e *MTUError) Hint() string {
	if e.Below != "" {
		return "give the link of " + e.Below + " that MTU first, or this one a smaller one"
	}
	return "write a smaller mtu"
}

// Retryable: what is below may get a larger one; what a card can do stays.
func (e *MTUError) Retryable() bool { return e.Below != "" }

// setMTU changes it. What a VLAN is on has to be as large (vlan_dev_change_mtu, net/8021q/vlan_dev.c).
func (c Config) setMTU(s *State, i Interface, l netlink.Link) error {
	err := netlink.LinkSetMTU(l, c.MTU)
	if errors.Is(err, unix.EBUSY) && i.Up {
		if err = c.takeDown(i, l); err == nil {
			err = netlink.LinkSetMTU(l, c.MTU)
		}
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ERANGE):
		e := &MTUError{Link: c.Name, Interface: i.Name, MTU: c.MTU, Most: i.MaxMTU}
		if lower, ok := s.byIndex(i.Lower); ok && i.Lower != 0 && lower.MTU < c.MTU {
			e.Below, e.Most = lower.Name, lower.MTU
		}
		return e
	}
	return fmt.Errorf("link %s (%s): set MTU %d: %w", c.Name, i.Name, c.MTU, err)
}
