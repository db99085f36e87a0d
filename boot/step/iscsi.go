package step

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"initd/boot/appliance"
	"initd/boot/plan"
	"initd/hw/iscsi"
)

// iscsiSpec is the Spec of a unit of kind iscsi: a target's disks.
type iscsiSpec struct {
	Name   string    `json:"name"`
	Target string    `json:"target"`
	LUNs   []lunSpec `json:"luns"`
	// Multipath: a map stands above each LUN's disks; else there is one disk a LUN.
	Multipath bool   `json:"multipath,omitempty"`
	Active    string `json:"active,omitempty"`
}

// lunSpec is one disk.
type lunSpec struct {
	LUN  uint64 `json:"lun"`
	Name string `json:"name"`
}

// iscsiPathSpec is the Spec of a unit of kind iscsi-path: a session.
type iscsiPathSpec struct {
	Name string `json:"name"` // of the target, in the file
	// Config is the session; an empty initiator is this machine's name.
	Config iscsi.Config `json:"config"`
	CHAP   *chapSpec    `json:"chap,omitempty"`
	// Multipath names the maps that the disks of this session belong to.
	Multipath bool      `json:"multipath,omitempty"`
	LUNs      []lunSpec `json:"luns"`
	// Link is how the interface of Config is found, where the file calls it otherwise than the kernel.
	Link appliance.LinkMatch `json:"link,omitzero"`
}

// chapSpec says who this machine is; the secrets come as the keys of that name.
type chapSpec struct {
	User       string   `json:"user"`
	Key        string   `json:"key"`
	MutualUser string   `json:"mutualUser,omitempty"`
	MutualKey  string   `json:"mutualKey,omitempty"`
	Algorithms []string `json:"algorithms,omitempty"`
}

// Defaults of attempts: a login may take as long as a slow target needs, and a
// target that is away is tried for ever.
const (
	defaultLoginTime = 45 * time.Second
	multipathWait    = 5 // seconds of recovery-timeout, where another path can take over
)

func iscsiStep() Step {
	return Step{
		Kind:     plan.Kind{Name: "iscsi", Expand: expandISCSI},
		New:      newISCSIAction,
		Children: iscsiChildren(),
	}
}

func iscsiPathStep() Step {
	return Step{
		Kind: plan.Kind{Name: "iscsi-path", Expand: expandISCSIPaths},
		New:  newISCSIPathAction,
	}
}

// eachISCSI calls do for every target of the file.
func eachISCSI(x *plan.Expansion, do func(at string, i appliance.ISCSI)) {
	if x.Appliance.Fabrics == nil {
		return
	}
	for n, i := range x.Appliance.Fabrics.ISCSI {
		do(fmt.Sprintf("fabrics.iscsi[%d]", n), i)
	}
}

// iscsiModules are those of the kernel's iSCSI, and what CHAP computes with.
func iscsiModules() []string { return append(iscsi.Modules(), "md5", "sha1", "sha256") }

// iscsiKeyName is the name of a target's secret.
func iscsiKeyName(name string) string { return "iscsi/" + name }

