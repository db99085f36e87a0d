package link

import (
	"context"
	"errors"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// leased is an interface of this machine that has its address from a lease, of either family.
type leased struct {
	name      string
	carriedBy func(Interface) string // as DHCP.Carries
}

// carrier tells a loss that is over already as one: the kernel sums up events of a second (net/core/link_watch.c), but it
// counts.
func (d leased) carrier(ctx context.Context, changed func(bool)) error {
	known, before := false, Interface{}
	return Watch(ctx, func(s *State) {
		i, err := s.Find(Match{Name: d.name})
		i.Carrier = err == nil && i.Up && i.Carrier
		switch {
		case !known || i.Carrier != before.Carrier:
			changed(i.Carrier)
		case i.Carrier && (i.Losses != before.Losses || i.Index != before.Index):
			changed(false)
			changed(true)
		}
		known, before = true, i
	})
}

// disk names the disk that is reached over the interface.
func (d leased) disk() string {
	if d.carriedBy == nil {
		return ""
	}
	s, err := Read()
	if err != nil {
		return ""
	}
	i, err := s.Find(Match{Name: d.name})
	if err != nil {
		return ""
	}
	return d.carriedBy(i)
}

// hold is the one of protocol, for an address.
func (d leased) hold(address netip.Prefix) string {
	what := d.disk()
	if what == "" {
		return ""
	}
	if dev, err := netlink.LinkByName(d.name); err == nil {
		_ = addAddress(dev, address, 0) // if that fails, the kernel ends it as it would have
	}
	return what
}

func (d leased) remove(address netip.Prefix) {
	if dev, err := netlink.LinkByName(d.name); err == nil {
		_ = removeAddress(dev, address) // the kernel removes it at its end, if this does not
	}
}

// boundTo makes sockets of an interface, whose port may be another one's on another interface.
func boundTo(name string) func(network, address string, raw syscall.RawConn) error {
	return func(_, _ string, raw syscall.RawConn) error {
		var failure error
		err := raw.Control(func(fd uintptr) {
			failure = errors.Join(
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
				unix.BindToDevice(int(fd), name),
			)
		})
		return errors.Join(err, failure)
	}
}
