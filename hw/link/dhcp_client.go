package link

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// wire carries DHCP messages while one is waited for.
type wire interface {
	// broadcast sends to everybody; from need not be configured.
	broadcast(message []byte, from netip.Addr) error
	// unicast sends from an address that is configured to a server.
	unicast(message []byte, from, to netip.Addr) error
	// receive returns the next message for us, whoever sent it; an error once the wire is closed.
	receive() ([]byte, error)
	close()
}

// host is the machine that a lease configures.
type host interface {
	open() (wire, net.HardwareAddr, error)
	// apply configures l and takes away what only old had; old may be empty.
	apply(l, old Lease) error
	// remove takes away what apply did. What is gone already is fine.
	remove(l Lease)
	// hold keeps the address of a lease without an end if a disk is reached over the interface, and says which; otherwise
	// it does nothing and returns "".
	hold(l Lease) string
	// probe returns the MAC of another machine that has the address, nil if none has.
	probe(ctx context.Context, address netip.Addr) (net.HardwareAddr, error)
	// carrier calls changed with the present state of the carrier and after every change, until ctx ends.
	carrier(ctx context.Context, changed func(bool)) error
}

// client is the state machine of RFC 2131, 4.4.
type client struct {
	name, hostName string
	host           host
	now            func() time.Duration // CLOCK_BOOTTIME
	jitter         func(time.Duration) time.Duration
}

func newClient(d DHCP) *client {
	if d.Metric == 0 {
		d.Metric = dhcpMetric
	}
	return &client{name: d.Link, hostName: d.Host, host: &kernelHost{DHCP: d}, now: Boottime, jitter: jitter}
}

// jitter keeps machines that started together from asking together: a tenth more or less.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1)
}

// ErrRefused says that the server takes the address back, or does not give it (DHCPNAK).
var ErrRefused = errors.New("the server refused it (NAK)")

// backoff is the pause after the nth message: 1 s, then twice as long each time, at most 64 s (RFC 2131, 4.1, starts at
// 4 s; on a boot the first message is often lost to a switch that is still thinking).
func backoff(n int) time.Duration { return time.Second << min(n, 6) }

// A conversation is one exchange of messages with whoever answers.
type conversation struct {
	c       *client
	wire    wire
	mac     net.HardwareAddr
	answers chan *dhcpv4.DHCPv4 // closed when the wire is
	began   time.Duration
}

func (c *client) converse() (*conversation, error) {
	w, mac, err := c.host.open()
	if err != nil {
		return nil, fmt.Errorf("DHCP on %s: %w", c.name, err)
	}
	v := &conversation{c: c, wire: w, mac: mac, answers: make(chan *dhcpv4.DHCPv4), began: c.now()}
	go v.listen()
	return v, nil
}

func (v *conversation) close() {
	v.wire.close()
	for range v.answers { // until listen has ended
	}
}

// listen passes on what parses. Garbage is no reason for anything.
func (v *conversation) listen() {
	defer close(v.answers)
	for {
		b, err := v.wire.receive()
		if err != nil {
			return
		}
		m, err := dhcpv4.FromBytes(b)
		if err == nil && m.OpCode == dhcpv4.OpcodeBootReply && string(m.ClientHWAddr) == string(v.mac) {
			v.answers <- m
		}
	}
}

// errDone ends an ask without an answer: its pauses are over.
var errDone = errors.New("no more pauses")

// ask sends m by send, again after each pause (a negative one ends it, with ErrNoServer), until accept takes an answer to
// m. accept returns false for what is not for it, and an error to end.
func (v *conversation) ask(ctx context.Context, m *dhcpv4.DHCPv4, send func([]byte) error, pause func(n int) time.Duration, accept func(*dhcpv4.DHCPv4) (bool, error)) error {
	unsent := error(nil)
	for n := 0; ; n++ {
		wait := pause(n)
		if wait < 0 {
			if unsent != nil {
				return unsent
			}
			return ErrNoServer
		}
		// RFC 2131, 2: secs is how long the client has been at it, which servers in reserve look at.
		m.NumSeconds = uint16(min((v.c.now()-v.began)/time.Second, 0xffff))
		unsent = send(m.ToBytes())
		err := v.hear(ctx, m, wait, accept)
		if !errors.Is(err, errDone) {
			return err
		}
	}
}

// hear waits for an answer to m; nil when it was accepted, errDone after wait.
func (v *conversation) hear(ctx context.Context, m *dhcpv4.DHCPv4, wait time.Duration, accept func(*dhcpv4.DHCPv4) (bool, error)) error {
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

// request makes a message of ours.
func (v *conversation) request(kind dhcpv4.MessageType, more ...dhcpv4.Modifier) (*dhcpv4.DHCPv4, error) {
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{
		dhcpv4.WithHwAddr(v.mac),
		dhcpv4.WithMessageType(kind),
		// Type 1 and the MAC (RFC 2132, 9.14): the same in the initramfs and after it.
		dhcpv4.WithOption(dhcpv4.OptClientIdentifier(append([]byte{1}, v.mac...))),
	}, more...)...)
	if err != nil {
		return nil, fmt.Errorf("DHCP on %s: %w", v.c.name, err)
	}
	if kind == dhcpv4.MessageTypeRelease || kind == dhcpv4.MessageTypeDecline {
		return m, nil
	}
	m.UpdateOption(dhcpv4.OptMaxMessageSize(1500))
	m.UpdateOption(dhcpv4.OptParameterRequestList(
		// RFC 3442: 121 before 3, for servers that stop early.
		dhcpv4.OptionSubnetMask, dhcpv4.OptionClasslessStaticRoute, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer,
		dhcpv4.OptionHostName, dhcpv4.OptionDomainName, dhcpv4.OptionDNSDomainSearchList, dhcpv4.OptionInterfaceMTU,
		dhcpv4.OptionNTPServers, dhcpv4.OptionIPAddressLeaseTime, dhcpv4.OptionRenewTimeValue, dhcpv4.OptionRebindingTimeValue,
	))
	if v.c.hostName != "" {
		m.UpdateOption(dhcpv4.OptHostName(v.c.hostName))
	}
	return m, nil
}

// fromServer tells whether m names s as its sender.
func fromServer(m *dhcpv4.DHCPv4, s netip.Addr) bool {
	got, ok := ipv4(m.ServerIdentifier())
	return ok && got == s
}
