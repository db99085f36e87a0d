package link

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// DHCP is the DHCPv4 client of one interface, which is up. Its methods are not to be called at the same time.
type DHCP struct {
	Link   string // kernel's name
	Host   string // what the server is told that this machine is called; may be empty
	MTU    bool   // take the MTU that comes with a lease
	Metric int    // of routes from a lease; 0: dhcpMetric
	// Probe is how long other machines are asked whether they have the address already (RFC 2131, 4.4.1); 0 leaves it out.
	Probe time.Duration
	// Carries names the disk that is reached over the interface, "" if none is; nil: none ever is. Such an interface keeps
	// its address when the lease ends without a new one: without it the disk would be lost for certain.
	Carries func(Interface) string
}

// dhcpMetric is the metric of routes from a lease: worse than what the file says.
const dhcpMetric = 1024

// ErrNoServer says that no DHCP server answered.
var ErrNoServer = errors.New("no server answered")

// Acquire asks for a lease on the interface until it has one or ctx ends, and gives the interface its address and routes.
func Acquire(ctx context.Context, name string, waiting func(string)) (Lease, error) {
	return DHCP{Link: name}.Acquire(ctx, waiting)
}

// Keep is DHCP.Keep with what Acquire takes for granted.
func Keep(ctx context.Context, name string, l Lease, changed func(Lease, error)) {
	DHCP{Link: name}.Keep(ctx, l, changed)
}

// Acquire asks for a lease until it has one or ctx ends, and gives the interface its address and routes. waiting hears
// why there is none yet.
func (d DHCP) Acquire(ctx context.Context, waiting func(string)) (Lease, error) {
	c := newClient(d)
	k := followCarrier(ctx, c.carrier)
	defer k.close()
	return c.acquire(ctx, k, waiting)
}

// Keep renews the lease until ctx ends, and then leaves it as it is, for a successor that calls Keep with the lease which
// changed heard last. That one may have been made by another process in this boot: what it configured is kept, without a
// gap. When a lease has run out, or the server took it back, its address and routes are removed and a new one is asked
// for. When the carrier returns, the lease is verified: it may be another network's by then.
//
// changed hears every new lease, and every failure with the lease as it stands.
func (d DHCP) Keep(ctx context.Context, l Lease, changed func(Lease, error)) {
	keep(ctx, newClient(d), l, changed)
}

// Verify asks whether a lease from before is still good (RFC 2131, 3.2: INIT-REBOOT), which is one round instead of two,
// and configures it. Any lease will do that was given on this interface; ErrRefused is the answer that it is not.
func (d DHCP) Verify(ctx context.Context, l Lease) (Lease, error) {
	c := newClient(d)
	fresh, err := c.verify(ctx, l, nil)
	if err != nil {
		return Lease{}, fmt.Errorf("%s: %w", c, err)
	}
	return fresh, c.apply(fresh, l)
}

// Release gives the lease back and removes its address and routes.
func (d DHCP) Release(l Lease) error {
	return newClient(d).release(l)
}

// Boottime is CLOCK_BOOTTIME, by which leases end.
func Boottime() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0 // only before Linux 2.6.39
	}
	return time.Duration(ts.Nano())
}
