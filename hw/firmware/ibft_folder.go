package firmware

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strconv"
	"strings"

	"initd/hw/secret"
	"initd/hw/sysfs"
)

// folder is one object of iscsi_ibft (drivers/firmware/iscsi_ibft.c, drivers/scsi/iscsi_boot_sysfs.c). An attribute that is
// unset is not there.
type folder struct {
	sys  *sysfs.FS
	path string
}

func (d folder) text(name string) (string, error) {
	s, err := d.sys.String(d.path + "/" + name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return textOf([]byte(s))
}

// number is one of at most 16 bits, as all of the table's are.
func (d folder) number(name string) (int, error) {
	s, err := d.text(name)
	if s == "" || err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%s: %q is no number", name, s)
	}
	return int(n), nil
}

func (d folder) address(name string) (netip.Addr, error) {
	s, err := d.text(name)
	if s == "" || err != nil {
		return netip.Addr{}, err
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%s: %q is no address", name, s)
	}
	b := a.As16()
	return addressOf(b[:]), nil
}

// readFolder reads what the kernel made of the table.
func readFolder(sys *sysfs.FS) (*Table, error) {
	names, err := sys.Names(ibftFolder)
	if err != nil {
		return nil, fmt.Errorf("read iBFT: %w", err)
	}
	t := &Table{Source: "iBFT"}
	for _, n := range names[:min(len(names), 2*maxIBFTItems)] {
		d := folder{sys, ibftFolder + "/" + n}
		flags, err := d.number("flags")
		switch {
		case err != nil:
			t.Problems = append(t.Problems, n+": "+err.Error())
		case flags&flagValid == 0 && d.sys.Exists(d.path+"/flags"):
		case n == "initiator":
			if t.Initiator, err = d.text("initiator-name"); err != nil {
				t.Problems = append(t.Problems, n+": "+err.Error())
			}
		case strings.HasPrefix(n, "ethernet"):
			nic, err := d.nic()
			if err != nil {
				t.Problems = append(t.Problems, n+": "+err.Error())
				continue
			}
			t.NICs = append(t.NICs, nic)
		case strings.HasPrefix(n, "target"):
			t.target(d.target(flags))
		}
	}
	return t, nil
}

func (d folder) nic() (NIC, error) {
	var n NIC
	var a [5]netip.Addr
	var origin, bits int
	mac := ""
	errs := []error{
		set(&n.Index, d.number, "index"), set(&n.VLAN, d.number, "vlan"), set(&origin, d.number, "origin"), set(&bits, d.number, "prefix-len"),
		set(&a[0], d.address, "ip-addr"), set(&a[1], d.address, "gateway"), set(&a[2], d.address, "primary-dns"),
		set(&a[3], d.address, "secondary-dns"), set(&a[4], d.address, "dhcp"), set(&mac, d.text, "mac"), set(&n.HostName, d.text, "hostname"),
	}
	if err := errors.Join(errs...); err != nil {
		return n, err
	}
	if bits == 0 && a[0].IsValid() { // before 3.12 there is the mask alone
		mask, err := d.address("subnet-mask")
		if err != nil || !mask.Is4() {
			return n, fmt.Errorf("%s has no prefix length", a[0])
		}
		bits = maskBits(mask)
	}
	hw, err := parseMAC(mac)
	if err != nil {
		return n, err
	}
	n.MAC, n.DHCP, n.Gateway, n.Default, n.DNS = hw, origin == originDHCP || a[4].IsValid(), a[1], a[1].IsValid(), servers(a[2], a[3])
	if n.VLAN, err = vlanOf(uint16(n.VLAN)); err != nil {
		return n, err
	}
	// A table that names no device leads to the first there is: 0 is a place too.
	if dev, err := d.sys.LinkBase(d.path + "/device"); err == nil && dev != "0000:00:00.0" {
		n.PCI = dev
	}
	n.Address, err = prefixOf(a[0], bits)
	return n, err
}

func set[T any](to *T, from func(string) (T, error), name string) (err error) {
	*to, err = from(name)
	return err
}

func maskBits(mask netip.Addr) int {
	n := 0
	for _, b := range mask.As4() {
		for ; b&0x80 != 0; b <<= 1 {
			n++
		}
	}
	return n
}

func parseMAC(s string) (string, error) {
	var b []byte
	for _, part := range strings.Split(s, ":") {
		v, err := strconv.ParseUint(part, 16, 8)
		if err != nil {
			return "", fmt.Errorf("%q is no hardware address", s)
		}
		b = append(b, byte(v))
	}
	if mac := macOf(b); mac != "" {
		return mac, nil
	}
	return "", fmt.Errorf("%q is no hardware address", s)
}

