package link

import (
	"context"
	"errors"
	"fmt"
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
	receiver
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
	station
	host
	hostName string
}

func newClient(d DHCP) *client {
	if d.Metric == 0 {
		d.Metric = dhcpMetric
	}
	return &client{station: station{"DHCP", d.Link, Boottime, jitter}, host: newKernelHost(d), hostName: d.Host}
}

// ErrRefused says that the server takes the address back, or does not give it (DHCPNAK).
var ErrRefused = errors.New("the server refused it (NAK)")

// A conversation is one exchange of messages with whoever answers.
type conversation struct {
	*dialogue[*dhcpv4.DHCPv4]
	c    *client
	wire wire
	mac  net.HardwareAddr
}

func (c *client) converse() (*conversation, error) {
	w, mac, err := c.open()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c, err)
	}
	return &conversation{c: c, wire: w, mac: mac, dialogue: converse(c.station, w, func(b []byte) (*dhcpv4.DHCPv4, bool) {
		m, err := dhcpv4.FromBytes(b)
		return m, err == nil && m.OpCode == dhcpv4.OpcodeBootReply && string(m.ClientHWAddr) == string(mac)
	})}, nil
}

// ask sends m by send, as dialogue.ask does, until accept takes an answer to m.
func (v *conversation) ask(ctx context.Context, m *dhcpv4.DHCPv4, send func([]byte) error, pause func(n int) time.Duration, accept func(*dhcpv4.DHCPv4) (bool, error)) error {
	return v.dialogue.ask(ctx, pause, func() error {
		// RFC 2131, 2: secs is how long the client has been at it, which servers in reserve look at.
		m.NumSeconds = uint16(min((v.now()-v.began)/time.Second, 0xffff))
		return send(m.ToBytes())
	}, func(answer *dhcpv4.DHCPv4) (bool, error) {
		if answer.TransactionID != m.TransactionID {
			return false, nil
		}
		return accept(answer)
	})
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
		return nil, fmt.Errorf("%s: %w", v.c, err)
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
