package step

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"initd/boot/appliance"
	"initd/hw/firmware"
)

// AnyFirmware stands for the tables of the machine that will boot an image:
// one of each thing that a table can ask for.
func AnyFirmware() []appliance.Firmware {
	portal := netip.MustParseAddr("192.0.2.1")
	return []appliance.Firmware{{
		From: "any", Links: []appliance.FirmwareLink{{MAC: "02:00:00:00:00:01", VLAN: 1, DHCP: true}},
		NVMe:  []appliance.FirmwareNVMe{{NQN: "nqn.2014-08.org.nvmexpress:any", Paths: []appliance.FirmwarePath{{Address: netip.AddrPortFrom(portal, appliance.NVMePort)}}}},
		ISCSI: []appliance.FirmwareISCSI{{Target: "iqn.2014-08.org.example:any", Portals: []appliance.FirmwarePath{{Address: netip.AddrPortFrom(portal, appliance.ISCSIPort)}}, LUNs: []uint64{0}}},
	}}
}

// FromFirmware says in the file's words what the firmware's tables ask for.
// It is pure.
func FromFirmware(tables []firmware.Table) []appliance.Firmware {
	var list []appliance.Firmware
	for _, t := range tables {
		f := appliance.Firmware{From: t.Source, Problems: t.Problems}
		for _, n := range t.NICs {
			f.Links = append(f.Links, firmwareLink(t, n))
		}
		f.NVMe = firmwareNVMe(t)
		f.ISCSI = firmwareISCSI(t)
		list = append(list, f)
	}
	return list
}

func firmwareLink(t firmware.Table, n firmware.NIC) appliance.FirmwareLink {
	l := appliance.FirmwareLink{
		Index: n.Index, MAC: n.MAC, VLAN: n.VLAN, Address: n.Address, DHCP: n.DHCP,
		Gateway: n.Gateway, Default: n.Default, Metric: n.Metric, DNS: n.DNS,
	}
	if n.PCI != "" {
		l.Path = "pci-" + n.PCI
	}
	reach := func(a netip.Addr) {
		if !slices.Contains(l.Reaching, a) {
			l.Reaching = append(l.Reaching, a)
		}
	}
	for _, x := range t.Targets {
		if x.NIC == n.Index {
			reach(x.Portal.Addr())
		}
	}
	for _, x := range t.Subsystems {
		if slices.Contains(x.NICs, n.Index) {
			reach(x.Address.Addr())
		}
	}
	for _, x := range t.Discovery {
		if a, err := discoveryAddress(x.URI); err == nil && x.NIC == n.Index {
			reach(a.Addr())
		}
	}
	return l
}

// firmwareNVMe makes one subsystem of the namespaces and addresses that have
// its NQN. Those that the firmware did not reach come last, and are tried all
// the same. Discovery controllers count where no subsystem is named.
func firmwareNVMe(t firmware.Table) []appliance.FirmwareNVMe {
	var list []appliance.FirmwareNVMe
	subsystems := slices.Clone(t.Subsystems)
	slices.SortStableFunc(subsystems, func(a, b firmware.Subsystem) int {
		return map[bool]int{true: 1}[a.Unavailable] - map[bool]int{true: 1}[b.Unavailable]
	})
	for _, s := range subsystems {
		i := slices.IndexFunc(list, func(f appliance.FirmwareNVMe) bool { return f.NQN == s.NQN })
		if i < 0 {
			i = len(list)
			list = append(list, firmwareHost(t, appliance.FirmwareNVMe{Index: s.Index, NQN: s.NQN}))
		}
		f := &list[i]
		f.HeaderDigest, f.DataDigest = f.HeaderDigest || s.HeaderDigest, f.DataDigest || s.DataDigest
		for _, p := range t.Security {
			if s.Security != 0 && p.Index == s.Security {
				f.Authenticates, f.TLS = f.Authenticates || p.Required, f.TLS || p.ChannelRequired
			}
		}
		for _, p := range firmwarePaths(t, s) {
			if !slices.Contains(f.Paths, p) {
				f.Paths = append(f.Paths, p)
			}
		}
	}
	if len(list) > 0 {
		return list
	}
	for _, d := range t.Discovery {
		a, err := discoveryAddress(d.URI)
		if err != nil {
			continue // its transport is another one
		}
		if len(list) == 0 {
			list = append(list, firmwareHost(t, appliance.FirmwareNVMe{Index: d.Index}))
		}
		list[0].Paths = append(list[0].Paths, appliance.FirmwarePath{Address: a, From: sourceOf(t, d.NIC, a.Addr())})
	}
	return list
}

