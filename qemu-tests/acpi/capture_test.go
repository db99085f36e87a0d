package acpi_test

import (
	"bytes"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"initd/qemu-tests/acpi"
)

var update = flag.Bool("update", false, "rewrite the captures of hw/firmware")

func addr(s string) netip.Addr       { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix   { return netip.MustParsePrefix(s) }
func portal(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
func id(b ...byte) (out [16]byte)    { copy(out[:], b); return out }
func both(a, b string) [2]netip.Addr { return [2]netip.Addr{addr(a), addr(b)} }

// captures are the tables that hw/firmware is tested with.
func captures() map[string][]byte {
	uuid := id(0x55, 0x0e, 0x84, 0x00, 0xe2, 0x9b, 0x41, 0xd4, 0xa7, 0x16, 0x44, 0x66, 0x55, 0x44, 0x00, 0x01)
	return map[string][]byte{
		"ibft_two_nics": acpi.IBFT{
			Initiator: "iqn.2026-01.net.example:store-07",
			NICs: []acpi.IBFTNIC{
				{MAC: "52:54:00:00:00:01", Address: prefix("192.0.2.17/24"), Gateway: addr("192.0.2.1"), DNS: both("198.51.100.53", "198.51.100.54"), HostName: "store-07", BusDeviceFun: 0x20},
				{MAC: "52:54:00:00:00:02", Address: prefix("2001:db8:120::17/64"), VLAN: 120},
			},
			Targets: []acpi.IBFTTarget{
				{Portal: portal("192.0.2.50:3260"), Name: "iqn.2026-01.net.example:root", LUN: 1, NIC: 0, User: "store-07", Secret: "0123456789abcdef", Reverse: "target", RSecret: "fedcba9876543210"},
				{Portal: portal("[2001:db8:120::50]:3261"), Name: "iqn.2026-01.net.example:root", LUN: 1, NIC: 1},
			},
		}.Bytes(),
		"ibft_dhcp": acpi.IBFT{
			Initiator: "iqn.2026-01.net.example:store-07",
			NICs:      []acpi.IBFTNIC{{MAC: "52:54:00:00:00:01", Address: prefix("192.0.2.100/24"), DHCP: true, DHCPServer: addr("192.0.2.2"), Gateway: addr("192.0.2.1")}, {MAC: "52:54:00:00:00:02", Off: true}},
			Targets:   []acpi.IBFTTarget{{Portal: portal("192.0.2.50:3260"), Name: "iqn.2026-01.net.example:root"}, {Off: true, Portal: portal("192.0.2.51:3260"), Name: "iqn.2026-01.net.example:other"}},
		}.Bytes(),
		"nbft_two_paths": acpi.NBFT{
			HostNQN: "nqn.2014-08.org.nvmexpress:uuid:550e8400-e29b-41d4-a716-446655440001", HostID: uuid,
			HFIs: []acpi.HFI{
				{MAC: "52:54:00:00:00:01", Address: prefix("192.0.2.17/24"), Gateway: addr("192.0.2.1"), Default: true, Metric: 50, DNS: both("198.51.100.53", "198.51.100.54"), HostName: "store-07", SBDF: 0x0020},
				{MAC: "52:54:00:00:00:02", Address: prefix("2001:db8:120::17/64"), VLAN: 120},
			},
			Subsystems: []acpi.SSNS{
				{NQN: "nqn.2026-01.net.example:root", Address: portal("192.0.2.40:4420"), NSID: 1, UUID: uuid, HFI: 1, DataDgst: true},
				{NQN: "nqn.2026-01.net.example:root", Address: portal("[2001:db8:120::40]:4421"), NSID: 1, UUID: uuid, HFI: 2, More: []byte{1}, HeaderDgst: true, Security: 1, Via: 1, Unavailable: true},
			},
			Discovery: []acpi.DiscoveryController{{URI: "nvme+tcp://192.0.2.40:8009/", NQN: "nqn.2014-08.org.nvmexpress.discovery", HFI: 1}},
			Security:  []acpi.SecurityProfile{{InBand: 2, Channel: 1}},
		}.Bytes(),
		// As SMBIOS writes it: the first three fields of the id are swapped, and the NQN is made of it.
		"nbft_swapped_id": acpi.NBFT{
			HostNQN: "nqn.2014-08.org.nvmexpress:uuid:00840e55-9be2-d441-a716-446655440001", HostID: uuid,
			HFIs:       []acpi.HFI{{MAC: "52:54:00:00:00:01", DHCP: true, DHCPServer: addr("192.0.2.2"), Address: prefix("192.0.2.100/24")}},
			Subsystems: []acpi.SSNS{{NQN: "nqn.2026-01.net.example:root", Address: netip.AddrPortFrom(addr("192.0.2.40"), 0), HFI: 1, NonBootable: true}},
		}.Bytes(),
	}
}

// TestTheCapturesAreWhatTheSpecificationSays: bytes of one hand, read by the other.
func TestTheCapturesAreWhatTheSpecificationSays(t *testing.T) {
	for name, want := range captures() {
		file := filepath.Join("../../hw/firmware/testdata", name+".bin")
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(file)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is another table than the one that this test builds (%v); if it is meant to be: go test ./qemu-tests/acpi -update", file, err)
		}
	}
}
