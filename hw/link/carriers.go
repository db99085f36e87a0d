package link

import (
	"fmt"
	"net/netip"
	"strings"

	"initd/hw/sysfs"
)

// Carriers finds the interfaces over which a disk is reached right now (NVMe over TCP, iSCSI), and which one: they must stay
// up, with their addresses, whatever else says otherwise. Everything below them counts as well. The keys are indexes.
func Carriers(sys *sysfs.FS, s *State) map[int]string {
	found := map[int]string{}
	for _, c := range connections(sys) {
		for index := range s.interfacesOf(c) {
			s.below(index, func(i Interface) {
				if found[i.Index] == "" {
					found[i.Index] = c.what
				}
			})
		}
	}
	return found
}

// connection is one way to a disk.
type connection struct {
	what      string     // "nvme0", "the iSCSI session 1"
	link      string     // interface that it is bound to; may be empty
	own, peer netip.Addr // may be invalid
}

// connections lists them from sysfs (drivers/nvme/host/sysfs.c, drivers/scsi/scsi_transport_iscsi.c).
func connections(sys *sysfs.FS) []connection {
	var list []connection
	names, _ := sys.Names("sys/class/nvme") // not there: no driver, no disk
	for _, n := range names {
		if t, err := sys.String("sys/class/nvme/" + n + "/transport"); err != nil || t != "tcp" {
			continue
		}
		text, err := sys.String("sys/class/nvme/" + n + "/address")
		if err != nil {
			continue
		}
		c := connection{what: n}
		for _, f := range strings.Split(text, ",") {
			key, value, _ := strings.Cut(strings.TrimSpace(f), "=")
			switch key {
			case "traddr":
				c.peer = addressText(value)
			case "src_addr":
				c.own = addressText(value)
			case "host_traddr":
				if !c.own.IsValid() {
					c.own = addressText(value)
				}
			case "host_iface":
				c.link = value
			}
		}
		list = append(list, c)
	}
	names, _ = sys.Names("sys/class/iscsi_connection")
	for _, n := range names {
		session, _, _ := strings.Cut(strings.TrimPrefix(n, "connection"), ":")
		c := connection{what: fmt.Sprintf("the iSCSI session %s", session)}
		for _, attribute := range []string{"address", "persistent_address"} {
			if text, err := sys.String("sys/class/iscsi_connection/" + n + "/" + attribute); err == nil && !c.peer.IsValid() {
				c.peer = addressText(text)
			}
		}
		if text, err := sys.String("sys/class/iscsi_connection/" + n + "/local_ipaddr"); err == nil {
			c.own = addressText(text)
		}
		list = append(list, c)
	}
	return list
}

func addressText(s string) netip.Addr {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{} // "(null)", or a text of a later kernel
	}
	return a.Unmap()
}

// interfacesOf finds where a connection passes: the interface that it is bound to, or that has its address; where neither is
// known, those of the route to its peer.
func (s *State) interfacesOf(c connection) map[int]bool {
	found := map[int]bool{}
	for _, i := range s.Interfaces {
		if c.link != "" && i.Name == c.link || c.link == "" && c.peer.Zone() != "" && i.Name == c.peer.Zone() {
			found[i.Index] = true
		}
	}
	for _, a := range s.Addresses {
		if c.own.IsValid() && a.Prefix.Addr() == c.own.WithZone("") {
			found[a.Index] = true
		}
	}
	if len(found) == 0 && c.peer.IsValid() {
		for _, r := range s.lookup(flow{to: c.peer.WithZone(""), from: c.own, link: c.peer.Zone()}) {
			found[r.Index] = true
		}
	}
	return found
}

// below calls f for the interface and all that it stands on.
func (s *State) below(index int, f func(Interface)) {
	work, seen := []int{index}, map[int]bool{}
	for len(work) > 0 {
		at := work[0]
		work = work[1:]
		i, ok := s.byIndex(at)
		if !ok || seen[at] {
			continue
		}
		seen[at] = true
		if !i.Loop {
			f(i)
		}
		if i.Lower != 0 {
			work = append(work, i.Lower)
		}
		for _, p := range s.Interfaces {
			if p.Master == at {
				work = append(work, p.Index)
			}
		}
	}
}
