package firmware

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// The NBFT's structures (NVM Express Boot Specification 1.0, 1.4; libnvme's src/nvme/nbft.h). Each begins with its id.
const (
	nbftHeader  = 64
	nbftControl = 64 // its size; it follows the header

	idNBFTControl   = 1
	idNBFTHost      = 2
	idNBFTHFI       = 3
	idNBFTSSNS      = 4
	idNBFTSecurity  = 5
	idNBFTDiscovery = 6
	idNBFTTCP       = 7

	sizeNBFTHost      = 32
	sizeNBFTHFI       = 32
	sizeNBFTSSNS      = 128
	sizeNBFTSecurity  = 64
	sizeNBFTDiscovery = 32
	sizeNBFTTCP       = 128

	transportTCP = 3 // TRTYPE, NVMe-oF 1.1, figure 26

	hostIDConfigured  = 1 << 1
	hostNQNConfigured = 1 << 2

	tcpDefaultRoute = 1 << 1
	tcpDHCP         = 1 << 2

	ssnsNonBootable  = 1 << 0 << 1
	ssnsDiscovered   = 1 << 6
	ssnsAvailability = 3 << 7
	ssnsUnavailable  = 2 << 7
	ssnsHeaderDigest = 1 << 1
	ssnsDataDigest   = 1 << 2
	nidEUI64         = 1
	nidNGUID         = 2
	nidUUID          = 3
	securityInBand   = 3 << 1 // 1: supported, 2: required
	securityChannel  = 3 << 5 // 1: supported, 2: required
	policySupported  = 1
	policyRequired   = 2
	defaultPort      = 4420 // NVMe/TCP, 3.1.1
	nqnUUID          = "nqn.2014-08.org.nvmexpress:uuid:"
)

type nbft struct {
	b    []byte
	t    *Table
	heap [2]int // offset and length
}

// ParseNBFT reads a raw table. The result holds no part of b; its Source is NBFT.
func ParseNBFT(b []byte) (*Table, error) {
	b, err := acpiTable(b, "NBFT")
	if err != nil {
		return nil, err
	}
	control, ok := within(b, nbftHeader, nbftControl)
	switch {
	case !ok:
		return nil, fmt.Errorf("%w: it has no control structure", ErrTable)
	case b[8] != 1:
		return nil, fmt.Errorf("%w: its version is %d.%d, and 1.0 is known", ErrTable, b[8], b[50])
	case control[0] != idNBFTControl || control[6]&flagValid == 0:
		return nil, fmt.Errorf("%w: its control structure is not valid", ErrTable)
	}
	p := &nbft{b: b, t: &Table{Source: "NBFT"}, heap: [2]int{int(binary.LittleEndian.Uint32(b[36:])), int(binary.LittleEndian.Uint32(b[40:]))}}
	if _, ok := within(b, p.heap[0], p.heap[1]); !ok {
		return nil, fmt.Errorf("%w: its heap is not within it", ErrTable)
	}
	p.host(control)
	p.list("interface", control[16:], idNBFTHFI, sizeNBFTHFI, p.hfi)
	p.list("security profile", control[32:], idNBFTSecurity, sizeNBFTSecurity, p.security)
	p.list("discovery controller", control[40:], idNBFTDiscovery, sizeNBFTDiscovery, p.discovery)
	p.list("subsystem", control[24:], idNBFTSSNS, sizeNBFTSSNS, p.ssns)
	return p.t, nil
}

func (p *nbft) problem(format string, args ...any) {
	p.t.Problems = append(p.t.Problems, fmt.Sprintf(format, args...))
}

// object is what an offset and a length say, in the heap; nil if they say nothing.
func (p *nbft) object(b []byte) ([]byte, error) {
	offset, length := int(binary.LittleEndian.Uint32(b)), int(binary.LittleEndian.Uint16(b[4:]))
	if offset == 0 || length == 0 {
		return nil, nil
	}
	o, ok := within(p.b, offset, length)
	if !ok || offset < p.heap[0] || offset+length > p.heap[0]+p.heap[1] {
		return nil, fmt.Errorf("an object of %d bytes at %d is not within the heap", length, offset)
	}
	return o, nil
}

func (p *nbft) text(b []byte) (string, error) {
	o, err := p.object(b)
	if err != nil {
		return "", err
	}
	return textOf(o)
}

