package link_test

import (
	"fmt"
	"net/netip"

	"initd/hw/link"
)

// A consumer asks for the way to its own server, and learns what is missing.
func ExampleState_Way() {
	var s link.State
	server := netip.MustParseAddr("192.0.2.22")
	for _, e := range []link.Event{
		{Kind: link.InterfaceIs, Interface: link.Interface{Index: 2, Name: "storage", Up: true}},
		{Kind: link.RouteIs, Route: link.Route{To: netip.MustParsePrefix("192.0.2.0/24"), Index: 2}},
		{Kind: link.InterfaceIs, Interface: link.Interface{Index: 2, Name: "storage", Up: true, Carrier: true}},
		{Kind: link.AddressIs, Address: link.Address{Index: 2, Prefix: netip.MustParsePrefix("192.0.2.17/24")}},
	} {
		s.Fold(e)
		fmt.Println(s.Way(server))
	}
	// Output:
	// false no route to 192.0.2.22 (storage: no carrier)
	// false storage: no carrier
	// false no IPv4 address on storage
	// true
}
