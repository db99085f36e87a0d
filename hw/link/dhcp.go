package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Lease is a DHCPv4 lease (RFC 2131, RFC 2132). It marshals, so that a
// successor can go on renewing it.
type Lease struct {
	Address netip.Prefix  `json:"address"`
	Server  netip.Addr    `json:"server"`
	Routes  []LeaseRoute  `json:"routes,omitempty"`
	DNS     []netip.Addr  `json:"dns,omitempty"`
	Search  []string      `json:"search,omitempty"`
	Host    string        `json:"host,omitempty"` // information only
	T1      time.Duration `json:"t1"`             // renew after
	T2      time.Duration `json:"t2"`             // rebind after
	Length  time.Duration `json:"length"`
	// Obtained is CLOCK_BOOTTIME, which outlives the process that reads it.
	Obtained time.Duration `json:"obtained"`
	ACK      []byte        `json:"ack"`
}

// LeaseRoute is a route that comes with a lease; an invalid Via is on the link.
type LeaseRoute struct {
	To  netip.Prefix `json:"to"`
	Via netip.Addr   `json:"via,omitzero"`
}

// dhcpMetric is the metric of routes from a lease: worse than what the file says.
const dhcpMetric = 1024

// maxLease is the longest lease that is believed: nothing is lost by asking
// again after ten years.
const maxLease = 10 * 365 * 24 * time.Hour

// errLease is a lease that cannot be used.
var errLease = errors.New("the server's answer cannot be used")

// leaseOf reads an ACK. It trusts nothing: an address that nobody can have, or
// a length of nothing, is an error.
func leaseOf(ack *dhcpv4.DHCPv4, now time.Duration) (Lease, error) {
	a, ok := netip.AddrFromSlice(ack.YourIPAddr.To4())
	if !ok || !a.IsGlobalUnicast() && !a.IsPrivate() {
		return Lease{}, fmt.Errorf("%w: it offers the address %v", errLease, ack.YourIPAddr)
	}
	ones, bits := ack.SubnetMask().Size()
	if bits != 32 || ones == 0 {
		return Lease{}, fmt.Errorf("%w: it gives no subnet mask", errLease)
	}
	l := Lease{Address: netip.PrefixFrom(a, ones), Length: ack.IPAddressLeaseTime(0), Obtained: now, Host: clean(ack.HostName()), ACK: ack.ToBytes()}
	l.Length = min(l.Length, maxLease) // for ever is 2^32-1 seconds
	if l.Length < 10*time.Second {
		return Lease{}, fmt.Errorf("%w: a lease of %v", errLease, l.Length)
	}
	if s, ok := netip.AddrFromSlice(ack.ServerIdentifier().To4()); ok {
		l.Server = s
	}
	l.T1, l.T2 = ack.IPAddressRenewalTime(l.Length/2), ack.IPAddressRebindingTime(l.Length/8*7)
	if l.T1 <= 0 || l.T1 >= l.T2 || l.T2 >= l.Length { // RFC 2131, 4.4.5
		l.T1, l.T2 = l.Length/2, l.Length/8*7
	}
	for _, r := range ack.ClasslessStaticRoute() { // RFC 3442: it replaces the routers
		to, ok := prefixOf(r.Dest.IP.To4(), r.Dest.Mask)
		via, _ := netip.AddrFromSlice(r.Router.To4())
		if ok && to.Addr().Is4() {
			if via.IsUnspecified() {
				via = netip.Addr{}
			}
			l.Routes = append(l.Routes, LeaseRoute{To: to.Masked(), Via: via})
		}
	}
	if len(l.Routes) == 0 {
		for _, r := range ack.Router() {
			if via, ok := netip.AddrFromSlice(r.To4()); ok && !via.IsUnspecified() {
				l.Routes = append(l.Routes, LeaseRoute{To: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Via: via})
				break
			}
		}
	}
	for _, d := range ack.DNS() {
		if s, ok := netip.AddrFromSlice(d.To4()); ok && !s.IsUnspecified() {
			l.DNS = append(l.DNS, s)
		}
	}
	if s := ack.DomainSearch(); s != nil {
		for _, d := range s.Labels {
			l.Search = append(l.Search, clean(d))
		}
	} else if d := clean(ack.DomainName()); d != "" {
		l.Search = []string{d}
	}
	return l, nil
}

// clean keeps what can stand in a host name: the text goes into files.
func clean(s string) string {
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_' {
			return ""
		}
	}
	return s
}

// Acquire asks for a lease on the interface until it has one or ctx ends, and
// gives the interface its address and routes.
func Acquire(ctx context.Context, name string, waiting func(string)) (Lease, error) {
	last := errors.New("no server answered")
	for ctx.Err() == nil {
		waiting(fmt.Sprintf("a DHCP server on %s: %v", name, last))
		c, err := nclient4.New(name, nclient4.WithTimeout(2*time.Second), nclient4.WithRetry(2))
		if err != nil {
			return Lease{}, fmt.Errorf("DHCP on %s: %w", name, err)
		}
		got, err := c.Request(ctx)
		c.Close()
		if err == nil {
			var l Lease
			if l, err = leaseOf(got.ACK, boottime()); err == nil {
				return l, applyLease(name, l)
			}
		}
		last = noAnswer(err)
	}
	return Lease{}, fmt.Errorf("DHCP on %s: %w", name, last)
}

