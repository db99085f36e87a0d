package appliance

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestGatewaysOfTheFirmware(t *testing.T) {
	portal := netip.MustParseAddr("203.0.113.40")
	for _, row := range []struct {
		name string
		link FirmwareLink
		want []Route
	}{
		{"to everywhere", FirmwareLink{Address: netip.MustParsePrefix("192.0.2.17/24"), Gateway: netip.MustParseAddr("192.0.2.1"), Default: true},
			[]Route{{To: "default", Via: "192.0.2.1", Link: "ibft-0"}}},
		{"to the portals alone", FirmwareLink{Address: netip.MustParsePrefix("192.0.2.17/24"), Gateway: netip.MustParseAddr("192.0.2.1"), Reaching: []netip.Addr{portal}},
			[]Route{{To: "203.0.113.40/32", Via: "192.0.2.1", Link: "ibft-0"}}},
		{"beyond a prefix that is the machine's alone", FirmwareLink{Address: netip.MustParsePrefix("192.0.2.17/32"), Gateway: netip.MustParseAddr("198.51.100.1"), Default: true},
			[]Route{{To: "default", Via: "198.51.100.1", Link: "ibft-0", OnLink: true}}},
		{"link-local of IPv6, which is on every link", FirmwareLink{Address: netip.MustParsePrefix("2001:db8::17/64"), Gateway: netip.MustParseAddr("fe80::1"), Default: true},
			[]Route{{To: "default", Via: "fe80::1", Link: "ibft-0"}}},
		{"of the other family than the address", FirmwareLink{Address: netip.MustParsePrefix("2001:db8::17/64"), Gateway: netip.MustParseAddr("192.0.2.1"), Default: true},
			[]Route{{To: "default", Via: "192.0.2.1", Link: "ibft-0"}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.link.MAC = "52:54:00:00:00:01"
			whole, notes := (&Appliance{}).WithFirmware([]Firmware{{From: "iBFT", Links: []FirmwareLink{row.link}}})
			if diff := cmp.Diff(row.want, whole.Network.Routes, cmpopts.EquateEmpty()); diff != "" || len(notes) > 0 {
				t.Errorf("%q (-want +got):\n%s", notes, diff)
			}
		})
	}
}

func TestASubsystemOfTheFirmwareThatWantsTLSIsNotTriedWithout(t *testing.T) {
	n := FirmwareNVMe{NQN: "nqn.x:a", Paths: []FirmwarePath{{Address: netip.MustParseAddrPort("192.0.2.40:4420")}}, TLS: true}
	whole, notes := (&Appliance{}).WithFirmware([]Firmware{{From: "NBFT", NVMe: []FirmwareNVMe{n}}})
	if whole.Fabrics.NVMe[0].TLS == nil || len(notes) != 1 || !strings.Contains(notes[0], "tlshd") {
		t.Errorf("%+v, %q", whole.Fabrics.NVMe[0], notes)
	}
}
