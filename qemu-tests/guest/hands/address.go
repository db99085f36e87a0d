package main

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// address gives an interface an address and brings it up, as somebody else's network configuration does.
func address(name, prefix string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	a, err := netlink.ParseAddr(prefix)
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(l, a); err != nil {
		return fmt.Errorf("address of %s: %w", name, err)
	}
	return netlink.LinkSetUp(l)
}