func noAnswer(err error) error {
	if errors.Is(err, nclient4.ErrNoResponse) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return errors.New("no server answered")
	}
	return err
}

// Keep renews the lease until ctx ends. When it has run out the address is
// removed and a new lease is asked for. changed hears every new lease, and
// every failure with the lease as it stands.
func Keep(ctx context.Context, name string, l Lease, changed func(Lease, error)) {
	for {
		if !waitUntil(ctx, l.Obtained+l.T1) {
			return
		}
		renewed, err := renew(ctx, name, l)
		switch {
		case err == nil:
			l = renewed
			changed(l, nil)
			continue
		case ctx.Err() != nil:
			return
		}
		changed(l, fmt.Errorf("DHCP on %s: the lease of %s ran out: %w", name, l.Address.Addr(), err))
		removeLease(name, l)
		if l, err = Acquire(ctx, name, func(string) {}); err != nil {
			return // ctx ended
		}
		changed(l, nil)
	}
}

// renew tries from T1 to the lease's end: half of what is left to T2, then
// half of what is left to the end, at least a minute apart (RFC 2131, 4.4.5).
func renew(ctx context.Context, name string, l Lease) (Lease, error) {
	ack, err := dhcpv4.FromBytes(l.ACK)
	if err != nil {
		return Lease{}, fmt.Errorf("%w: %w", errLease, err)
	}
	last := errors.New("no server answered")
	for boottime() < l.Obtained+l.Length {
		if ctx.Err() != nil {
			return Lease{}, ctx.Err()
		}
		c, err := nclient4.New(name, nclient4.WithTimeout(2*time.Second), nclient4.WithRetry(2))
		if err == nil {
			var got *nclient4.Lease
			got, err = c.Renew(ctx, &nclient4.Lease{ACK: ack, Offer: ack})
			c.Close()
			if err == nil {
				var fresh Lease
				if fresh, err = leaseOf(got.ACK, boottime()); err == nil {
					if fresh.Address != l.Address {
						removeLease(name, l)
					}
					return fresh, applyLease(name, fresh)
				}
			}
			if nak := (*nclient4.ErrNak)(nil); errors.As(err, &nak) {
				return Lease{}, errors.New("the server took it back (NAK)")
			}
		}
		last = noAnswer(err)
		next := l.Obtained + l.T2
		if boottime() >= next {
			next = l.Obtained + l.Length
		}
		pause := max((next-boottime())/2, min(time.Minute, next-boottime()))
		if !waitUntil(ctx, boottime()+pause) {
			return Lease{}, ctx.Err()
		}
	}
	return Lease{}, last
}

// waitUntil waits for an instant of CLOCK_BOOTTIME; false when ctx ended.
func waitUntil(ctx context.Context, at time.Duration) bool {
	t := time.NewTimer(at - boottime())
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func boottime() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0 // only before Linux 2.6.39
	}
	return time.Duration(ts.Nano())
}

// applyLease gives the address the lifetime of the lease, so that it ends with
// it even if nobody is there any more, and adds the routes.
func applyLease(name string, l Lease) error {
	dev, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("DHCP on %s: %w", name, err)
	}
	left := int((l.Obtained + l.Length - boottime()) / time.Second)
	if err := addAddress(dev, l.Address, max(left, 1), max(left, 1)); err != nil {
		return fmt.Errorf("DHCP on %s: add %s: %w", name, l.Address, err)
	}
	for _, r := range l.Routes {
		route := &netlink.Route{
			LinkIndex: dev.Attrs().Index, Priority: dhcpMetric, Protocol: unix.RTPROT_DHCP,
			Dst: &net.IPNet{IP: r.To.Addr().AsSlice(), Mask: net.CIDRMask(r.To.Bits(), 32)}, Src: l.Address.Addr().AsSlice(),
		}
		if r.Via.IsValid() {
			route.Gw = r.Via.AsSlice()
			if !l.Address.Contains(r.Via) { // a gateway beyond the subnet, as clouds have it
				route.SetFlag(netlink.FLAG_ONLINK)
			}
		} else {
			route.Scope = unix.RT_SCOPE_LINK
		}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("DHCP on %s: route to %s: %w", name, r.To, err)
		}
	}
	return nil
}

func removeLease(name string, l Lease) {
	dev, err := netlink.LinkByName(name)
	if err != nil {
		return
	}
	_ = netlink.AddrDel(dev, &netlink.Addr{IPNet: &net.IPNet{IP: l.Address.Addr().AsSlice(), Mask: net.CIDRMask(l.Address.Bits(), 32)}}) // it may be gone by its lifetime
}
