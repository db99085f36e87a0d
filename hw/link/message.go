package link

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// attributeType is NLA_TYPE_MASK (include/uapi/linux/netlink.h): without NLA_F_NESTED and NLA_F_NET_BYTEORDER.
const attributeType = 0x3fff

// maxNexthops bounds those of one route.
const maxNexthops = 512

// parse reads the payload of one rtnetlink message of type typ. routes tells that routes or rules may have changed: they are read
// anew then, because messages do not tell all of it. The kernel flushes IPv4 routes of a link that goes down, or of a
// source address that goes, without a word (fib_table_flush in net/ipv4/fib_trie.c), and what RTM_NEWROUTE with
// NLM_F_REPLACE replaced does not show.
func parse(typ uint16, b []byte) (events []Event, routes bool) {
	switch typ {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		if i, ok := parseRouters(b); ok && typ == unix.RTM_NEWLINK {
			return []Event{{Kind: RoutersSay, Interface: i}}, false
		}
		i, ok := parseInterface(b)
		if !ok {
			return nil, false
		}
		kind := InterfaceIs
		if typ == unix.RTM_DELLINK {
			kind = InterfaceGone
		}
		return []Event{{Kind: kind, Interface: i}}, true
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		a, ok := parseAddress(b)
		if !ok {
			return nil, false
		}
		kind := AddressIs
		if typ == unix.RTM_DELADDR {
			kind = AddressGone
		}
		return []Event{{Kind: kind, Address: a}}, true
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		n, failed, ok := parseNeighbour(b)
		if !ok {
			return nil, false
		}
		kind := NeighbourWorks
		if failed && typ == unix.RTM_NEWNEIGH {
			kind = NeighbourFails
		}
		return []Event{{Kind: kind, Neighbour: n}}, false
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE, unix.RTM_NEWRULE, unix.RTM_DELRULE:
		return nil, true
	}
	return nil, false
}

// attributes calls f for each attribute of b; a torn one ends it.
func attributes(b []byte, f func(typ uint16, value []byte)) {
	for len(b) >= unix.SizeofRtAttr {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofRtAttr || length > len(b) {
			return
		}
		f(binary.NativeEndian.Uint16(b[2:])&attributeType, b[unix.SizeofRtAttr:length])
		b = b[min((length+3)&^3, len(b)):]
	}
}

func number(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(b)
}

func text(b []byte) string { return unix.ByteSliceToString(b) }

// address reads an address of the family in its own size.
func address(family byte, b []byte) (netip.Addr, bool) {
	if family == unix.AF_INET && len(b) != 4 || family == unix.AF_INET6 && len(b) != 16 {
		return netip.Addr{}, false
	}
	return netip.AddrFromSlice(b)
}

func inet(family byte) bool { return family == unix.AF_INET || family == unix.AF_INET6 }

// parseInterface reads struct ifinfomsg. AF_BRIDGE speaks of ports, with the same type.
func parseInterface(b []byte) (Interface, bool) {
	if len(b) < unix.SizeofIfInfomsg || b[0] != unix.AF_UNSPEC {
		return Interface{}, false
	}
	flags := number(b[8:])
	i := Interface{
		Index: int(int32(number(b[4:]))),
		Up:    flags&unix.IFF_UP != 0, Carrier: flags&unix.IFF_LOWER_UP != 0, Loop: flags&unix.IFF_LOOPBACK != 0,
	}
	elsewhere, info := false, []byte(nil)
	attributes(b[unix.SizeofIfInfomsg:], func(typ uint16, v []byte) {
		switch typ {
		case unix.IFLA_IFNAME:
			i.Name = text(v)
		case unix.IFLA_ADDRESS:
			i.MAC = net.HardwareAddr(v).String()
		case unix.IFLA_PERM_ADDRESS:
			i.Permanent = net.HardwareAddr(v).String()
		case unix.IFLA_CARRIER_DOWN_COUNT:
			i.Losses = number(v)
		case unix.IFLA_MTU:
			i.MTU = int(number(v))
		case unix.IFLA_MAX_MTU:
			i.MaxMTU = int(number(v))
		case unix.IFLA_MASTER:
			i.Master = int(number(v))
		case unix.IFLA_LINK:
			i.Lower = int(number(v))
		case unix.IFLA_LINK_NETNSID:
			elsewhere = true
		case unix.IFLA_LINKINFO:
			info = v
		}
	})
	parseInfo(&i, info)
	if elsewhere || i.Kind != "vlan" {
		i.Lower = 0
	}
	return i, i.Index > 0 && i.Name != "" // wireless events carry no name, and nothing for us
}

