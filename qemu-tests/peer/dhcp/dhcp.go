// Package dhcp is a small DHCPv4 server (RFC 2131) for the links of test
// machines, with manners that clients meet: late, silent, short of addresses,
// refusing a renewal.
//
// It owns leases in memory, by MAC address. It is for tests: it answers by
// broadcast only, knows no relays, and never probes an address.
package dhcp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
)

// Config is one server on one link.
type Config struct {
	// Link is the MAC address of the interface; main turns it into a name.
	Link string `json:"link"`
	// Server is the server's own address.
	Server netip.Addr `json:"server"`
	// Prefix is the subnet that is handed out, and First the first address; Count is how many there are.
	Prefix netip.Prefix `json:"prefix"`
	First  netip.Addr   `json:"first"`
	Count  int          `json:"count"`
	Router netip.Addr   `json:"router,omitzero"`
	DNS    []netip.Addr `json:"dns,omitempty"`
	NTP    []netip.Addr `json:"ntp,omitempty"`
	// Lease is how long, in seconds.
	Lease int `json:"lease"`
	// RootPath is the disk that a machine without one boots from (RFC 4173): iscsi:SERVER::PORT:LUN:TARGET.
	RootPath string `json:"rootPath,omitempty"`
	// Late is after how many seconds it begins to answer.
	Late float64 `json:"late,omitempty"`
	// RefuseRenewals answers every request of an address in use with a NAK.
	RefuseRenewals bool `json:"refuseRenewals,omitempty"`
}

// Event is a thing that happened, as a JSON line.
type Event struct {
	Event   string `json:"event"` // always "dhcp"
	Op      string `json:"op"`    // discover, offer, request, ack, nak, release, drop
	Server  string `json:"server"`
	MAC     string `json:"mac,omitempty"`
	Address string `json:"address,omitempty"`
}

// Server answers clients on one link.
type Server struct {
	config  Config
	emit    func(Event)
	started time.Time

	mu     sync.Mutex
	leases map[string]netip.Addr // by MAC address; guarded by mu
}

// New makes a server that is not on a link yet.
func New(cfg Config, emit func(Event)) (*Server, error) {
	if !cfg.Server.Is4() || !cfg.First.Is4() || !cfg.Prefix.Contains(cfg.First) || cfg.Count < 1 || cfg.Lease < 1 {
		return nil, fmt.Errorf("dhcp: want server, prefix, first inside it, count and lease; got %+v", cfg)
	}
	return &Server{config: cfg, emit: emit, started: time.Now(), leases: map[string]netip.Addr{}}, nil
}

// Serve answers on the interface of that name until ctx ends.
func (s *Server) Serve(ctx context.Context, name string) error {
	srv, err := server4.NewServer(name, &net.UDPAddr{IP: net.IPv4zero, Port: dhcpv4.ServerPort}, func(conn net.PacketConn, _ net.Addr, m *dhcpv4.DHCPv4) {
		answer := s.Answer(m)
		if answer == nil {
			return
		}
		// A client without an address cannot answer ARP, and one with an address hears broadcasts too.
		to := &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ClientPort}
		if _, err := conn.WriteTo(answer.ToBytes(), to); err != nil {
			s.tell("drop", m, netip.Addr{})
		}
	})
	if err != nil {
		return fmt.Errorf("dhcp on %s: %w", name, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	s.tell("listen", nil, netip.Addr{})
	if err := srv.Serve(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("dhcp on %s: %w", name, err)
	}
	return nil
}

// Answer gives the answer to a client's message, or nil for none.
func (s *Server) Answer(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	if m.OpCode != dhcpv4.OpcodeBootRequest || time.Since(s.started).Seconds() < s.config.Late {
		s.tell("drop", m, netip.Addr{})
		return nil
	}
	switch m.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		s.tell("discover", m, netip.Addr{})
		addr, ok := s.lease(m.ClientHWAddr.String())
		if !ok {
			s.tell("drop", m, netip.Addr{})
			return nil
		}
		return s.reply(m, dhcpv4.MessageTypeOffer, "offer", addr)
	case dhcpv4.MessageTypeRequest:
		return s.request(m)
	case dhcpv4.MessageTypeRelease:
		s.mu.Lock()
		delete(s.leases, m.ClientHWAddr.String())
		s.mu.Unlock()
		s.tell("release", m, netip.Addr{})
	}
	return nil
}

