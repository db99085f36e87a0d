package link

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
)

// wire6 carries DHCPv6 messages while one is waited for.
type wire6 interface {
	// send sends to all servers on the link.
	send(message []byte) error
	receiver
}

// host6 is the machine that a lease configures.
type host6 interface {
	// open waits until there is a link-local address to come from.
	open(ctx context.Context) (wire6, net.HardwareAddr, error)
	// apply configures l, takes away what only old had, and returns when nobody else has the address; a *DuplicateError if
	// somebody has.
	apply(ctx context.Context, l, old Lease6) error
	hold(l Lease6) string
	remove(l Lease6)
	carrier(ctx context.Context, changed func(bool)) error
}

// client6 is the state machine of RFC 8415, 18.2.
type client6 struct {
	station
	host6
	duid []byte
}

func newClient6(d DHCP6) *client6 {
	return &client6{station: station{"DHCPv6", d.Link, Boottime, jitter}, host6: newKernelHost6(d), duid: d.DUID}
}

// retransmission is how often and for how long a message is sent (RFC 8415, 15, 7.6).
type retransmission struct {
	first, most time.Duration // IRT, MRT; 0: no most
	count       int           // MRC; 0: without end
	total       time.Duration // MRD; 0: without end
}

// Timers of RFC 8415, 7.6. The longest pause of a Solicit is two minutes (SOL_MAX_RT of RFC 3315) and not an hour: a
// machine that waits for its network has nothing else to do.
const (
	renewFirst  = 10 * time.Second
	renewMost   = 600 * time.Second
	refreshTime = 24 * time.Hour // IRT_DEFAULT, RFC 8415, 21.23
)

func soliciting() retransmission { return retransmission{first: time.Second, most: 2 * time.Minute} }
func requesting() retransmission {
	return retransmission{first: time.Second, most: 30 * time.Second, count: 5}
}
func confirming() retransmission {
	return retransmission{first: time.Second, most: 4 * time.Second, total: 10 * time.Second}
}
func informing() retransmission {
	return retransmission{first: time.Second, most: 2 * time.Minute, count: 8}
}
func declining() retransmission { return retransmission{first: time.Second, count: 2} }

// conversation6 is one exchange of messages.
type conversation6 struct {
	*dialogue[*dhcpv6.Message]
	c    *client6
	wire wire6
	iaid [4]byte
}

func (c *client6) converse(ctx context.Context) (*conversation6, error) {
	w, mac, err := c.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c, err)
	}
	v := &conversation6{c: c, wire: w, dialogue: converse(c.station, w, func(b []byte) (*dhcpv6.Message, bool) {
		m := parse6(b)
		return m, m != nil && bytes.Equal(clientID(m), c.duid)
	})}
	copy(v.iaid[:], mac[max(len(mac)-4, 0):]) // stable over boots, and one for each card of a machine
	return v, nil
}

// parse6 reads a message; nil if it is none, or one of a relay.
func parse6(b []byte) *dhcpv6.Message {
	d, err := dhcpv6.FromBytes(b)
	if err != nil {
		return nil
	}
	m, ok := d.(*dhcpv6.Message)
	if !ok {
		return nil
	}
	return m
}

func clientID(m *dhcpv6.Message) []byte {
	if d := m.Options.ClientID(); d != nil {
		return d.ToBytes()
	}
	return nil
}

func serverID(m *dhcpv6.Message) []byte {
	if d := m.Options.ServerID(); d != nil {
		return d.ToBytes()
	}
	return nil
}

// request makes a message of ours. server, if any, is the one that it is for; address the one that it is about.
func (v *conversation6) request(kind dhcpv6.MessageType, server []byte, address *Lease6) (*dhcpv6.Message, error) {
	m, err := dhcpv6.NewMessage()
	if err != nil {
		return nil, err
	}
	m.MessageType = kind
	own, err := dhcpv6.DUIDFromBytes(v.c.duid)
	if err != nil {
		return nil, fmt.Errorf("this machine's DUID: %w", err)
	}
	m.AddOption(dhcpv6.OptClientID(own))
	if server != nil {
		other, err := dhcpv6.DUIDFromBytes(server)
		if err != nil {
			return nil, fmt.Errorf("the server's DUID: %w", err)
		}
		m.AddOption(dhcpv6.OptServerID(other))
	}
	if kind != dhcpv6.MessageTypeDecline && kind != dhcpv6.MessageTypeConfirm {
		m.AddOption(dhcpv6.OptRequestedOption(dhcpv6.OptionDNSRecursiveNameServer, dhcpv6.OptionDomainSearchList, dhcpv6.OptionNTPServer, dhcpv6.OptionInformationRefreshTime))
	}
	if kind != dhcpv6.MessageTypeInformationRequest {
		ia := &dhcpv6.OptIANA{IaId: v.iaid}
		if address != nil && address.Address.IsValid() {
			ia.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: address.Address.AsSlice()})
		}
		m.AddOption(ia)
	}
	return m, nil
}

// ask sends m, as dialogue.ask does, until accept takes an answer to it. ErrNoServer when r is over.
func (v *conversation6) ask(ctx context.Context, m *dhcpv6.Message, r retransmission, accept func(*dhcpv6.Message) (bool, error)) error {
	return v.dialogue.ask(ctx, v.pauses(r), func() error {
		// In hundredths of a second since the first message (21.9), which servers in reserve look at.
		m.UpdateOption(dhcpv6.OptElapsedTime(min(v.now()-v.began, 0xffff*10*time.Millisecond)))
		return v.wire.send(m.ToBytes())
	}, func(answer *dhcpv6.Message) (bool, error) {
		if answer.TransactionID != m.TransactionID {
			return false, nil
		}
		return accept(answer)
	})
}

// pauses are those between two messages, from now on; negative when r is over.
func (v *conversation6) pauses(r retransmission) func(n int) time.Duration {
	pause, began := time.Duration(0), v.now()
	return func(n int) time.Duration {
		if r.count > 0 && n >= r.count {
			return -1
		}
		if pause = 2 * pause; pause == 0 {
			pause = r.first
		}
		if r.most > 0 {
			pause = min(pause, r.most)
		}
		wait := v.jitter(pause)
		if r.total > 0 {
			if wait = min(wait, r.total-(v.now()-began)); wait <= 0 {
				return -1
			}
		}
		return wait
	}
}

// statusOf is the worst status of a message and of what it says about an address (21.13).
func statusOf(m *dhcpv6.Message) error {
	list := []*dhcpv6.OptStatusCode{m.Options.Status()}
	if ia := m.Options.OneIANA(); ia != nil {
		list = append(list, ia.Options.Status())
		if a := ia.Options.OneAddress(); a != nil {
			list = append(list, a.Options.Status())
		}
	}
	for _, s := range list {
		if s == nil || s.StatusCode == iana.StatusSuccess {
			continue
		}
		switch s.StatusCode {
		case iana.StatusNoBinding, iana.StatusNoAddrsAvail:
			return ErrNoBinding
		case iana.StatusNotOnLink:
			return ErrNotOnLink
		}
		return fmt.Errorf("the server refused it (%s)", s.StatusCode)
	}
	return nil
}
