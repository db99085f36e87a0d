package link

import (
	"cmp"
	"net"
	"net/netip"
	"slices"
)

// State is everything that decides whether there is a way: a fold of events, in a fixed order.
type State struct {
	Interfaces []Interface // by index
	Addresses  []Address   // by index and prefix
	Routes     []Route     // as the kernel lists them
	Rules      []Rule      // as the kernel lists them
	Failed     []Neighbour // those that do not answer, by index and address

	// What the kernel does not know; Fold leaves it alone.
	Expected []Expected // addresses that are to come
	Alone    []int      // 802.3ad bonds whose partner was waited for long enough: their members carry traffic one by one
}

// Expected is an address that somebody asks for.
type Expected struct {
	Index    int    // interface
	IPv4     bool   // otherwise IPv6
	Name     string // what people call the interface
	Protocol string // "by DHCP", "from a router"
}

// Kind says what an Event is about.
type Kind uint8

// Kinds of events. A Reset is followed by everything there is of that class.
const (
	InterfaceIs Kind = iota + 1 // Interface: new, or changed
	InterfaceGone
	AddressIs // Address
	AddressGone
	NeighbourFails // Neighbour
	NeighbourWorks
	RouteIs     // Route; after ResetRoutes only
	RuleIs      // Rule; after ResetRoutes only
	ResetRoutes // forget all routes and rules
	ResetAll    // forget everything: the start, or messages were lost (ENOBUFS)
	RoutersSay  // Interface: Index and Flags6 only
	Settled     // what is known now is what the kernel had a moment ago
)

// Event is one change, of what its Kind says.
type Event struct {
	Kind      Kind
	Interface Interface
	Address   Address
	Neighbour Neighbour
	Route     Route
	Rule      Rule
}

// Fold takes one event in.
func (s *State) Fold(e Event) {
	switch e.Kind {
	case RoutersSay:
		for i := range s.Interfaces {
			if s.Interfaces[i].Index == e.Interface.Index {
				s.Interfaces[i].Flags6 = e.Interface.Flags6
			}
		}
	case InterfaceIs:
		if old, ok := s.byIndex(e.Interface.Index); ok && e.Interface.Flags6 == 0 {
			e.Interface.Flags6 = old.Flags6 // other messages tell
		}
		if !e.Interface.Up { // addrconf_ifdown, net/ipv6/addrconf.c, says nothing
			e.Interface.Flags6 &^= ifRAReceived
		}
		s.Interfaces = put(s.Interfaces, e.Interface, byIndex)
	case InterfaceGone:
		s.Interfaces = remove(s.Interfaces, e.Interface, byIndex)
		s.Addresses = slices.DeleteFunc(s.Addresses, func(a Address) bool { return a.Index == e.Interface.Index })
		s.Failed = slices.DeleteFunc(s.Failed, func(n Neighbour) bool { return n.Index == e.Interface.Index })
	case AddressIs:
		s.Addresses = put(s.Addresses, e.Address, byPrefix)
	case AddressGone:
		s.Addresses = remove(s.Addresses, e.Address, byPrefix)
	case NeighbourFails:
		s.Failed = put(s.Failed, e.Neighbour, byAddress)
	case NeighbourWorks:
		s.Failed = remove(s.Failed, e.Neighbour, byAddress)
	case RouteIs:
		s.Routes = append(s.Routes, e.Route)
	case RuleIs:
		s.Rules = append(s.Rules, e.Rule)
	case ResetRoutes:
		s.Routes, s.Rules = nil, nil
	case ResetAll:
		*s = State{Expected: s.Expected, Alone: s.Alone}
	case Settled:
	}
}

// Clone is a copy that later events do not change.
func (s *State) Clone() *State {
	return &State{
		Interfaces: slices.Clone(s.Interfaces), Addresses: slices.Clone(s.Addresses),
		Routes: slices.Clone(s.Routes), Rules: slices.Clone(s.Rules), Failed: slices.Clone(s.Failed),
		Expected: slices.Clone(s.Expected), Alone: slices.Clone(s.Alone),
	}
}

func byIndex(a, b Interface) int { return cmp.Compare(a.Index, b.Index) }

func byPrefix(a, b Address) int {
	return cmp.Or(cmp.Compare(a.Index, b.Index), a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
}

func byAddress(a, b Neighbour) int {
	return cmp.Or(cmp.Compare(a.Index, b.Index), a.Address.Compare(b.Address))
}

func put[T any](list []T, one T, order func(a, b T) int) []T {
	i, found := slices.BinarySearchFunc(list, one, order)
	if found {
		list[i] = one
		return list
	}
	return slices.Insert(list, i, one)
}

func remove[T any](list []T, one T, order func(a, b T) int) []T {
	if i, found := slices.BinarySearchFunc(list, one, order); found {
		return slices.Delete(list, i, i+1)
	}
	return list
}

// byIndex returns an interface; false if it is gone.
func (s *State) byIndex(index int) (Interface, bool) {
	for _, i := range s.Interfaces {
		if i.Index == index {
			return i, true
		}
	}
	return Interface{}, false
}

// address returns p on an interface.
func (s *State) address(index int, p netip.Prefix) (Address, bool) {
	i := slices.IndexFunc(s.Addresses, func(a Address) bool { return a.Index == index && a.Prefix == p })
	if i < 0 {
		return Address{}, false
	}
	return s.Addresses[i], true
}

// Has tells whether an interface has an address, with that prefix.
func (s *State) Has(index int, p netip.Prefix) bool {
	_, ok := s.address(index, p)
	return ok
}

// HasDynamic6 tells whether an interface has an IPv6 address that others gave it, and that can be used.
func (s *State) HasDynamic6(index int) bool { return s.hasDynamic6(index) }

// InterfaceName is the kernel's name of an interface.
func InterfaceName(index int) (string, error) {
	i, err := net.InterfaceByIndex(index)
	if err != nil {
		return "", err
	}
	return i.Name, nil
}