// expandISCSIPaths: a portal becomes iscsi-path/NAME/HOST:PORT, which needs a
// way to it and, where there is CHAP, the secrets.
func expandISCSIPaths(x *plan.Expansion) {
	eachISCSI(x, func(at string, i appliance.ISCSI) {
		chap := chapOf(i)
		base := iscsiConfig(x, at, i)
		for n, p := range i.Portals {
			host, port, err := p.HostPort()
			if err != nil {
				continue // loading has said so
			}
			here := fmt.Sprintf("%s.portals[%d]", at, n)
			s := iscsiPathSpec{Name: i.Name, Config: base, CHAP: chap, Multipath: len(i.Portals) > 1, LUNs: lunsOf(i)}
			s.Config.Portal = iscsi.Portal{Host: host, Port: port, Tag: -1}
			s.Config.Interface, s.Config.Source = p.HostInterface, p.HostAddress
			s.Link = matchOfLink(x.Appliance.Network, p.HostInterface)
			where := net.JoinHostPort(host, strconv.Itoa(port))
			id := iscsiPathID(i.Name, where)
			u := plan.Unit{
				ID:       id,
				Stage:    plan.Fabrics,
				Needs:    []plan.Need{{AnyOf: []plan.Resource{plan.EndpointOver(p.HostInterface, p.HostAddress, where)}}},
				Provides: []plan.Resource{plan.Resource(id)},
				Batch:    "iscsi",
				Wants:    plan.Wants{Modules: iscsiModules()},
				Policy: x.Policy(i.Policy, plan.Policy{
					Deadline: plan.Duration(i.Options.LoginTimeout.Or(defaultLoginTime)),
					Retry:    plan.Retry{Initial: plan.Duration(time.Second), Max: plan.Duration(15 * time.Second), Factor: 2, Jitter: 0.1},
				}),
			}
			if _, err := netip.ParseAddr(host); err != nil {
				u.Needs = append(u.Needs, afterDNS(x.Appliance)...)
			}
			if chap != nil {
				u.Needs = append(u.Needs, plan.Need{AnyOf: []plan.Resource{keyResource(chap.Key)}})
				if chap.MutualKey != "" {
					u.Needs = append(u.Needs, plan.Need{AnyOf: []plan.Resource{keyResource(chap.MutualKey)}})
				}
			}
			x.Add(here, u, s)
		}
	})
}

func iscsiPathID(name, where string) string {
	return plan.ClassISCSIPath + "/" + name + "/" + where
}

// expandISCSI: a target becomes iscsi/NAME, which needs as many of its paths as
// the file says, and provides its disks.
func expandISCSI(x *plan.Expansion) {
	eachISCSI(x, func(at string, i appliance.ISCSI) {
		s := iscsiSpec{Name: i.Name, Target: i.Target, LUNs: lunsOf(i), Multipath: len(i.Portals) > 1, Active: i.Active}
		u := plan.Unit{
			ID:       plan.ClassISCSI + "/" + i.Name,
			Stage:    plan.Fabrics,
			Provides: []plan.Resource{plan.Resource(plan.ClassISCSI + "/" + i.Name)},
			OnLoss:   plan.LossReport,
			Policy: x.Policy(i.Policy, plan.Policy{
				Deadline: plan.Duration(time.Minute),
				Retry:    plan.Retry{Initial: plan.Duration(time.Second), Max: plan.Duration(15 * time.Second), Factor: 2, Jitter: 0.1},
			}),
		}
		if s.Multipath {
			u.Wants.Modules = []string{"dm-multipath", "dm-service-time"}
		}
		var paths []plan.Resource
		for _, p := range i.Portals {
			host, port, err := p.HostPort()
			if err != nil {
				continue
			}
			paths = append(paths, plan.Resource(iscsiPathID(i.Name, net.JoinHostPort(host, strconv.Itoa(port)))))
			for _, l := range s.LUNs {
				for _, n := range iscsi.Addresses(l.LUN) {
					if s.Multipath { // a leg must not be opened by what is on it
						u.Claims = append(u.Claims, plan.Resource(fmt.Sprintf("%s/path/ip-%s:%d-iscsi-%s-lun-%s", plan.ClassBlock, host, port, i.Target, lunPath(n))))
					}
				}
			}
		}
		u.Needs = []plan.Need{{AnyOf: paths, Min: max(i.MinPaths, 1)}}
		for _, l := range s.LUNs {
			u.Provides = append(u.Provides, iscsiDisk(i.Name, l.Name))
		}
		x.Add(at, u, s)
	})
}

func iscsiDisk(target, lun string) plan.Resource {
	return plan.Resource(plan.ClassISCSI + "/" + target + "/" + lun)
}

