package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
)

// once goes from Solicit to Reply (18.2.1, 18.2.2), until there is a lease or ctx ends.
func (c *client6) once(ctx context.Context, heard func(error)) (Lease6, error) {
	v, err := c.converse(ctx)
	if err != nil {
		return Lease6{}, err
	}
	defer v.close()
	m, err := v.request(dhcpv6.MessageTypeSolicit, nil, nil)
	if err != nil {
		return Lease6{}, err
	}
	var offer Lease6
	err = v.ask(ctx, m, soliciting(), func(a *dhcpv6.Message) (bool, error) {
		if a.MessageType != dhcpv6.MessageTypeAdvertise {
			return false, nil
		}
		l, bad := leaseOf6(a, v.iaid, c.now())
		if bad != nil {
			heard(bad)
			return false, nil
		}
		offer = l
		return true, nil
	})
	if err != nil {
		return Lease6{}, err
	}
	return v.take(ctx, dhcpv6.MessageTypeRequest, offer.Server, offer, requesting())
}

// take asks for an address, of one server or, without, of any. A Reply that cannot be used is not heard.
func (v *conversation6) take(ctx context.Context, kind dhcpv6.MessageType, server []byte, about Lease6, r retransmission) (Lease6, error) {
	m, err := v.request(kind, server, &about)
	if err != nil {
		return Lease6{}, err
	}
	var l Lease6
	err = v.ask(ctx, m, r, func(a *dhcpv6.Message) (bool, error) {
		if a.MessageType != dhcpv6.MessageTypeReply || server != nil && !bytes.Equal(serverID(a), server) {
			return false, nil
		}
		got, bad := leaseOf6(a, v.iaid, v.now())
		switch {
		case errors.Is(bad, ErrNoBinding), errors.Is(bad, ErrNotOnLink):
			return false, bad
		case bad != nil:
			return false, nil
		}
		l = got
		return true, nil
	})
	return l, err
}

// extend asks until end: the lease's server, or any. Information has no end: what is known stays good.
func (c *client6) extend(ctx context.Context, l Lease6, end time.Duration, own bool) (Lease6, error) {
	if !l.Address.IsValid() {
		fresh, err := c.information(ctx, func(error) {})
		if err != nil && ctx.Err() == nil {
			l.Obtained = c.now()
			return l, nil
		}
		return fresh, err
	}
	kind, server := dhcpv6.MessageTypeRebind, []byte(nil)
	if own {
		kind, server = dhcpv6.MessageTypeRenew, l.Server
	}
	pause := renewFirst
	longer := func(time.Duration) time.Duration {
		now := c.jitter(pause)
		pause = min(2*pause, renewMost)
		return now
	}
	return extend(ctx, c.station, end, longer, func(wait time.Duration) (Lease6, error) { return c.extendOnce(ctx, kind, server, l, wait) })
}

func (c *client6) extendOnce(ctx context.Context, kind dhcpv6.MessageType, server []byte, l Lease6, wait time.Duration) (Lease6, error) {
	soon, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	v, err := c.converse(soon)
	if err != nil {
		return Lease6{}, err
	}
	defer v.close()
	return v.take(ctx, kind, server, l, retransmission{first: wait, total: wait, count: 1})
}

// exchange sends one message by a conversation of its own, until accept takes an answer or r is over.
func (c *client6) exchange(ctx context.Context, kind dhcpv6.MessageType, server []byte, about *Lease6, r retransmission, accept func(*dhcpv6.Message) (bool, error)) error {
	v, err := c.converse(ctx)
	if err != nil {
		return err
	}
	defer v.close()
	m, err := v.request(kind, server, about)
	if err != nil {
		return err
	}
	return v.ask(ctx, m, r, accept)
}

// confirm asks whether the address is still one of this network (18.2.3). Servers that do not know stay silent.
func (c *client6) confirm(ctx context.Context, l Lease6) error {
	return c.exchange(ctx, dhcpv6.MessageTypeConfirm, nil, &l, confirming(), func(a *dhcpv6.Message) (bool, error) {
		if a.MessageType != dhcpv6.MessageTypeReply {
			return false, nil
		}
		if err := statusOf(a); err != nil {
			return false, err
		}
		return true, nil
	})
}

