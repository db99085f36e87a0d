// Package firmware reads what the machine's firmware says about booting over a network: the iSCSI Boot Firmware Table
// (iBFT, ACPI 3.0b and Microsoft's iBFT 1.03) and the NVMe Boot Firmware Tables (NBFT, NVM Express Boot Specification
// 1.0, of which a machine may have several).
//
// It owns finding them (/sys/firmware/ibft of iscsi_ibft, /sys/firmware/acpi/tables) and parsing them, within bounds and
// without trust: an entry that makes no sense is left out and named in Table.Problems. It needs root, because the tables
// are readable for nobody else. It never changes anything, never logs in anywhere, and keeps CHAP secrets out of what it
// returns: CHAPSecrets reads them, into locked memory, where they are used.
package firmware

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"initd/hw/secret"
	"initd/hw/sysfs"
)

// Table is one boot firmware table. It holds no secret and marshals.
type Table struct {
	// Source is the table's name, as below /sys/firmware/acpi/tables: "iBFT", "NBFT", "NBFT1".
	Source     string      `json:"source"`
	Initiator  string      `json:"initiator,omitempty"` // iSCSI name of this machine
	HostNQN    string      `json:"hostNQN,omitempty"`   // NVMe name of this machine
	HostID     string      `json:"hostID,omitempty"`    // as a UUID in lower case
	NICs       []NIC       `json:"nics,omitempty"`
	Targets    []Target    `json:"targets,omitempty"`    // iSCSI
	Subsystems []Subsystem `json:"subsystems,omitempty"` // NVMe
	Discovery  []Discovery `json:"discovery,omitempty"`  // NVMe
	Security   []Security  `json:"security,omitempty"`   // NVMe
	// Problems are entries that were left out, and why.
	Problems []string `json:"problems,omitempty"`
}

// NIC is a network interface as the firmware used it.
type NIC struct {
	Index    int          `json:"index"` // by which targets and subsystems name it
	MAC      string       `json:"mac"`   // "52:54:00:00:00:01"
	VLAN     int          `json:"vlan,omitempty"`
	PCI      string       `json:"pci,omitempty"`     // "0000:00:04.0"
	Address  netip.Prefix `json:"address,omitzero"`  // not masked; invalid: none
	DHCP     bool         `json:"dhcp,omitempty"`    // the address is a lease
	Gateway  netip.Addr   `json:"gateway,omitzero"`  // invalid: none
	Default  bool         `json:"default,omitempty"` // Gateway leads to everywhere, not only to what this table names
	Metric   int          `json:"metric,omitempty"`  // of the route over Gateway
	DNS      []netip.Addr `json:"dns,omitempty"`     // at most two
	HostName string       `json:"hostName,omitempty"`
}

// Target is a logical unit of an iSCSI target.
type Target struct {
	Index  int            `json:"index"`
	Name   string         `json:"name"` // iqn.…, eui.…, naa.…
	Portal netip.AddrPort `json:"portal"`
	LUN    uint64         `json:"lun"`
	NIC    int            `json:"nic"` // index; -1: not in the table
	Boot   bool           `json:"boot,omitempty"`
	CHAP   *CHAP          `json:"chap,omitempty"`
}

// CHAP says that a login needs secrets, which CHAPSecrets reads.
type CHAP struct {
	User string `json:"user"`
	// Mutual: the target has to prove itself too, as ReverseUser.
	Mutual      bool   `json:"mutual,omitempty"`
	ReverseUser string `json:"reverseUser,omitempty"`
}

// Subsystem is one namespace of an NVMe subsystem at one address (SSNS descriptor).
type Subsystem struct {
	Index    int            `json:"index"`
	NQN      string         `json:"nqn"`
	Address  netip.AddrPort `json:"address"`
	NSID     uint32         `json:"nsid,omitempty"`
	NID      string         `json:"nid,omitempty"`      // as in sysfs' wwid: "eui.…" or "uuid.…"; empty: not given
	NICs     []int          `json:"nics"`               // indexes, the primary one first
	Security int            `json:"security,omitempty"` // index; 0: none
	Via      int            `json:"via,omitempty"`      // index of the discovery controller that led to it; 0: none

	HeaderDigest bool `json:"headerDigest,omitempty"`
	DataDigest   bool `json:"dataDigest,omitempty"`
	Discovered   bool `json:"discovered,omitempty"`  // by a discovery controller rather than by an administrator
	NonBootable  bool `json:"nonBootable,omitempty"` // the firmware's choice only: it is connected all the same
	Unavailable  bool `json:"unavailable,omitempty"` // the firmware did not reach it
}

