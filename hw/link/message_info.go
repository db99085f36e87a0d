package link

import (
	"encoding/binary"
	"net"

	"golang.org/x/sys/unix"
)

// Attributes of IFLA_INFO_DATA and IFLA_INFO_SLAVE_DATA (include/uapi/linux/if_link.h).
const (
	iflaVLANID       = 1
	iflaVLANProtocol = 5

	iflaBondMode        = 1
	iflaBondActiveSlave = 2
	iflaBondADInfo      = 23

	iflaBondADInfoPartnerMAC = 5

	iflaBondSlaveState      = 1
	iflaBondSlavePermanent  = 4
	iflaBondSlaveAggregator = 6

	iflaBridgeForwardDelay = 1
	iflaBridgeSTPState     = 5
	iflaBridgePort         = 1 // IFLA_BRPORT_STATE
)

// Values of them.
const (
	BondModeActiveBackup = 1 // BOND_MODE_ACTIVEBACKUP (include/uapi/linux/if_bonding.h)
	BondMode8023AD       = 4 // BOND_MODE_8023AD

	bondSlaveBackup  = 1 // BOND_STATE_BACKUP
	bridgeForwarding = 3 // BR_STATE_FORWARDING (include/uapi/linux/if_bridge.h)
	noPartner        = "00:00:00:00:00:00"
	iflaInet6Flags   = 1    // IFLA_INET6_FLAGS
	ifRAOtherConf    = 0x80 // IF_RA_OTHERCONF (include/net/if_inet6.h)
	ifRAManaged      = 0x40 // IF_RA_MANAGED
	ifRAReceived     = 0x20 // IF_RA_RCVD
)

// parseInfo reads IFLA_LINKINFO: what a virtual interface is, and how it stands as a part of another one. Both are told by
// their kinds, which may follow in any order.
func parseInfo(i *Interface, b []byte) {
	var data, slave []byte
	attributes(b, func(typ uint16, v []byte) {
		switch typ {
		case unix.IFLA_INFO_KIND:
			i.Kind = text(v)
		case unix.IFLA_INFO_DATA:
			data = v
		case unix.IFLA_INFO_SLAVE_KIND:
			i.Port.Kind = text(v)
		case unix.IFLA_INFO_SLAVE_DATA:
			slave = v
		}
	})
	attributes(data, func(typ uint16, v []byte) {
		switch {
		case i.Kind == "vlan" && typ == iflaVLANID && len(v) >= 2:
			i.VLAN.ID = int(binary.NativeEndian.Uint16(v))
		case i.Kind == "vlan" && typ == iflaVLANProtocol && len(v) >= 2:
			i.VLAN.Protocol = binary.BigEndian.Uint16(v)
		case i.Kind == "bond" && typ == iflaBondMode && len(v) >= 1:
			i.Bond.Mode = int(v[0])
		case i.Kind == "bond" && typ == iflaBondActiveSlave:
			i.Bond.Active = int(number(v))
		case i.Kind == "bond" && typ == iflaBondADInfo:
			attributes(v, func(typ uint16, v []byte) {
				if mac := net.HardwareAddr(v).String(); typ == iflaBondADInfoPartnerMAC && mac != noPartner {
					i.Bond.Partner = mac
				}
			})
		case i.Kind == "bridge" && typ == iflaBridgeSTPState:
			i.STP = number(v) != 0
		}
	})
	attributes(slave, func(typ uint16, v []byte) {
		switch {
		case len(v) == 0:
		case i.Port.Kind == "bond" && typ == iflaBondSlaveState:
			i.Port.Backup = v[0] == bondSlaveBackup
		case i.Port.Kind == "bond" && typ == iflaBondSlavePermanent && i.Permanent == "":
			i.Permanent = net.HardwareAddr(v).String()
		case i.Port.Kind == "bond" && typ == iflaBondSlaveAggregator && len(v) >= 2:
			i.Port.Aggregator = int(binary.NativeEndian.Uint16(v))
		case i.Port.Kind == "bridge" && typ == iflaBridgePort:
			i.Port.Blocked = v[0] != bridgeForwarding
		}
	})
}

// parseRouters reads a message of IPv6 about an interface (inet6_fill_ifinfo, net/ipv6/addrconf.c): the flags of the last
// router advertisement. Only Index and Flags6 of the result are set.
func parseRouters(b []byte) (Interface, bool) {
	if len(b) < unix.SizeofIfInfomsg || b[0] != unix.AF_INET6 {
		return Interface{}, false
	}
	i := Interface{Index: int(int32(number(b[4:])))}
	ok := false
	attributes(b[unix.SizeofIfInfomsg:], func(typ uint16, v []byte) {
		if typ == unix.IFLA_PROTINFO {
			attributes(v, func(typ uint16, v []byte) {
				if typ == iflaInet6Flags && len(v) >= 4 {
					i.Flags6, ok = number(v)&(ifRAReceived|ifRAManaged|ifRAOtherConf), true
				}
			})
		}
	})
	return i, ok && i.Index > 0
}