// list steps through structures by the length that the control structure gives them: a later version may add to them.
// where holds offset, length, a version, and their number.
func (p *nbft) list(what string, where []byte, id byte, least int, one func([]byte) error) {
	offset, size, count := int(binary.LittleEndian.Uint32(where)), int(binary.LittleEndian.Uint16(where[4:])), int(where[7])
	if count == 0 {
		return
	}
	if size < least {
		p.problem("the structures of a %s have %d bytes, not %d", what, size, least)
		return
	}
	for i := range count {
		b, ok := within(p.b, offset+i*size, size)
		if !ok {
			p.problem("%s %d is not within the table", what, i+1)
			return
		}
		if b[0] != id {
			continue // an empty place
		}
		if err := one(b); err != nil {
			p.problem("%s %d: %v", what, i+1, err)
		}
	}
}

func (p *nbft) host(control []byte) {
	b, err := p.object(control[8:])
	if err == nil && (len(b) < sizeNBFTHost || b[0] != idNBFTHost) {
		err = errors.New("it is not there")
	}
	if err != nil {
		p.problem("host: %v", err)
		return
	}
	if b[1]&flagValid == 0 {
		return
	}
	if b[1]&hostNQNConfigured != 0 {
		if p.t.HostNQN, err = p.text(b[18:]); err == nil {
			err = checkNQN(p.t.HostNQN)
		}
		if err != nil {
			p.t.HostNQN = ""
			p.problem("host: %v", err)
		}
	}
	if id := [16]byte(b[2:18]); b[1]&hostIDConfigured != 0 && id != [16]byte{} {
		p.t.HostID = hostID(id, p.t.HostNQN)
	}
}

// hostID writes an id as a UUID. The specification has it as 16 bytes, which libnvme prints in their order; firmware that
// took it from SMBIOS may have its first three fields swapped. An NQN that is made of the id says which of the two it is.
func hostID(b [16]byte, nqn string) string {
	swapped := b
	swapped[0], swapped[1], swapped[2], swapped[3] = b[3], b[2], b[1], b[0]
	swapped[4], swapped[5], swapped[6], swapped[7] = b[5], b[4], b[7], b[6]
	if strings.EqualFold(nqn, nqnUUID+uuid(swapped)) {
		return uuid(swapped)
	}
	return uuid(b)
}

