package firmware

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"initd/hw/secret"
)

// The iBFT's structures (Microsoft, iBFT 1.03, 1.4; drivers/firmware/iscsi_ibft.c). All begin with a header of their id,
// version, length, index and flags.
const (
	ibftControl   = 48 // where it is: behind the header of ACPI and 12 reserved bytes
	ibftStructure = 6  // size of the header

	idControl    = 1
	idInitiator  = 2
	idNIC        = 3
	idTarget     = 4
	sizeControl  = 18
	sizeInit     = 74
	sizeNIC      = 102
	sizeTarget   = 54
	maxIBFTItems = 16 // the specification has two of each; the control structure has room for more (its expansion)

	flagValid = 1 << 0
	flagBoot  = 1 << 1

	originDHCP = 3 // IP_PREFIX_ORIGIN, as Windows' NL_PREFIX_ORIGIN

	chapNone   = 0
	chapMutual = 2
)

// ibft is a table whose header was checked.
type ibft struct {
	b []byte
	t *Table
}

// ParseIBFT reads a raw table. The result holds no part of b.
func ParseIBFT(b []byte) (*Table, error) {
	b, err := acpiTable(b, "iBFT")
	if err != nil {
		return nil, err
	}
	p := &ibft{b: b, t: &Table{Source: "iBFT"}}
	var targets []int
	for _, o := range p.structures() {
		switch id := p.b[o.at]; id {
		case idInitiator:
			p.initiator(o)
		case idNIC:
			p.nic(o)
		case idTarget:
			targets = append(targets, o.at)
			p.target(o)
		}
	}
	if len(targets) == 0 && len(p.t.NICs) == 0 && p.t.Initiator == "" {
		return nil, fmt.Errorf("%w: nothing in it is valid", ErrTable)
	}
	return p.t, nil
}

// structure is one that the control structure names.
type structure struct{ at, size int }

// structures lists those that are there and valid, in the order of the control structure: initiator, NIC 0, target 0,
// NIC 1, target 1, and what follows.
func (p *ibft) structures() []structure {
	size, ok := p.header(ibftControl, idControl, sizeControl)
	if !ok {
		return nil
	}
	var list []structure
	for at := ibftControl + 8; at+2 <= ibftControl+size && len(list) < maxIBFTItems; at += 2 {
		offset := int(binary.LittleEndian.Uint16(p.b[at:]))
		if offset == 0 {
			continue
		}
		head, ok := within(p.b, offset, ibftStructure)
		if !ok {
			p.problem("a structure at %d is not within the table", offset)
			continue
		}
		if head[5]&flagValid == 0 {
			continue
		}
		least := map[byte]int{idInitiator: sizeInit, idNIC: sizeNIC, idTarget: sizeTarget}[head[0]]
		if least == 0 {
			continue // an extension
		}
		if size, ok := p.header(offset, head[0], least); ok {
			list = append(list, structure{offset, size})
		}
	}
	return list
}

// header checks a structure's id and that all of it is there.
func (p *ibft) header(at int, id byte, least int) (size int, ok bool) {
	h, ok := within(p.b, at, ibftStructure)
	if !ok || h[0] != id {
		p.problem("there is no structure %d at %d", id, at)
		return 0, false
	}
	size = int(binary.LittleEndian.Uint16(h[2:]))
	if _, ok = within(p.b, at, size); !ok || size < least {
		p.problem("the structure %d at %d has %d bytes, not %d", id, at, size, least)
		return 0, false
	}
	return size, true
}

func (p *ibft) problem(format string, args ...any) {
	p.t.Problems = append(p.t.Problems, fmt.Sprintf(format, args...))
}

// text reads a length and an offset at a place of the table, and the text that they mean.
func (p *ibft) text(at int) (string, error) {
	b, err := p.raw(at)
	if err != nil {
		return "", err
	}
	return textOf(b)
}

func (p *ibft) raw(at int) ([]byte, error) {
	length, offset := int(binary.LittleEndian.Uint16(p.b[at:])), int(binary.LittleEndian.Uint16(p.b[at+2:]))
	if length == 0 || offset == 0 {
		return nil, nil
	}
	b, ok := within(p.b, offset, length)
	if !ok {
		return nil, fmt.Errorf("a text at %d with %d bytes is not within the table", offset, length)
	}
	return b, nil
}

func (p *ibft) initiator(s structure) {
	name, err := p.text(s.at + 70)
	if err != nil {
		p.problem("initiator: %v", err)
	}
	p.t.Initiator = name
}

