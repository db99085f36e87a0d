package router

import (
	"net"
	"net/netip"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv6"
)

func TestAdvertisementOfAPrefix(t *testing.T) {
	b := advertisement(netip.MustParsePrefix("2001:db8:7::1/64"))
	if len(b) != 48 || b[0] != 134 || b[16] != 3 || b[17] != 4 || b[18] != 64 {
		t.Errorf("advertisement %x", b)
	}
	if a, _ := netip.AddrFromSlice(b[32:48]); a != netip.MustParseAddr("2001:db8:7::") {
		t.Errorf("prefix %s", a)
	}
}

func TestAnswersToDHCPv6(t *testing.T) {
	mac := net.HardwareAddr{0x52, 0x54, 0, 0, 1, 2}
	link := &net.Interface{Index: 1, Name: "far", HardwareAddr: mac}
	want := netip.MustParseAddr("2001:db8:8::9")
	solicit, err := dhcpv6.NewSolicit(mac)
	if err != nil {
		t.Fatal(err)
	}
	read := func(b []byte) *dhcpv6.Message {
		t.Helper()
		m, err := dhcpv6.MessageFromBytes(b)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	offer := read(answer(link, want, solicit))
	if offer.MessageType != dhcpv6.MessageTypeAdvertise {
		t.Errorf("the answer to a solicit is a %s", offer.MessageType)
	}
	request, err := dhcpv6.NewRequestFromAdvertise(offer)
	if err != nil {
		t.Fatal(err)
	}
	reply := read(answer(link, want, request))
	ia := reply.Options.OneIANA()
	if reply.MessageType != dhcpv6.MessageTypeReply || ia == nil || ia.IaId != request.Options.OneIANA().IaId || !ia.Options.OneAddress().IPv6Addr.Equal(want.AsSlice()) {
		t.Errorf("reply %s", reply.Summary())
	}
	if b := answer(link, want, &dhcpv6.Message{MessageType: dhcpv6.MessageTypeInformationRequest}); b != nil {
		t.Error("a question without an IA_NA is answered")
	}
}
