package deploy

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// Disk is the disk that is meant: a LUN of an iSCSI target by its path, or a device of this machine by name and what it has to be.
type Disk struct {
	// Portal is IP or IP:PORT, IQN the target's name, ByPath the name below /dev/disk/by-path: ip-IP:PORT-iscsi-IQN-lun-N.
	Portal, IQN, ByPath string
	// Device is a node below /dev instead.
	Device string
	// WWID, if not empty, has to be the disk's.
	WWID string
}

// String is how the disk was asked for.
func (d Disk) String() string {
	if d.Device != "" {
		return d.Device
	}
	return d.ByPath
}

// ISCSI is what a by-path name says.
type ISCSI struct {
	// Address is the persistent one of the portal, Port its port.
	Address string
	Port    uint16
	IQN     string
	// LUN is the number as sysfs shows it.
	LUN uint64
}

// udev writes a LUN above 255 as 0x and 16 digits (path_id's format_lun_number).
const byPathRule = `^ip-(.+):([0-9]{1,5})-iscsi-((?:iqn\.|eui\.|naa\.).+)-lun-(0x[0-9a-f]{16}|[0-9]{1,3})$`

// ParseByPath reads the name of an iSCSI disk below /dev/disk/by-path, with or without that directory.
func ParseByPath(name string) (ISCSI, error) {
	name = strings.TrimPrefix(name, byPathDir)
	m := regexp.MustCompile(byPathRule).FindStringSubmatch(name)
	if m == nil {
		if strings.Contains(name, "-part") {
			return ISCSI{}, fmt.Errorf("%s: a partition, and an image becomes a whole disk", name)
		}
		return ISCSI{}, fmt.Errorf("%s: not of the form ip-ADDRESS:PORT-iscsi-IQN-lun-N", name)
	}
	port, err := strconv.ParseUint(m[2], 10, 16)
	if err != nil || port == 0 {
		return ISCSI{}, fmt.Errorf("%s: %s is no port", name, m[2])
	}
	addr, err := netip.ParseAddr(strings.Trim(m[1], "[]"))
	if err != nil {
		return ISCSI{}, fmt.Errorf("%s: %s is no address", name, m[1])
	}
	lun, err := strconv.ParseUint(m[4], 0, 64)
	if err != nil {
		return ISCSI{}, fmt.Errorf("%s: %s is no LUN", name, m[4])
	}
	if strings.HasPrefix(m[4], "0x") {
		lun = wireLUN(lun)
	}
	return ISCSI{Address: addr.String(), Port: uint16(port), IQN: m[3], LUN: lun}, nil
}

// wireLUN turns the eight bytes of a LUN (SAM-5, 4.7) into the number that the kernel gives it: int_to_scsilun backwards.
func wireLUN(wire uint64) uint64 {
	return wire>>48&0xffff | wire>>32&0xffff<<16 | wire>>16&0xffff<<32 | wire&0xffff<<48
}

const byPathDir = "/dev/disk/by-path/"

// Check holds the parts of a request against each other, before anything is opened.
func (d *Disk) Check() error {
	if d.Device != "" {
		if d.ByPath != "" || d.IQN != "" || d.Portal != "" {
			return errors.New("deploy: give a device or an iSCSI target, not both")
		}
		if !strings.HasPrefix(d.Device, "/dev/") {
			return fmt.Errorf("deploy: %s is no device: it does not lie below /dev", d.Device)
		}
		return nil
	}
	d.ByPath = strings.TrimPrefix(d.ByPath, byPathDir)
	said, err := ParseByPath(d.ByPath)
	if err != nil {
		return fmt.Errorf("deploy: %w", err)
	}
	wrong := func(what, a, b string) error {
		return &Error{Kind: WrongDisk, Disk: d.ByPath, What: fmt.Sprintf("the %s is %s, and the path says %s", what, a, b), Do: "one of them is mistaken: nothing was touched"}
	}
	if d.IQN != "" && d.IQN != said.IQN {
		return wrong("target", d.IQN, said.IQN)
	}
	d.IQN = said.IQN
	if d.Portal != "" {
		address, port, err := parsePortal(d.Portal)
		if err != nil {
			return err
		}
		if address != said.Address || port != said.Port {
			return wrong("portal", fmt.Sprintf("%s port %d", address, port), fmt.Sprintf("%s port %d", said.Address, said.Port))
		}
	}
	return nil
}

// iscsi is what the path says; Check has been called.
func (d Disk) iscsi() ISCSI {
	said, _ := ParseByPath(d.ByPath)
	return said
}

func parsePortal(s string) (address string, port uint16, err error) {
	if at, err := netip.ParseAddrPort(s); err == nil {
		return at.Addr().String(), at.Port(), nil
	}
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return a.String(), 3260, nil
	}
	return "", 0, fmt.Errorf("deploy: the portal %q is no IP address, nor one with a port", s)
}