// firmwareHost names this machine as the table does. The kernel takes a name
// and an id together; where the table has the name alone, and that is made of
// an id, the id is known too. Otherwise the machine's own are used.
func firmwareHost(t firmware.Table, f appliance.FirmwareNVMe) appliance.FirmwareNVMe {
	const made = "nqn.2014-08.org.nvmexpress:uuid:"
	f.HostNQN, f.HostID = t.HostNQN, t.HostID
	switch id, ok := strings.CutPrefix(t.HostNQN, made); {
	case f.HostID == "" && ok:
		f.HostID = strings.ToLower(id)
	case f.HostNQN == "" && f.HostID != "":
		f.HostNQN = made + f.HostID
	}
	if f.HostID == "" {
		f.HostNQN = ""
	}
	return f
}

// firmwarePaths: an address over each interface that the table names for it.
func firmwarePaths(t firmware.Table, s firmware.Subsystem) []appliance.FirmwarePath {
	var list []appliance.FirmwarePath
	for _, n := range s.NICs {
		if cannotReach(t, n, s.Address.Addr()) {
			continue
		}
		p := appliance.FirmwarePath{Address: s.Address, From: sourceOf(t, n, s.Address.Addr())}
		if !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	if len(list) == 0 {
		list = append(list, appliance.FirmwarePath{Address: s.Address})
	}
	return list
}

// cannotReach: an interface whose only address is of the other family.
func cannotReach(t firmware.Table, nic int, to netip.Addr) bool {
	mine, reaches := false, false
	for _, n := range t.NICs {
		if n.Index == nic {
			mine = true
			reaches = reaches || n.DHCP || !n.Address.IsValid() || n.Address.Addr().Is4() == to.Is4()
		}
	}
	return mine && !reaches
}

// sourceOf is the fixed address of an interface, if it has one of the family.
func sourceOf(t firmware.Table, nic int, to netip.Addr) netip.Addr {
	for _, n := range t.NICs {
		if n.Index == nic && !n.DHCP && n.Address.IsValid() && n.Address.Addr().Is4() == to.Is4() {
			return n.Address.Addr()
		}
	}
	return netip.Addr{}
}

// discoveryAddress reads nvme+tcp://ADDRESS[:PORT]/ (Boot Specification 1.0,
// 1.4.7); 8009 is the port of discovery.
func discoveryAddress(uri string) (netip.AddrPort, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if u.Scheme != "nvme+tcp" {
		return netip.AddrPort{}, fmt.Errorf("%q is not nvme+tcp", uri)
	}
	port := u.Port()
	if port == "" {
		port = fmt.Sprint(appliance.NVMeDiscoveryPort)
	}
	host := u.Hostname()
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return netip.ParseAddrPort(host + ":" + port)
}

// firmwareISCSI makes one target of the entries that have its name.
func firmwareISCSI(t firmware.Table) []appliance.FirmwareISCSI {
	var list []appliance.FirmwareISCSI
	for _, x := range t.Targets {
		i := slices.IndexFunc(list, func(f appliance.FirmwareISCSI) bool { return f.Target == x.Name })
		if i < 0 {
			i = len(list)
			list = append(list, appliance.FirmwareISCSI{Index: x.Index, Target: x.Name, Initiator: t.Initiator})
		}
		f := &list[i]
		if c := x.CHAP; c != nil && f.User == "" {
			f.Index, f.User, f.Mutual, f.Reverse = x.Index, c.User, c.Mutual, c.ReverseUser
		}
		p := appliance.FirmwarePath{Address: x.Portal, From: sourceOf(t, x.NIC, x.Portal.Addr())}
		if !slices.ContainsFunc(f.Portals, func(o appliance.FirmwarePath) bool { return o.Address == p.Address }) {
			f.Portals = append(f.Portals, p)
		}
		if !slices.Contains(f.LUNs, x.LUN) {
			f.LUNs = append(f.LUNs, x.LUN)
		}
	}
	return list
}