func uuid(b [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// checkNQN asks for what the kernel does (NVMF_NQN_SIZE), and for the form of NVMe Base 2.0, 4.5.
func checkNQN(s string) error {
	switch {
	case s == "":
		return errors.New("the NQN is empty")
	case len(s) > 222 || !strings.HasPrefix(s, "nqn."):
		return fmt.Errorf("%q is no NQN", s)
	}
	return nil
}

func (p *nbft) hfi(b []byte) error {
	if b[2]&flagValid == 0 {
		return nil
	}
	if b[3] != transportTCP {
		return fmt.Errorf("its transport is %d, and only TCP (3) is known", b[3])
	}
	info, err := p.object(b[16:])
	if err != nil {
		return err
	}
	if len(info) < sizeNBFTTCP || info[0] != idNBFTTCP {
		return errors.New("it has no addresses")
	}
	if info[6]&flagValid == 0 {
		return nil
	}
	u16 := binary.LittleEndian.Uint16
	n := NIC{
		Index: int(b[1]), MAC: macOf(info[11:17]), PCI: pciOf(binary.LittleEndian.Uint32(info[7:])),
		DHCP: info[6]&tcpDHCP != 0 || info[19] == originDHCP || addressOf(info[88:104]).IsValid(), Gateway: addressOf(info[37:53]), Metric: int(u16(info[54:])),
		DNS: servers(addressOf(info[56:72]), addressOf(info[72:88])), Default: info[6]&tcpDefaultRoute != 0,
	}
	if n.VLAN, err = vlanOf(u16(info[17:])); err != nil {
		return err
	}
	if n.Address, err = prefixOf(addressOf(info[20:36]), int(info[36])); err != nil {
		return err
	}
	if n.MAC == "" {
		return orNoMAC(nil)
	}
	if n.HostName, err = p.text(info[104:]); err != nil {
		p.problem("interface %d: host name: %v", n.Index, err)
	}
	p.t.NICs = append(p.t.NICs, n)
	return nil
}

func (p *nbft) security(b []byte) error {
	flags := binary.LittleEndian.Uint16(b[2:])
	if flags&flagValid == 0 {
		return nil
	}
	inBand, channel := flags&securityInBand>>1, flags&securityChannel>>5
	s := Security{
		Index: int(b[1]), InBand: inBand == policySupported || inBand == policyRequired, Required: inBand == policyRequired,
		Channel: channel == policySupported || channel == policyRequired, ChannelRequired: channel == policyRequired,
	}
	var err error
	if s.KeyPath, err = p.text(b[36:]); err != nil {
		return fmt.Errorf("key path: %w", err)
	}
	p.t.Security = append(p.t.Security, s)
	return nil
}

func (p *nbft) discovery(b []byte) error {
	if b[1]&flagValid == 0 {
		return nil
	}
	d := Discovery{Index: int(b[2]), NIC: int(b[3]), Security: int(b[4])}
	var err error
	if d.URI, err = p.text(b[6:]); err != nil {
		return err
	}
	if d.NQN, err = p.text(b[12:]); err == nil && d.NQN != "" {
		err = checkNQN(d.NQN)
	}
	if err != nil {
		return err
	}
	if d.URI == "" {
		return errors.New("it has no address")
	}
	p.t.Discovery = append(p.t.Discovery, d)
	return nil
}

func (p *nbft) ssns(b []byte) error {
	u16 := binary.LittleEndian.Uint16
	flags := u16(b[3:])
	if flags&flagValid == 0 {
		return nil
	}
	if b[5] != transportTCP {
		return fmt.Errorf("its transport is %d, and only TCP (3) is known", b[5])
	}
	s := Subsystem{
		Index: int(u16(b[1:])), Via: int(b[8]), NSID: binary.LittleEndian.Uint32(b[24:]), Security: int(b[45]),
		HeaderDigest: u16(b[6:])&ssnsHeaderDigest != 0, DataDigest: u16(b[6:])&ssnsDataDigest != 0,
		Discovered: flags&ssnsDiscovered != 0, NonBootable: flags&ssnsNonBootable != 0,
		Unavailable: flags&ssnsAvailability == ssnsUnavailable,
		NID:         nidOf(b[28], [16]byte(b[29:45])),
	}
	if u16(b[6:])&flagValid == 0 {
		s.HeaderDigest, s.DataDigest = false, false
	}
	var err error
	if s.Address, err = p.portal(b); err != nil {
		return err
	}
	if s.NICs, err = p.interfaces(b); err != nil {
		return err
	}
	if s.NQN, err = p.text(b[54:]); err == nil {
		err = checkNQN(s.NQN)
	}
	if err != nil {
		return err
	}
	p.t.Subsystems = append(p.t.Subsystems, s)
	return nil
}

// portal reads the address, 16 bytes, and the port, a text.
func (p *nbft) portal(b []byte) (netip.AddrPort, error) {
	raw, err := p.object(b[10:])
	if err != nil {
		return netip.AddrPort{}, err
	}
	a := addressOf(raw)
	if !a.IsValid() || a.IsMulticast() {
		return netip.AddrPort{}, errors.New("it has no address")
	}
	service, err := p.text(b[16:])
	if err != nil {
		return netip.AddrPort{}, err
	}
	if service == "" {
		return netip.AddrPortFrom(a, defaultPort), nil
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil || port == 0 {
		return netip.AddrPort{}, fmt.Errorf("%q is no port", service)
	}
	return netip.AddrPortFrom(a, uint16(port)), nil
}

// interfaces are the primary one and those of the list, which may be empty.
func (p *nbft) interfaces(b []byte) ([]int, error) {
	more, err := p.object(b[48:])
	if err != nil {
		return nil, err
	}
	var list []int
	seen := [256]bool{0: true}
	for _, i := range append([]byte{b[46]}, more...) {
		if !seen[i] {
			seen[i] = true
			list = append(list, int(i))
		}
	}
	return list, nil
}

// nidOf names a namespace as the kernel's wwid attribute does (drivers/nvme/host/sysfs.c).
func nidOf(kind byte, id [16]byte) string {
	switch {
	case kind == nidEUI64 && [8]byte(id[:8]) != [8]byte{}:
		return fmt.Sprintf("eui.%x", id[:8])
	case kind == nidNGUID && id != [16]byte{}:
		return fmt.Sprintf("eui.%x", id)
	case kind == nidUUID && id != [16]byte{}:
		return "uuid." + uuid(id)
	}
	return ""
}
