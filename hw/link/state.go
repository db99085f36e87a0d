package link

import (
	"cmp"
	"net/netip"
	"slices"
)

// State is everything that decides whether there is a way: a fold of events, in a fixed order.
type State struct {
	Interfaces []Interface // by index
	Addresses  []Address   // by index and prefix
	Routes     []Route     // as the kernel lists them
	Failed     []Neighbour // those that do not answer, by index and address
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
	ResetRoutes // forget all routes
	ResetAll    // forget everything: the start, or messages were lost (ENOBUFS)
	Settled     // what is known now is what the kernel had a moment ago
)

// Event is one change, of what its Kind says.
type Event struct {
	Kind      Kind
	Interface Interface
	Address   Address
	Neighbour Neighbour
	Route     Route
}

// Fold takes one event in.
func (s *State) Fold(e Event) {
	switch e.Kind {
	case InterfaceIs:
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
	case ResetRoutes:
		s.Routes = nil
	case ResetAll:
		*s = State{}
	case Settled:
	}
}

// Clone is a copy that later events do not change.
func (s *State) Clone() *State {
	return &State{
		Interfaces: slices.Clone(s.Interfaces), Addresses: slices.Clone(s.Addresses),
		Routes: slices.Clone(s.Routes), Failed: slices.Clone(s.Failed),
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
