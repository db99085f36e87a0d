package link

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// rename gives an interface its new name: as it is where the kernel can (6.2 and later), otherwise for a moment down, which
// an interface over which a disk is reached never is. Two that are to have each other's name get it: the first puts the other
// one aside.
func (c Config) rename(i Interface, l netlink.Link) error {
	if c.Naming != nil {
		c.Naming.Lock()
		defer c.Naming.Unlock()
	}
	err := c.setName(i, l, c.Name)
	if errors.Is(err, unix.EEXIST) {
		if err = c.putAside(); err == nil {
			err = c.setName(i, l, c.Name)
		}
	}
	switch {
	case errors.Is(err, unix.EEXIST):
		return fmt.Errorf("link %s: another interface has that name already", c.Name)
	case err != nil:
		return fmt.Errorf("link %s: rename %s: %w", c.Name, i.Name, err)
	}
	return nil
}

func (c Config) setName(i Interface, l netlink.Link, name string) error {
	err := netlink.LinkSetName(l, name)
	if errors.Is(err, unix.EBUSY) && i.Up {
		if err = c.takeDown(i, l); err == nil {
			err = netlink.LinkSetName(l, name)
		}
	}
	return err
}

// putAside takes the name from an interface that is to have another one; EEXIST if whoever has it is to keep it.
func (c Config) putAside() error {
	s, err := Read()
	if err != nil {
		return err
	}
	holder, err := s.Find(Match{Name: c.Name})
	if err != nil {
		return nil //nolint:nilerr // it is free by now
	}
	if !slices.ContainsFunc(c.Moving, func(m Match) bool { i, err := s.Find(m); return err == nil && i.Index == holder.Index }) {
		return unix.EEXIST
	}
	l, err := netlink.LinkByIndex(holder.Index)
	if err != nil {
		return err
	}
	return c.setName(holder, l, fmt.Sprintf("aside%d", holder.Index))
}
