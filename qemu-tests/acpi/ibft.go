package acpi

import "net/netip"

// IBFT is an iSCSI Boot Firmware Table (Microsoft, iBFT 1.03).
type IBFT struct {
	Initiator string
	NICs      []IBFTNIC    // at most two
	Targets   []IBFTTarget // at most two
}

// IBFTNIC is its interface.
type IBFTNIC struct {
	MAC          string
	Address      netip.Prefix
	DHCP, Off    bool // Off: not valid
	VLAN         uint16
	Gateway      netip.Addr
	DNS          [2]netip.Addr
	DHCPServer   netip.Addr
	HostName     string
	BusDeviceFun uint16
}

// IBFTTarget is its target.
type IBFTTarget struct {
	Portal  netip.AddrPort
	Name    string
	LUN     byte
	NIC     byte
	Off     bool // not valid
	User    string
	Secret  string
	Reverse string // user of mutual CHAP
	RSecret string
}

// Bytes is the whole table. Each structure stands on a multiple of 8, texts follow the structures.
func (t IBFT) Bytes() []byte {
	b := make([]byte, 48, 1024)
	grow := func(n int) int { // returns where n bytes begin
		for len(b)%8 != 0 {
			b = append(b, 0)
		}
		at := len(b)
		b = append(b, make([]byte, n)...)
		return at
	}
	head := func(at int, id byte, size int, index byte, flags byte) {
		b[at], b[at+1] = id, 1
		le.PutUint16(b[at+2:], uint16(size))
		b[at+4], b[at+5] = index, flags
	}
	const valid, boot, firmwareBoot = 1, 2, 2
	control := grow(18)
	head(control, 1, 18, 0, 0)
	initiator := grow(74)
	head(initiator, 2, 74, 0, valid|firmwareBoot)
	le.PutUint16(b[control+8:], uint16(initiator))
	nics, targets := []int{}, []int{}
	for i, n := range t.NICs {
		at := grow(102)
		nics = append(nics, at)
		le.PutUint16(b[control+10+4*i:], uint16(at))
		head(at, 3, 102, byte(i), valid|boot)
		if n.Off {
			b[at+5] = 0
		}
	}
	for i, g := range t.Targets {
		at := grow(54)
		targets = append(targets, at)
		le.PutUint16(b[control+12+4*i:], uint16(at))
		head(at, 4, 54, byte(i), valid|boot)
		if g.Off {
			b[at+5] = 0
		}
	}
	text := func(at int, s string) { // a length and an offset
		if s == "" {
			return
		}
		le.PutUint16(b[at:], uint16(len(s)))
		le.PutUint16(b[at+2:], uint16(len(b)))
		b = append(append(b, s...), 0)
	}
	text(initiator+70, t.Initiator)
	for i, n := range t.NICs {
		at := nics[i]
		copy(b[at+6:], ip(n.Address.Addr()))
		b[at+22] = byte(max(n.Address.Bits(), 0))
		b[at+23] = 1 // by hand
		if n.DHCP {
			b[at+23] = 3
		}
		copy(b[at+24:], ip(n.Gateway))
		copy(b[at+40:], ip(n.DNS[0]))
		copy(b[at+56:], ip(n.DNS[1]))
		copy(b[at+72:], ip(n.DHCPServer))
		le.PutUint16(b[at+88:], n.VLAN)
		copy(b[at+90:], mac(n.MAC))
		le.PutUint16(b[at+96:], n.BusDeviceFun)
		text(at+98, n.HostName)
	}
	for i, g := range t.Targets {
		at := targets[i]
		copy(b[at+6:], ip(g.Portal.Addr()))
		le.PutUint16(b[at+22:], g.Portal.Port())
		b[at+25] = g.LUN
		switch {
		case g.Reverse != "":
			b[at+32] = 2
		case g.User != "":
			b[at+32] = 1
		}
		b[at+33] = g.NIC
		text(at+34, g.Name)
		text(at+38, g.User)
		text(at+42, g.Secret)
		text(at+46, g.Reverse)
		text(at+50, g.RSecret)
	}
	return seal("iBFT", b)
}
