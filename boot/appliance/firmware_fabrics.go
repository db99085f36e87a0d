package appliance

import (
	"fmt"
	"slices"
	"strings"
)

// fabrics is the section as it is so far, to be changed.
func (m *firmwareMerge) fabrics() *Fabrics {
	var f Fabrics
	if m.a.Fabrics != nil {
		f = *m.a.Fabrics
	}
	f.NVMe, f.ISCSI = slices.Clip(f.NVMe), slices.Clip(f.ISCSI)
	m.a.Fabrics = &f
	return &f
}

// nvme adds a subsystem, unless the file has it.
func (m *firmwareMerge) nvme(from string, f FirmwareNVMe) {
	if m.file.Fabrics != nil {
		for _, own := range m.file.Fabrics.NVMe {
			if f.NQN != "" && own.Subsystem == f.NQN {
				m.note("%s: subsystem %s is left to this file's nvme/%s", from, f.NQN, own.Name)
				return
			}
		}
	}
	if f.Authenticates {
		m.note("%s: subsystem %s asks for DH-HMAC-CHAP, and the table holds no secret: write it into the file, with dhchap", from, f.NQN)
	}
	fabrics := m.fabrics()
	var paths []NVMePath
	for _, p := range f.Paths {
		paths = append(paths, NVMePath{firmwareWay("tcp://"+p.Address.String(), p.From)})
	}
	for i := range fabrics.NVMe {
		if o := &fabrics.NVMe[i]; f.NQN != "" && o.Subsystem == f.NQN { // another table's
			for _, p := range paths {
				if !slices.ContainsFunc(o.Paths, func(q NVMePath) bool { return q == p }) {
					o.Paths = append(slices.Clip(o.Paths), p)
				}
			}
			return
		}
	}
	name := fmt.Sprintf("%s-%d", strings.ToLower(from), f.Index)
	for slices.ContainsFunc(fabrics.NVMe, func(o NVMe) bool { return o.Name == name }) {
		name += "-fw"
	}
	one := NVMe{Name: name, Subsystem: f.NQN, HostNQN: f.HostNQN, HostID: f.HostID}
	one.Options.HeaderDigest, one.Options.DataDigest = f.HeaderDigest, f.DataDigest
	if f.TLS {
		one.TLS = &NVMeTLS{}
		m.note("%s: subsystem %s takes connections by TLS only: its key has to be in a keyring, and tlshd has to run", from, f.NQN)
	}
	if one.Paths = paths; f.NQN == "" {
		one.Paths, one.Discovery = nil, paths
	}
	m.origin(fmt.Sprintf("fabrics.nvme[%d]", len(fabrics.NVMe)), from)
	fabrics.NVMe = append(fabrics.NVMe, one)
}

// maxSingleLUN is the last LUN of one level with flat space addressing (SAM-5, 4.7.4).
const maxSingleLUN = 16383

// FirmwareSecret names a CHAP secret of the firmware in a KeySource's File: no
// path, so that no file can say it.
const FirmwareSecret = "firmware:"

// iscsi adds a target, unless the file has it. Its secrets stay in the table
// until they are used.
func (m *firmwareMerge) iscsi(from string, f FirmwareISCSI) {
	if m.file.Fabrics != nil {
		for _, own := range m.file.Fabrics.ISCSI {
			if own.Target == f.Target {
				m.note("%s: target %s is left to this file's iscsi/%s", from, f.Target, own.Name)
				return
			}
		}
	}
	fabrics := m.fabrics()
	name := fmt.Sprintf("%s-%d", strings.ToLower(from), f.Index)
	for slices.ContainsFunc(fabrics.ISCSI, func(o ISCSI) bool { return o.Name == name }) {
		name += "-fw"
	}
	one := ISCSI{Name: name, Target: f.Target, Initiator: f.Initiator}
	for _, p := range f.Portals {
		one.Portals = append(one.Portals, ISCSIPortal{firmwareWay(p.Address.String(), p.From)})
	}
	for _, l := range f.LUNs {
		if l > maxSingleLUN {
			m.note("%s: LUN %#x of target %s is left out: it has more than one level", from, l, f.Target)
			continue
		}
		one.LUNs = append(one.LUNs, ISCSILUN{LUN: int(l)})
	}
	if f.User != "" {
		secret := fmt.Sprintf("%s%s/%d", FirmwareSecret, from, f.Index)
		one.CHAP = &ISCSICHAP{User: f.User, Secret: KeySource{File: secret}}
		if f.Mutual {
			one.CHAP.MutualUser, one.CHAP.Mutual = f.Reverse, KeySource{File: secret + "/reverse"}
		}
	}
	m.origin(fmt.Sprintf("fabrics.iscsi[%d]", len(fabrics.ISCSI)), from)
	fabrics.ISCSI = append(fabrics.ISCSI, one)
}
