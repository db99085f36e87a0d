package main

import (
	"strconv"

	"github.com/vishvananda/netlink"
)

func setMTU(name, mtu string) error {
	n, err := strconv.Atoi(mtu)
	if err != nil {
		return err
	}
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetMTU(l, n)
}

// dummy makes an interface that was not there before.
func dummy(name string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	return netlink.LinkAdd(&netlink.Dummy{LinkAttrs: attrs})
}
