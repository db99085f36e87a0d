package dhcp

import (
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
)

func config() Config {
	return Config{
		Server: netip.MustParseAddr("192.0.2.1"), Prefix: netip.MustParsePrefix("192.0.2.0/24"),
		First: netip.MustParseAddr("192.0.2.100"), Count: 2, Lease: 60,
		Router: netip.MustParseAddr("192.0.2.1"), DNS: []netip.Addr{netip.MustParseAddr("192.0.2.53")},
	}
}

func mac(last byte) net.HardwareAddr { return net.HardwareAddr{0x52, 0x54, 0, 0, 0, last} }

func discover(t *testing.T, last byte) *dhcpv4.DHCPv4 {
	t.Helper()
	m, err := dhcpv4.NewDiscovery(mac(last))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestAClientGetsAnAddressAndKeepsIt(t *testing.T) {
	var ops []string
	s, err := New(config(), func(e Event) { ops = append(ops, e.Op+" "+e.Address) })
	if err != nil {
		t.Fatal(err)
	}
	offer := s.Answer(discover(t, 1))
	if offer == nil || !offer.YourIPAddr.Equal(net.IPv4(192, 0, 2, 100)) || offer.IPAddressLeaseTime(0).Seconds() != 60 {
		t.Fatalf("offer %v", offer)
	}
	request, err := dhcpv4.NewRequestFromOffer(offer)
	if err != nil {
		t.Fatal(err)
	}
	ack := s.Answer(request)
	if ack == nil || ack.MessageType() != dhcpv4.MessageTypeAck || !ack.Router()[0].Equal(net.IPv4(192, 0, 2, 1)) || !ack.DNS()[0].Equal(net.IPv4(192, 0, 2, 53)) {
		t.Fatalf("ack %v", ack)
	}
	renew, err := dhcpv4.NewRenewFromAck(ack)
	if err != nil {
		t.Fatal(err)
	}
	if again := s.Answer(renew); again == nil || again.MessageType() != dhcpv4.MessageTypeAck || !again.YourIPAddr.Equal(ack.YourIPAddr) {
		t.Fatalf("renewal %v", again)
	}
	want := []string{"discover ", "offer 192.0.2.100", "request ", "ack 192.0.2.100", "request ", "ack 192.0.2.100"}
	if diff := cmp.Diff(want, ops); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestAddressesRunOutAndComeBack(t *testing.T) {
	s, err := New(config(), func(Event) {})
	if err != nil {
		t.Fatal(err)
	}
	s.Answer(discover(t, 1))
	s.Answer(discover(t, 2))
	if got := s.Answer(discover(t, 3)); got != nil {
		t.Errorf("a third client got %s of two addresses", got.YourIPAddr)
	}
	release := discover(t, 1)
	release.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeRelease))
	s.Answer(release)
	if got := s.Answer(discover(t, 3)); got == nil || !got.YourIPAddr.Equal(net.IPv4(192, 0, 2, 100)) {
		t.Errorf("the released address was not given: %v", got)
	}
}

func TestARequestForAnotherServerIsNotAnswered(t *testing.T) {
	s, err := New(config(), func(Event) {})
	if err != nil {
		t.Fatal(err)
	}
	m := discover(t, 1)
	m.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeRequest))
	m.UpdateOption(dhcpv4.OptServerIdentifier(net.IPv4(192, 0, 2, 2)))
	if got := s.Answer(m); got != nil {
		t.Errorf("answer %v", got)
	}
}

func TestAWrongAddressAndARefusedRenewalAreNaks(t *testing.T) {
	cfg := config()
	cfg.RefuseRenewals = true
	s, err := New(cfg, func(Event) {})
	if err != nil {
		t.Fatal(err)
	}
	m := discover(t, 1)
	m.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeRequest))
	m.UpdateOption(dhcpv4.OptRequestedIPAddress(net.IPv4(198, 51, 100, 9)))
	if got := s.Answer(m); got == nil || got.MessageType() != dhcpv4.MessageTypeNak {
		t.Errorf("an address of another subnet: %v", got)
	}
	m = discover(t, 1)
	m.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeRequest))
	m.ClientIPAddr = net.IPv4(192, 0, 2, 100)
	if got := s.Answer(m); got == nil || got.MessageType() != dhcpv4.MessageTypeNak {
		t.Errorf("a renewal: %v", got)
	}
}
