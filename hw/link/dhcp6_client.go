package link

import (
	"bytes"
	"context"
	"errors"
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
	// receive returns the next message for us, whoever sent it; an error once the wire is closed.
	receive() ([]byte, error)
	close()
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
	name   string
	duid   []byte
	host   host6
	now    func() time.Duration // CLOCK_BOOTTIME
	jitter func(time.Duration) time.Duration
}

func newClient6(d DHCP6) *client6 {
	return &client6{name: d.Link, duid: d.DUID, host: &kernelHost6{DHCP6: d}, now: Boottime, jitter: jitter}
}

func (c *client6) sleep(ctx context.Context, d time.Duration) bool { return sleep(ctx, d) }

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
	c       *client6
	wire    wire6
	iaid    [4]byte
	answers chan *dhcpv6.Message // closed when the wire is
	began   time.Duration
}

func (c *client6) converse(ctx context.Context) (*conversation6, error) {
	w, mac, err := c.host.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("DHCPv6 on %s: %w", c.name, err)
	}
	v := &conversation6{c: c, wire: w, answers: make(chan *dhcpv6.Message), began: c.now()}
	copy(v.iaid[:], mac[max(len(mac)-4, 0):]) // stable over boots, and one for each card of a machine
	go v.listen()
	return v, nil
}

func (v *conversation6) close() {
	v.wire.close()
	for range v.answers { // until listen has ended
	}
}

// listen passes on what parses and is for us. Garbage is no reason for anything.
func (v *conversation6) listen() {
	defer close(v.answers)
	for {
		b, err := v.wire.receive()
		if err != nil {
			return
		}
		if m := parse6(b); m != nil && bytes.Equal(clientID(m), v.c.duid) {
			v.answers <- m
		}
	}
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

// ask sends m, again after each pause, until accept takes an answer to it. accept returns false for what is not for it,
// and an error to end. ErrNoServer when r is over.
func (v *conversation6) ask(ctx context.Context, m *dhcpv6.Message, r retransmission, accept func(*dhcpv6.Message) (bool, error)) error {
	pause, sent := time.Duration(0), error(nil)
	began := v.c.now()
	for n := 0; r.count == 0 || n < r.count; n++ {
		if pause = 2 * pause; pause == 0 {
			pause = r.first
		}
		if r.most > 0 {
			pause = min(pause, r.most)
		}
		wait := v.c.jitter(pause)
		if r.total > 0 {
			if wait = min(wait, r.total-(v.c.now()-began)); wait <= 0 {
				break
			}
		}
		// In hundredths of a second since the first message (21.9), which servers in reserve look at.
		m.UpdateOption(dhcpv6.OptElapsedTime(min(v.c.now()-v.began, 0xffff*10*time.Millisecond)))
		sent = v.wire.send(m.ToBytes())
		err := v.hear(ctx, m, wait, accept)
		if !errors.Is(err, errDone) {
			return err
		}
	}
	if sent != nil {
		return sent
	}
	return ErrNoServer
}

func (v *conversation6) hear(ctx context.Context, m *dhcpv6.Message, wait time.Duration, accept func(*dhcpv6.Message) (bool, error)) error {
	t := time.NewTimer(wait)
	defer t.Stop()
	for {
		select {
		case answer, ok := <-v.answers:
			if !ok {
				return fmt.Errorf("%s: the interface went away", v.c.name)
			}
			if answer.TransactionID != m.TransactionID {
				continue
			}
			if ok, err := accept(answer); ok || err != nil {
				return err
			}
		case <-t.C:
			return errDone
		case <-ctx.Done():
			return context.Cause(ctx)
		}
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