// Discovery is a discovery controller.
type Discovery struct {
	Index    int    `json:"index"`
	URI      string `json:"uri"` // "nvme+tcp://192.0.2.1:8009/"
	NQN      string `json:"nqn,omitempty"`
	NIC      int    `json:"nic,omitempty"` // index; 0: none
	Security int    `json:"security,omitempty"`
}

// Security is a security profile of NVMe. Keys are not in it.
type Security struct {
	Index int `json:"index"`
	// InBand: the subsystem authenticates hosts (DH-HMAC-CHAP). Required: it refuses those that do not.
	InBand   bool `json:"inBand,omitempty"`
	Required bool `json:"required,omitempty"`
	// Channel: a secure channel (TLS) is supported; ChannelRequired: nothing else is.
	Channel         bool   `json:"channel,omitempty"`
	ChannelRequired bool   `json:"channelRequired,omitempty"`
	KeyPath         string `json:"keyPath,omitempty"` // URI of where the firmware keeps the key
}

// Places of the tables.
const (
	ibftFolder = "sys/firmware/ibft"
	acpiFolder = "sys/firmware/acpi/tables"
)

// maxTable bounds a table, in bytes; real ones have a few hundred.
const maxTable = 256 << 10

// maxTables bounds how many NBFTs are looked at.
const maxTables = 16

// Read returns the tables that there are: the iBFT, from iscsi_ibft or else from ACPI, and every NBFT. A table that cannot
// be read is part of the error, and the others are returned beside it; none at all is no error.
func Read(sys *sysfs.FS) ([]Table, error) {
	var list []Table
	var failed []error
	t, err := readIBFT(sys)
	switch {
	case err != nil:
		failed = append(failed, err)
	case t != nil:
		list = append(list, *t)
	}
	names, err := sys.Names(acpiFolder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		failed = append(failed, fmt.Errorf("list the firmware's tables: %w", err))
	}
	names = slices.DeleteFunc(names, func(n string) bool {
		return strings.TrimLeft(strings.TrimPrefix(n, "NBFT"), "0123456789") != "" || !strings.HasPrefix(n, "NBFT")
	})
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	for _, n := range names[:min(len(names), maxTables)] {
		b, err := sys.Bytes(acpiFolder+"/"+n, maxTable)
		if err == nil {
			t, err = ParseNBFT(b)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("read %s: %w", n, err))
			continue
		}
		t.Source = n
		list = append(list, *t)
	}
	return list, errors.Join(failed...)
}

// readIBFT prefers what the kernel has parsed: it also finds a table that lies in memory and in no list of ACPI's.
func readIBFT(sys *sysfs.FS) (*Table, error) {
	if sys.Exists(ibftFolder + "/initiator") {
		return readFolder(sys)
	}
	var t *Table
	err := withRaw(sys, func(raw []byte) (err error) {
		t, err = ParseIBFT(raw)
		return err
	})
	return t, err
}

// withRaw gives f the iBFT in locked memory, because the secrets are in it, and wipes that afterwards. Without a table f is
// not called.
func withRaw(sys *sysfs.FS, f func([]byte) error) error {
	for _, name := range []string{"iBFT", "IBFT"} {
		file := acpiFolder + "/" + name
		if !sys.Exists(file) {
			continue
		}
		raw, err := readSecret(sys, file, maxTable)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		defer raw.Destroy()
		if err := f(raw.Bytes()); err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		return nil
	}
	return nil
}

// readSecret reads a file without a copy in the heap.
func readSecret(sys *sysfs.FS, name string, limit int) (*secret.Buffer, error) {
	f, err := sys.File(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return secret.Read(f, limit)
}