// parseAddress reads struct ifaddrmsg. IFA_LOCAL is ours where there is a peer, which IFA_ADDRESS is then.
func parseAddress(b []byte) (Address, bool) {
	if len(b) < unix.SizeofIfAddrmsg || !inet(b[0]) {
		return Address{}, false
	}
	family, bits, flags := b[0], int(b[1]), uint32(b[2])
	var local, other netip.Addr
	attributes(b[unix.SizeofIfAddrmsg:], func(typ uint16, v []byte) {
		switch typ {
		case unix.IFA_LOCAL:
			local, _ = address(family, v)
		case unix.IFA_ADDRESS:
			other, _ = address(family, v)
		case unix.IFA_FLAGS:
			flags = number(v)
		}
	})
	if !local.IsValid() {
		local = other
	}
	a := Address{
		Index: int(number(b[4:])), Prefix: netip.PrefixFrom(local, bits),
		Tentative:  flags&unix.IFA_F_TENTATIVE != 0 && flags&unix.IFA_F_OPTIMISTIC == 0,
		Duplicate:  flags&unix.IFA_F_DADFAILED != 0,
		Deprecated: flags&unix.IFA_F_DEPRECATED != 0,
		LinkLocal:  local.IsLinkLocalUnicast(),
		Dynamic:    flags&unix.IFA_F_PERMANENT == 0,
	}
	return a, a.Index > 0 && a.Prefix.IsValid()
}

// parseNeighbour reads struct ndmsg; failed is NUD_FAILED.
func parseNeighbour(b []byte) (n Neighbour, failed, ok bool) {
	if len(b) < unix.SizeofNdMsg || !inet(b[0]) {
		return n, false, false
	}
	n.Index = int(int32(number(b[4:])))
	failed = binary.NativeEndian.Uint16(b[8:])&unix.NUD_FAILED != 0
	attributes(b[unix.SizeofNdMsg:], func(typ uint16, v []byte) {
		if typ == unix.NDA_DST {
			n.Address, _ = address(b[0], v)
		}
	})
	return n, failed, n.Index > 0 && n.Address.IsValid()
}

// parseRoute reads struct rtmsg: one Route for each next hop, none if it is one of the machine's own (the local table).
func parseRoute(b []byte) []Route {
	if len(b) < unix.SizeofRtMsg || !inet(b[0]) || number(b[8:])&unix.RTM_F_CLONED != 0 {
		return nil
	}
	family, bits, table := b[0], int(b[1]), uint32(b[4])
	r := Route{Proto: b[5], Type: b[7]}
	switch b[7] {
	case unix.RTN_UNICAST:
	case unix.RTN_UNREACHABLE, unix.RTN_PROHIBIT, unix.RTN_BLACKHOLE, unix.RTN_THROW:
		r.Refused = true
	default:
		return nil
	}
	r.OnLink = number(b[8:])&unix.RTNH_F_ONLINK != 0
	to := netip.IPv4Unspecified()
	if family == unix.AF_INET6 {
		to = netip.IPv6Unspecified()
	}
	var hops []byte
	attributes(b[unix.SizeofRtMsg:], func(typ uint16, v []byte) {
		switch typ {
		case unix.RTA_DST:
			to, _ = address(family, v)
		case unix.RTA_OIF:
			r.Index = int(number(v))
		case unix.RTA_PRIORITY:
			r.Metric = int(number(v))
		case unix.RTA_PREFSRC:
			r.Source, _ = address(family, v)
		case unix.RTA_TABLE:
			table = number(v)
		case unix.RTA_MULTIPATH:
			hops = v
		default:
			gateway(family, typ, v, &r)
		}
	})
	r.To = netip.PrefixFrom(to, bits)
	if table == unix.RT_TABLE_LOCAL || !r.To.IsValid() {
		return nil
	}
	if table != unix.RT_TABLE_MAIN {
		r.Table = int(table)
	}
	if hops == nil {
		return []Route{r}
	}
	return nexthops(family, r, hops)
}

// gateway takes RTA_GATEWAY, or RTA_VIA (an IPv6 gateway of an IPv4 route, RFC 5549).
func gateway(family byte, typ uint16, v []byte, r *Route) {
	switch {
	case typ == unix.RTA_GATEWAY:
		r.Via, _ = address(family, v)
	case typ == unix.RTA_VIA && len(v) > 2: // struct rtvia
		r.Via, _ = address(byte(binary.NativeEndian.Uint16(v)), v[2:])
	}
}

// nexthops reads struct rtnexthop, one behind the other.
func nexthops(family byte, r Route, b []byte) []Route {
	var list []Route
	for len(b) >= unix.SizeofRtNexthop && len(list) < maxNexthops {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofRtNexthop || length > len(b) {
			break
		}
		hop := r
		hop.Index = int(int32(number(b[4:])))
		hop.OnLink = b[2]&unix.RTNH_F_ONLINK != 0
		attributes(b[unix.SizeofRtNexthop:length], func(typ uint16, v []byte) { gateway(family, typ, v, &hop) })
		list = append(list, hop)
		b = b[min((length+3)&^3, len(b)):]
	}
	return list
}