func (d folder) target(flags int) (Target, error) {
	t := Target{NIC: -1, Boot: flags&flagBoot != 0}
	var addr netip.Addr
	var port, kind int
	var lun, user, reverse string
	err := errors.Join(
		set(&t.Index, d.number, "index"), set(&addr, d.address, "ip-addr"), set(&port, d.number, "port"),
		set(&lun, d.text, "lun"), set(&t.Name, d.text, "target-name"), set(&kind, d.number, "chap-type"),
		set(&user, d.text, "chap-name"), set(&reverse, d.text, "rev-chap-name"),
	)
	if err != nil {
		return t, err
	}
	if d.sys.Exists(d.path + "/nic-assoc") {
		if t.NIC, err = d.number("nic-assoc"); err != nil {
			return t, err
		}
	}
	t.Portal = netip.AddrPortFrom(addr, uint16(port))
	if t.LUN, err = lunText(lun); err != nil {
		return t, err
	}
	t.CHAP, err = chapOf(kind, user, reverse)
	return t, err
}

// lunText reads eight bytes as the kernel prints them: in hexadecimal without leading zeros (LUN 1 is 01000000), which is
// ambiguous where some have two digits. All but the first two are zero in a LUN of one level (SAM-5, 4.7.4), and the first
// is zero or says flat space (0x40 to 0x7f).
func lunText(s string) (uint64, error) {
	if s == "" {
		return 0, nil
	}
	first, ok := strings.CutSuffix(s, "000000")
	if !ok || len(first) < 2 || len(first) > 4 {
		return 0, fmt.Errorf("lun: %q has more than one level", s)
	}
	cut := 1
	if len(first) == 4 || len(first) == 3 && first[0] >= '4' && first[0] <= '7' {
		cut = 2
	}
	high, err1 := strconv.ParseUint(first[:cut], 16, 8)
	low, err2 := strconv.ParseUint(first[cut:], 16, 8)
	if err := errors.Join(err1, err2); err != nil {
		return 0, fmt.Errorf("lun: %q is no number", s)
	}
	return lunOf([8]byte{byte(high), byte(low)}), nil
}

// CHAPSecrets reads the secrets of the iBFT's target with this index, for a process that has called
// secret.ProtectProcess: the target is shown secret, and has to show reverse; nil where the table has none. The caller
// destroys them.
func CHAPSecrets(sys *sysfs.FS, index int) (one, reverse *secret.Buffer, err error) {
	if sys.Exists(ibftFolder + "/initiator") {
		return folderSecrets(sys, index)
	}
	found := false
	err = withRaw(sys, func(raw []byte) error {
		found = true
		b, err := acpiTable(raw, "iBFT")
		if err == nil {
			one, reverse, err = (&ibft{b: b, t: &Table{}}).secrets(index)
		}
		return err
	})
	if err == nil && !found {
		err = errors.New("there is no iBFT")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("CHAP secret of the iBFT's target %d: %w", index, err)
	}
	return one, reverse, nil
}

func folderSecrets(sys *sysfs.FS, index int) (one, reverse *secret.Buffer, err error) {
	names, err := sys.Names(ibftFolder)
	if err != nil {
		return nil, nil, fmt.Errorf("CHAP secret of the iBFT's target %d: %w", index, err)
	}
	for _, n := range names[:min(len(names), 2*maxIBFTItems)] {
		d := folder{sys, ibftFolder + "/" + n}
		if i, err := d.number("index"); !strings.HasPrefix(n, "target") || err != nil || i != index {
			continue
		}
		if one, err = d.secret("chap-secret"); err == nil {
			if reverse, err = d.secret("rev-chap-name-secret"); err == nil {
				return one, reverse, nil
			}
		}
		one.Destroy()
		return nil, nil, fmt.Errorf("CHAP secret of the iBFT's target %d: %w", index, err)
	}
	return nil, nil, fmt.Errorf("CHAP secret of the iBFT's target %d: there is no such target", index)
}

// secret reads an attribute without the newline that the kernel adds; nil if it is not there.
func (d folder) secret(name string) (*secret.Buffer, error) {
	if !d.sys.Exists(d.path + "/" + name) {
		return nil, nil
	}
	b, err := readSecret(d.sys, d.path+"/"+name, maxText)
	if err != nil {
		return nil, err
	}
	if end := b.Len() - 1; end > 0 && b.Bytes()[end] == '\n' {
		defer b.Destroy()
		return secret.From(b.Bytes()[:end])
	}
	return b, nil
}