// lunPath is a LUN in udev's ID_PATH.
func lunPath(lun uint64) string {
	if lun < 256 {
		return strconv.FormatUint(lun, 10)
	}
	return fmt.Sprintf("0x%04x%04x00000000", lun&0xffff, lun>>16&0xffff)
}

func lunsOf(i appliance.ISCSI) []lunSpec {
	var list []lunSpec
	for _, l := range i.Disks() {
		list = append(list, lunSpec{LUN: uint64(l.LUN), Name: l.NameOr()})
	}
	return list
}

func chapOf(i appliance.ISCSI) *chapSpec {
	if i.CHAP == nil || !i.CHAP.Secret.Given() {
		return nil
	}
	c := &chapSpec{User: i.CHAP.User, Key: iscsiKeyName(i.Name), MutualUser: i.CHAP.MutualUser, Algorithms: i.CHAP.Algorithms}
	if i.CHAP.Mutual.Given() {
		c.MutualKey = c.Key + "/mutual"
	}
	return c
}

// addISCSIKeys adds the units that fetch the secrets of CHAP; on a key server
// they have the target's name, and that with -mutual behind it.
func addISCSIKeys(x *plan.Expansion, f *appliance.Fabrics) {
	for n, i := range f.ISCSI {
		if i.CHAP == nil {
			continue
		}
		at := fmt.Sprintf("fabrics.iscsi[%d].chap", n)
		addKey(x, at+".secret", iscsiKeyName(i.Name), i.Name, i.CHAP.Secret, i.Policy)
		addKey(x, at+".mutual", iscsiKeyName(i.Name)+"/mutual", i.Name+"-mutual", i.CHAP.Mutual, i.Policy)
	}
}

// iscsiConfig is what all sessions of a target have in common.
func iscsiConfig(x *plan.Expansion, at string, i appliance.ISCSI) iscsi.Config {
	c := iscsi.Config{Target: i.Target, Initiator: i.Initiator}
	for _, l := range i.Disks() {
		c.LUNs = append(c.LUNs, uint64(l.LUN))
	}
	o := i.Options
	set := func(key, value string) {
		if err := c.Set(key, value); err != nil {
			x.Fail(at+".options."+key, "", "%v", err)
		}
	}
	for _, t := range []struct{ key, value string }{{"header-digest", o.HeaderDigest}, {"data-digest", o.DataDigest}} {
		if t.value != "" {
			set(t.key, t.value)
		}
	}
	for _, t := range []struct {
		key   string
		value int
	}{{"max-recv", o.MaxRecv}, {"max-xmit", o.MaxXmit}, {"max-burst", o.MaxBurst}, {"first-burst", o.FirstBurst}, {"max-r2t", o.MaxR2T}, {"commands", o.Commands}, {"queue-depth", o.QueueDepth}} {
		if t.value > 0 {
			set(t.key, strconv.Itoa(t.value))
		}
	}
	for _, t := range []struct {
		key   string
		value *bool
	}{{"initial-r2t", o.InitialR2T}, {"immediate-data", o.ImmediateData}, {"fast-abort", o.FastAbort}} {
		if t.value != nil {
			set(t.key, strconv.FormatBool(*t.value))
		}
	}
	for _, t := range []struct {
		key   string
		value appliance.Duration
	}{{"time2wait", o.Time2Wait}, {"nop-interval", o.NopInterval}, {"nop-timeout", o.NopTimeout}, {"abort-timeout", o.AbortTimeout},
		{"lun-reset-timeout", o.LUNResetTimeout}, {"target-reset-timeout", o.TargetResetTimeout}} {
		if t.value > 0 {
			set(t.key, t.value.String())
		}
	}
	switch l := o.RecoveryTimeout; {
	case l.Given && l.Never:
		set("recovery-timeout", "never")
	case l.Given:
		set("recovery-timeout", l.After.String())
	case len(i.Portals) > 1:
		set("recovery-timeout", strconv.Itoa(multipathWait)+"s")
	}
	return c
}