// request: RFC 2131, section 4.3.2.
func (s *Server) request(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	if id := m.ServerIdentifier(); id != nil && !id.IsUnspecified() && !id.Equal(s.config.Server.AsSlice()) {
		return nil // it took another server's offer
	}
	s.tell("request", m, netip.Addr{})
	wanted, ok := netip.AddrFromSlice(m.RequestedIPAddress().To4())
	renewal := !m.ClientIPAddr.IsUnspecified() && m.ClientIPAddr != nil
	if renewal {
		wanted, ok = netip.AddrFromSlice(m.ClientIPAddr.To4())
	}
	addr, have := s.lease(m.ClientHWAddr.String())
	if !ok || !have || wanted != addr || (renewal && s.config.RefuseRenewals) {
		return s.reply(m, dhcpv4.MessageTypeNak, "nak", netip.Addr{})
	}
	return s.reply(m, dhcpv4.MessageTypeAck, "ack", addr)
}

// lease gives the address of a client, the same one each time.
func (s *Server) lease(mac string) (netip.Addr, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a, ok := s.leases[mac]; ok {
		return a, true
	}
	taken := make([]netip.Addr, 0, len(s.leases))
	for _, a := range s.leases {
		taken = append(taken, a)
	}
	a := s.config.First
	for range s.config.Count {
		if !slices.Contains(taken, a) {
			s.leases[mac] = a
			return a, true
		}
		a = a.Next()
	}
	return netip.Addr{}, false
}

func (s *Server) reply(m *dhcpv4.DHCPv4, t dhcpv4.MessageType, op string, addr netip.Addr) *dhcpv4.DHCPv4 {
	mods := []dhcpv4.Modifier{dhcpv4.WithMessageType(t), dhcpv4.WithServerIP(s.config.Server.AsSlice()), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(s.config.Server.AsSlice()))}
	if addr.IsValid() {
		mods = append(mods,
			dhcpv4.WithYourIP(addr.AsSlice()),
			dhcpv4.WithNetmask(net.CIDRMask(s.config.Prefix.Bits(), 32)),
			dhcpv4.WithLeaseTime(uint32(s.config.Lease)))
		if s.config.Router.IsValid() {
			mods = append(mods, dhcpv4.WithRouter(s.config.Router.AsSlice()))
		}
		if len(s.config.DNS) > 0 {
			mods = append(mods, dhcpv4.WithDNS(ips(s.config.DNS)...))
		}
		if len(s.config.NTP) > 0 {
			mods = append(mods, dhcpv4.WithOption(dhcpv4.OptNTPServers(ips(s.config.NTP)...)))
		}
	}
	if addr.IsValid() && s.config.RootPath != "" {
		mods = append(mods, dhcpv4.WithOption(dhcpv4.OptRootPath(s.config.RootPath)))
	}
	out, err := dhcpv4.NewReplyFromRequest(m, mods...)
	if err != nil {
		s.tell("drop", m, netip.Addr{})
		return nil
	}
	s.tell(op, m, addr)
	return out
}

func ips(list []netip.Addr) []net.IP {
	var out []net.IP
	for _, a := range list {
		out = append(out, a.AsSlice())
	}
	return out
}

func (s *Server) tell(op string, m *dhcpv4.DHCPv4, addr netip.Addr) {
	e := Event{Event: "dhcp", Op: op, Server: s.config.Server.String()}
	if m != nil {
		e.MAC = m.ClientHWAddr.String()
	}
	if addr.IsValid() {
		e.Address = addr.String()
	}
	s.emit(e)
}
