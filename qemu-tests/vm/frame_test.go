package vm

import (
	"net/netip"
	"testing"
)

// frame6 and frame4 carry TCP from port 12345 to 5696.
var (
	frame4 = Frame{From: "host", To: "kms-a", Data: []byte("\x52\x54\x00\x00\x00\x02\x52\x54\x00\x00\x00\x01\x08\x00" +
		"\x45\x00\x00\x28\x00\x00\x40\x00\x40\x06\x00\x00\xc0\x00\x02\x01\xc0\x00\x02\x02" + "\x30\x39\x16\x40")}
	frame6 = Frame{From: "host", To: "kms-b", Data: []byte("\x52\x54\x00\x00\x00\x02\x52\x54\x00\x00\x00\x01\x86\xdd" +
		"\x60\x00\x00\x00\x00\x14\x06\x40" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02" + "\x30\x39\x16\x40")}
	arp = Frame{From: "host", To: "kms-a", Data: []byte("\xff\xff\xff\xff\xff\xff\x52\x54\x00\x00\x00\x01\x08\x06\x00\x01")}
)

func TestFramesAreMatchedByWhereTheyGo(t *testing.T) {
	for _, tc := range []struct {
		name  string
		match func(Frame) bool
		frame Frame
		want  bool
	}{
		{"IPv4 by address", ToAddr(netip.MustParseAddr("192.0.2.2")), frame4, true},
		{"IPv4 not by its sender", ToAddr(netip.MustParseAddr("192.0.2.1")), frame4, false},
		{"IPv6 by address", ToAddr(netip.MustParseAddr("2001:db8::2")), frame6, true},
		{"IPv4 by port", ToPort(netip.MustParseAddrPort("192.0.2.2:5696")), frame4, true},
		{"IPv6 by port", ToPort(netip.MustParseAddrPort("[2001:db8::2]:5696")), frame6, true},
		{"another port", ToPort(netip.MustParseAddrPort("192.0.2.2:22")), frame4, false},
		{"ARP has no address", ToAddr(netip.MustParseAddr("192.0.2.2")), arp, false},
		{"by machine", To("kms-a"), arp, true},
		{"between machines, this way", Between("host", "kms-a"), frame4, true},
		{"between machines, that way", Between("kms-a", "host"), frame4, true},
		{"not between others", Between("kms-a", "kms-b"), frame4, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.match(tc.frame); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}
