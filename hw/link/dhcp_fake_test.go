package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

var (
	ourMAC    = net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}
	serverA   = netip.MustParseAddr("192.0.2.1")
	serverB   = netip.MustParseAddr("192.0.2.2")
	leaseTime = time.Hour
)

// bubble is a machine in virtual time, with a network of servers that a test plays. It writes a diary of what happens:
// "1m0s discover", one line an event.
type bubble struct {
	t     *testing.T
	start time.Time
	// answer plays the network: what comes back to a message. It is called with the bubble locked.
	answer func(m *dhcpv4.DHCPv4) [][]byte

	mu      sync.Mutex
	diary   []string           // guarded by mu
	wires   map[*fakeWire]bool // guarded by mu
	address netip.Prefix       // guarded by mu; configured
	owner   net.HardwareAddr   // guarded by mu; of the address that is probed
	up      bool               // guarded by mu
	carried chan struct{}      // guarded by mu; closed at a change of up
	broken  error              // guarded by mu; open fails with it
	disk    string             // guarded by mu; reached over the interface
}

func newBubble(t *testing.T, answer func(m *dhcpv4.DHCPv4) [][]byte) *bubble {
	return &bubble{t: t, start: time.Now(), answer: answer, wires: map[*fakeWire]bool{}, up: true, carried: make(chan struct{})}
}

func (b *bubble) client() *client {
	return &client{station: station{"DHCP", "eth0", b.now, func(d time.Duration) time.Duration { return d }}, host: b}
}

func (b *bubble) hold(l Lease) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.disk != "" {
		b.note("hold %s", l.Address)
	}
	return b.disk
}

func (b *bubble) now() time.Duration { return time.Since(b.start) + time.Hour } // the machine runs for an hour already

func (b *bubble) note(format string, args ...any) {
	b.diary = append(b.diary, time.Since(b.start).String()+" "+fmt.Sprintf(format, args...))
}

func (b *bubble) write(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.note(format, args...)
}

// lines are the diary so far.
func (b *bubble) lines() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.diary...)
}

func (b *bubble) carrierIs(up bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.note("carrier %v", up)
	b.up = up
	close(b.carried)
	b.carried = make(chan struct{})
}

// waiting and changed are what a test hands to Acquire and Keep.
func (b *bubble) waiting(why string) { b.write("waits: %s", why) }

func (b *bubble) changed(l Lease, err error) {
	if err != nil {
		b.write("changed: %v", err)
		return
	}
	b.write("changed: %s of %s", l.Address, l.Server)
}

func (b *bubble) open() (wire, net.HardwareAddr, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.broken != nil {
		return nil, nil, b.broken
	}
	w := &fakeWire{b: b, in: make(chan []byte, 100), closed: make(chan struct{})}
	b.wires[w] = true
	return w, ourMAC, nil
}

func (b *bubble) apply(l, _ Lease) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.address = l.Address
	b.note("apply %s", l.Address)
	return nil
}

func (b *bubble) remove(l Lease) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.address = netip.Prefix{}
	b.note("remove %s", l.Address)
}

func (b *bubble) probe(context.Context, netip.Addr) (net.HardwareAddr, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.owner, nil
}

func (b *bubble) carrier(ctx context.Context, changed func(bool)) error {
	for {
		b.mu.Lock()
		up, next := b.up, b.carried
		b.mu.Unlock()
		changed(up)
		select {
		case <-next:
		case <-ctx.Done():
			return nil
		}
	}
}

type fakeWire struct {
	b      *bubble
	in     chan []byte
	closed chan struct{}
}

func (w *fakeWire) broadcast(message []byte, from netip.Addr) error {
	return w.send(message, "broadcast")
}

func (w *fakeWire) unicast(message []byte, from, to netip.Addr) error {
	w.b.mu.Lock()
	configured := w.b.address.Addr() == from
	w.b.mu.Unlock()
	if !configured {
		return errors.New("no such address")
	}
	return w.send(message, "to "+to.String())
}

func (w *fakeWire) send(message []byte, how string) error {
	w.b.mu.Lock()
	defer w.b.mu.Unlock()
	m, err := dhcpv4.FromBytes(message)
	if err != nil {
		return err
	}
	line := strings.ToLower(m.MessageType().String()) + " " + how
	if a := m.RequestedIPAddress(); a != nil {
		line += " for " + a.String()
	}
	if m.ClientIPAddr != nil && !m.ClientIPAddr.IsUnspecified() {
		line += " from " + m.ClientIPAddr.String()
	}
	w.b.note("%s", line)
	if !w.b.up {
		return nil
	}
	for _, a := range w.b.answer(m) {
		for other := range w.b.wires {
			other.in <- a
		}
	}
	return nil
}

func (w *fakeWire) receive() ([]byte, error) {
	select {
	case b := <-w.in:
		return b, nil
	case <-w.closed:
		return nil, net.ErrClosed
	}
}

func (w *fakeWire) close() {
	w.b.mu.Lock()
	defer w.b.mu.Unlock()
	delete(w.b.wires, w)
	close(w.closed)
}

// reply makes an answer of a server to m.
func reply(m *dhcpv4.DHCPv4, kind dhcpv4.MessageType, server netip.Addr, more ...dhcpv4.Modifier) []byte {
	a, err := dhcpv4.NewReplyFromRequest(m, append([]dhcpv4.Modifier{
		dhcpv4.WithMessageType(kind),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(server.AsSlice())),
		dhcpv4.WithYourIP(net.IPv4(192, 0, 2, 50)),
		dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
		dhcpv4.WithLeaseTime(uint32(leaseTime / time.Second)),
	}, more...)...)
	if err != nil {
		panic(err) // a message that cannot be made is a mistake of the test
	}
	return a.ToBytes()
}

// good is a server that answers everything; from server only, where a message names one.
func good(server netip.Addr) func(m *dhcpv4.DHCPv4) [][]byte {
	return func(m *dhcpv4.DHCPv4) [][]byte {
		if id, ok := ipv4(m.ServerIdentifier()); ok && id != server {
			return nil
		}
		switch m.MessageType() {
		case dhcpv4.MessageTypeDiscover:
			return [][]byte{reply(m, dhcpv4.MessageTypeOffer, server)}
		case dhcpv4.MessageTypeRequest:
			return [][]byte{reply(m, dhcpv4.MessageTypeAck, server)}
		}
		return nil
	}
}
