package step

import (
	"time"

	"initd/boot/appliance"
	"initd/hw/link"
	"initd/hw/sysfs"
)

// addressProbe is how long other machines are asked whether they have an IPv4
// address of the file, before it is taken. A network that answers at all
// answers within milliseconds; every boot pays this.
const addressProbe = 300 * time.Millisecond

// config is what hw/link is asked for.
func (s linkSpec) config() link.Config {
	return link.Config{
		Name: s.Name, Match: matchFor(s.Match), Make: s.make(), Rename: s.Rename, MTU: s.MTU, Addresses: s.Addresses,
		RA: s.ra(), Probe: addressProbe, Carries: carries, Moving: matchesFor(s.Moving),
	}
}

func matchFor(m appliance.LinkMatch) link.Match {
	return link.Match{MAC: m.MAC, Path: m.Path, Name: m.Name, Driver: m.Driver}
}

func matchesFor(list []appliance.LinkMatch) []link.Match {
	var out []link.Match
	for _, m := range list {
		out = append(out, matchFor(m))
	}
	return out
}

func (s linkSpec) make() link.Made {
	switch {
	case s.Bond != nil:
		b := &link.BondConfig{
			Mode: link.BondModeActiveBackup, Members: matchesFor(s.Bond.Members), MIIMon: time.Duration(s.Bond.MIIMon),
			Fast: s.Bond.Fast, Hash: s.Bond.Hash, Primary: matchFor(s.Bond.Primary), Min: s.Bond.Min,
		}
		if s.Bond.LACP {
			b.Mode = link.BondMode8023AD
		}
		return link.Made{Bond: b}
	case s.VLAN != nil:
		return link.Made{VLAN: &link.VLANConfig{ID: s.VLAN.ID, On: matchFor(s.VLAN.On), Provider: s.VLAN.Provider}}
	case s.Bridge != nil:
		return link.Made{Bridge: &link.BridgeConfig{Ports: matchesFor(s.Bridge.Ports), STP: s.Bridge.STP, Delay: time.Duration(s.Bridge.Delay)}}
	}
	return link.Made{Dummy: s.Dummy}
}

// ra: what routers advertise is taken where the file asks for it. DHCPv6 gives
// addresses and no routes: those are the routers'.
func (s linkSpec) ra() link.RA {
	switch {
	case s.RA:
		return link.RAAddresses
	case s.DHCP6:
		return link.RARoutes
	}
	return link.RANothing
}

// which finds the link as the kernel has it.
func (s linkSpec) which(st *link.State) (link.Interface, error) {
	if s.made() {
		return st.Find(link.Match{Name: s.Name})
	}
	return st.Find(matchFor(s.Match))
}

// carries names the disk that is reached over an interface right now.
func carries(i link.Interface) string {
	sys, err := sysfs.Open("/")
	if err != nil {
		return "a disk, perhaps (" + err.Error() + ")"
	}
	defer sys.Close()
	st, err := link.Read()
	if err != nil {
		return "a disk, perhaps (" + err.Error() + ")"
	}
	return link.Carriers(sys, st)[i.Index]
}