// decline tells the server that somebody else has the address (18.2.8).
func (c *client6) decline(ctx context.Context, l Lease6) error {
	err := c.exchange(ctx, dhcpv6.MessageTypeDecline, l.Server, &l, declining(), func(a *dhcpv6.Message) (bool, error) {
		return a.MessageType == dhcpv6.MessageTypeReply, nil
	})
	if errors.Is(err, ErrNoServer) {
		return nil // it finds out by itself
	}
	return err
}

// information asks for name servers alone (18.2.6).
func (c *client6) information(ctx context.Context, _ func(error)) (Lease6, error) {
	l := Lease6{}
	err := c.exchange(ctx, dhcpv6.MessageTypeInformationRequest, nil, nil, informing(), func(a *dhcpv6.Message) (bool, error) {
		if a.MessageType != dhcpv6.MessageTypeReply {
			return false, nil
		}
		l = informationOf(a, c.now())
		l.T1 = min(max(a.Options.InformationRefreshTime(refreshTime), 10*time.Minute), maxLease) // IRT_MINIMUM, 7.6
		return true, nil
	})
	return l, err
}

func informationOf(m *dhcpv6.Message, now time.Duration) Lease6 {
	l := Lease6{Obtained: now, Server: slices.Clone(serverID(m)), DNS: servers6(m.Options.DNS()), NTP: servers6(m.Options.NTPServers())}
	if s := m.Options.DomainSearchList(); s != nil {
		for _, d := range s.Labels {
			if d = hostName(d); d != "" && len(l.Search) < maxLeaseSearch && !slices.Contains(l.Search, d) {
				l.Search = append(l.Search, d)
			}
		}
	}
	return l
}

func servers6(list []net.IP) []netip.Addr {
	var out []netip.Addr
	for _, ip := range list {
		a, ok := netip.AddrFromSlice(ip)
		if ok && a.Is6() && !a.Is4In6() && !a.IsMulticast() && !a.IsUnspecified() && len(out) < maxLeaseServers && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// leaseOf6 reads an Advertise or a Reply. It trusts nothing, as leaseOf does not.
func leaseOf6(m *dhcpv6.Message, iaid [4]byte, now time.Duration) (Lease6, error) {
	if err := statusOf(m); err != nil {
		return Lease6{}, err
	}
	l := informationOf(m, now)
	if len(l.Server) == 0 || len(l.Server) > 130 { // 11.1
		return Lease6{}, fmt.Errorf("%w: it does not say who it is", errLease)
	}
	for _, ia := range m.Options.IANA() {
		if ia.IaId != iaid {
			continue
		}
		for _, o := range ia.Options.Addresses() {
			a, ok := netip.AddrFromSlice(o.IPv6Addr)
			if !ok || !a.Is6() || a.Is4In6() || !a.IsGlobalUnicast() || o.ValidLifetime == 0 {
				continue
			}
			l.Address, l.Preferred, l.Valid = a, min(o.PreferredLifetime, maxLease), min(o.ValidLifetime, maxLease)
			return l.timed(ia.T1, ia.T2)
		}
	}
	return Lease6{}, ErrNoBinding
}

// timed checks the times of a lease, or makes them (14.2, 21.4).
func (l Lease6) timed(t1, t2 time.Duration) (Lease6, error) {
	if l.Valid < minLease {
		return Lease6{}, fmt.Errorf("%w: it lends %s for %v", errLease, l.Address, l.Valid)
	}
	if l.Preferred > l.Valid {
		return Lease6{}, fmt.Errorf("%w: %s is preferred for longer than it is valid", errLease, l.Address)
	}
	l.T1, l.T2 = t1, t2
	whole := l.Preferred
	if whole == 0 {
		whole = l.Valid
	}
	if t1 <= 0 || t1 > t2 || t2 > l.Valid {
		l.T1, l.T2 = whole/2, whole/5*4
	}
	return l, nil
}