func (p *ibft) nic(s structure) {
	b := p.b[s.at : s.at+s.size]
	n := NIC{
		Index: int(b[4]), MAC: macOf(b[90:96]), DHCP: b[23] == originDHCP || addressOf(b[72:88]).IsValid(),
		Gateway: addressOf(b[24:40]), Default: addressOf(b[24:40]).IsValid(), DNS: servers(addressOf(b[40:56]), addressOf(b[56:72])),
		PCI: pciOf(uint32(binary.LittleEndian.Uint16(b[96:]))),
	}
	var errs [3]error
	n.Address, errs[0] = prefixOf(addressOf(b[6:22]), int(b[22]))
	n.VLAN, errs[1] = vlanOf(binary.LittleEndian.Uint16(b[88:]))
	n.HostName, errs[2] = p.text(s.at + 98)
	if err := errors.Join(errs[:2]...); err != nil || n.MAC == "" {
		p.problem("NIC %d: %v", n.Index, orNoMAC(err))
		return
	}
	if errs[2] != nil {
		p.problem("NIC %d: host name: %v", n.Index, errs[2])
	}
	p.t.NICs = append(p.t.NICs, n)
}

func orNoMAC(err error) error {
	if err == nil {
		return errors.New("it has no hardware address")
	}
	return err
}

// pciOf is segment, bus, device and function.
func pciOf(sbdf uint32) string {
	if sbdf == 0 {
		return ""
	}
	return fmt.Sprintf("%04x:%02x:%02x.%d", sbdf>>16, sbdf>>8&0xff, sbdf>>3&0x1f, sbdf&7)
}

func (p *ibft) target(s structure) {
	b := p.b[s.at : s.at+s.size]
	t := Target{Index: int(b[4]), NIC: int(b[33]), Boot: b[5]&flagBoot != 0, LUN: lunOf([8]byte(b[24:32]))}
	var err error
	if t.Name, err = p.text(s.at + 34); err == nil {
		t.Portal = netip.AddrPortFrom(addressOf(b[6:22]), binary.LittleEndian.Uint16(b[22:]))
		t.CHAP, err = p.chap(s, b[32])
	}
	p.t.target(t, err)
}

// chap reads who logs in, and leaves the secrets where they are.
func (p *ibft) chap(s structure, kind byte) (*CHAP, error) {
	if kind == chapNone {
		return nil, nil
	}
	user, err := p.text(s.at + 38)
	if err != nil {
		return nil, fmt.Errorf("CHAP name: %w", err)
	}
	reverse, err := p.text(s.at + 46)
	if err != nil {
		return nil, fmt.Errorf("reverse CHAP name: %w", err)
	}
	return chapOf(int(kind), user, reverse)
}

// chapOf judges what both forms of the table say.
func chapOf(kind int, user, reverse string) (*CHAP, error) {
	switch {
	case kind == chapNone:
		return nil, nil
	case kind > chapMutual:
		return nil, fmt.Errorf("CHAP of type %d is not known", kind)
	case user == "":
		return nil, errors.New("it asks for CHAP and has no name for it")
	case kind == chapMutual:
		return &CHAP{User: user, Mutual: true, ReverseUser: reverse}, nil
	}
	return &CHAP{User: user}, nil
}

// target takes one in that both forms of the table have read.
func (t *Table) target(one Target, err error) {
	if one.Portal.Port() == 0 { // some leave it out
		one.Portal = netip.AddrPortFrom(one.Portal.Addr(), 3260)
	}
	switch {
	case err != nil:
	case one.Name == "":
		err = errors.New("it has no name")
	case !one.Portal.IsValid() || one.Portal.Addr().IsMulticast():
		err = errors.New("it has no address")
	}
	if err != nil {
		t.Problems = append(t.Problems, fmt.Sprintf("target %d: %v", one.Index, err))
		return
	}
	t.Targets = append(t.Targets, one)
}

// lunOf is the number of a logical unit as the kernel counts it (scsilun_to_int, drivers/scsi/scsi_common.c).
func lunOf(b [8]byte) uint64 {
	var lun uint64
	for i := 0; i < 8; i += 2 {
		lun |= (uint64(b[i])<<8 | uint64(b[i+1])) << (i * 8)
	}
	return lun
}

// secrets copies those of a target out of a raw table.
func (p *ibft) secrets(index int) (one, reverse *secret.Buffer, err error) {
	for _, s := range p.structures() {
		if p.b[s.at] != idTarget || int(p.b[s.at+4]) != index {
			continue
		}
		if one, err = p.secret(s.at + 42); err == nil {
			if reverse, err = p.secret(s.at + 50); err != nil {
				one.Destroy()
				one = nil
			}
		}
		return one, reverse, err
	}
	return nil, nil, fmt.Errorf("the iBFT has no target %d", index)
}

// secret is nil if there is none.
func (p *ibft) secret(at int) (*secret.Buffer, error) {
	b, err := p.raw(at)
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	if err != nil || len(b) == 0 {
		return nil, err
	}
	return secret.Copy(b)
}
