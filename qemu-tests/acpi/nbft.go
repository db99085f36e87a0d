package acpi

import (
	"net/netip"
	"strconv"
)

// NBFT is an NVMe Boot Firmware Table (NVM Express Boot Specification 1.0).
type NBFT struct {
	HostNQN    string
	HostID     [16]byte
	HFIs       []HFI
	Subsystems []SSNS
	Discovery  []DiscoveryController
	Security   []SecurityProfile
}

// HFI is a host fabric interface over TCP. Interfaces count from 1.
type HFI struct {
	MAC        string
	Address    netip.Prefix
	DHCP       bool
	DHCPServer netip.Addr
	VLAN       uint16
	Gateway    netip.Addr
	Default    bool // the gateway is the default route's
	Metric     uint16
	DNS        [2]netip.Addr
	HostName   string
	SBDF       uint32
}

// SSNS is a namespace of a subsystem at an address.
type SSNS struct {
	NQN         string
	Address     netip.AddrPort // port 0: none is named
	NSID        uint32
	UUID        [16]byte
	HFI         byte   // the primary one
	More        []byte // others
	Security    byte
	Via         byte // discovery controller
	Unavailable bool
	NonBootable bool
	HeaderDgst  bool
	DataDgst    bool
}

// DiscoveryController is one.
type DiscoveryController struct {
	URI, NQN      string
	HFI, Security byte
}

// SecurityProfile is one.
type SecurityProfile struct{ InBand, Channel byte } // 0 none, 1 supported, 2 required

// Bytes is the whole table: header, control, lists, heap.
func (t NBFT) Bytes() []byte {
	const header, control = 64, 64
	b := make([]byte, header+control)
	list := func(at, n, size int) int { // fills in one of the control structure's lists
		start := len(b)
		if n == 0 {
			return start
		}
		le.PutUint32(b[64+at:], uint32(start))
		le.PutUint16(b[64+at+4:], uint16(size))
		b[64+at+6], b[64+at+7] = 1, byte(n)
		b = append(b, make([]byte, n*size)...)
		return start
	}
	b[64], b[65], b[70] = 1, 1, 1
	le.PutUint16(b[68:], control)
	hfis := list(16, len(t.HFIs), 32)
	ssns := list(24, len(t.Subsystems), 128)
	security := list(32, len(t.Security), 64)
	discovery := list(40, len(t.Discovery), 32)
	heap := len(b)
	object := func(at int, content []byte) int { // a reference to what is put into the heap; 0 if there is nothing
		if len(content) == 0 {
			return 0
		}
		le.PutUint32(b[at:], uint32(len(b)))
		le.PutUint16(b[at+4:], uint16(len(content)))
		start := len(b)
		b = append(b, content...)
		b = append(b, 0)
		return start
	}
	at := object(64+8, append([]byte{2, 1}, make([]byte, 30)...))
	if t.HostID != [16]byte{} {
		b[at+1] |= 1 << 1
		copy(b[at+2:], t.HostID[:])
	}
	if t.HostNQN != "" {
		b[at+1] |= 1 << 2
		object(at+18, []byte(t.HostNQN))
	}
	for i, h := range t.HFIs {
		at := hfis + 32*i
		b[at], b[at+1], b[at+2], b[at+3] = 3, byte(i+1), 1, 3
		info := object(at+16, append([]byte{7, 1}, make([]byte, 126)...))
		h.fill(b[info:info+128], byte(i+1))
		object(info+104, []byte(h.HostName))
	}
	for i, s := range t.Subsystems {
		s.fill(b[ssns+128*i:ssns+128*(i+1)], uint16(i+1))
		at := ssns + 128*i
		object(at+10, ip(s.Address.Addr()))
		if s.Address.Port() != 0 {
			object(at+16, []byte(strconv.Itoa(int(s.Address.Port()))))
		}
		object(at+48, s.More)
		object(at+54, []byte(s.NQN))
	}
	for i, s := range t.Security {
		at := security + 64*i
		b[at], b[at+1] = 5, byte(i+1)
		le.PutUint16(b[at+2:], 1|uint16(s.InBand)<<1|uint16(s.Channel)<<5)
	}
	for i, d := range t.Discovery {
		at := discovery + 32*i
		b[at], b[at+1], b[at+2], b[at+3], b[at+4] = 6, 1, byte(i+1), d.HFI, d.Security
		object(at+6, []byte(d.URI))
		object(at+12, []byte(d.NQN))
	}
	le.PutUint32(b[36:], uint32(heap))
	le.PutUint32(b[40:], uint32(len(b)-heap))
	return seal("NBFT", b)
}

func (h HFI) fill(info []byte, index byte) {
	info[4], info[6] = index, 1
	if h.Default {
		info[6] |= 1 << 1
	}
	if h.DHCP {
		info[6] |= 1 << 2
		info[19] = 3
	}
	le.PutUint32(info[7:], h.SBDF)
	copy(info[11:], mac(h.MAC))
	le.PutUint16(info[17:], h.VLAN)
	copy(info[20:], ip(h.Address.Addr()))
	info[36] = byte(max(h.Address.Bits(), 0))
	copy(info[37:], ip(h.Gateway))
	le.PutUint16(info[54:], h.Metric)
	copy(info[56:], ip(h.DNS[0]))
	copy(info[72:], ip(h.DNS[1]))
	copy(info[88:], ip(h.DHCPServer))
}

func (s SSNS) fill(b []byte, index uint16) {
	b[0] = 4
	le.PutUint16(b[1:], index)
	flags := uint16(1)
	if s.NonBootable {
		flags |= 1 << 1
	}
	if s.Via != 0 {
		flags |= 1 << 6
	}
	if s.Unavailable {
		flags |= 2 << 7
	} else {
		flags |= 1 << 7
	}
	le.PutUint16(b[3:], flags)
	b[5] = 3
	transport := uint16(1)
	if s.HeaderDgst {
		transport |= 1 << 1
	}
	if s.DataDgst {
		transport |= 1 << 2
	}
	le.PutUint16(b[6:], transport)
	b[8] = s.Via
	le.PutUint16(b[22:], 1)
	le.PutUint32(b[24:], s.NSID)
	if s.UUID != [16]byte{} {
		b[28] = 3
		copy(b[29:], s.UUID[:])
	}
	b[45], b[46] = s.Security, s.HFI
}
