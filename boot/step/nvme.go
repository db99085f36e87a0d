package step

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"initd/boot/appliance"
	"initd/boot/plan"
	"initd/hw/nvmeof"
)

// nvmeSpec is the Spec of a unit of kind nvme.
type nvmeSpec struct {
	Name string `json:"name"`
	// Subsystem is empty where everything that discovery lists is wanted.
	Subsystem string          `json:"subsystem,omitempty"`
	Paths     []nvmeof.Target `json:"paths,omitempty"`
	Discovery []nvmeof.Target `json:"discovery,omitempty"` // with the common NQN
	MinPaths  int             `json:"minPaths"`
	Options   nvmeof.Options  `json:"options"`
	IOPolicy  string          `json:"ioPolicy,omitempty"`
	// Keyring is the name of one with a key for TLS.
	Keyring string `json:"keyring,omitempty"`
	// Secret and CtrlSecret are names in the KeyStore.
	Secret     string      `json:"secret,omitempty"`
	CtrlSecret string      `json:"ctrlSecret,omitempty"`
	Host       nvmeof.Host `json:"host,omitzero"` // zero: this machine's own
	// Links are how the interfaces of paths are found that the file calls otherwise than the kernel.
	Links map[string]appliance.LinkMatch `json:"links,omitempty"`
}

// here is s with the kernel's names of the interfaces; those that are not there
// yet keep the file's.
func (s nvmeSpec) here() nvmeSpec {
	if len(s.Links) == 0 {
		return s
	}
	name := func(list []nvmeof.Target) []nvmeof.Target {
		list = slices.Clone(list)
		for i := range list {
			if kernel, err := kernelLink(list[i].HostIface, s.Links[list[i].HostIface]); err == nil {
				list[i].HostIface = kernel
			}
		}
		return list
	}
	s.Paths, s.Discovery = name(s.Paths), name(s.Discovery)
	return s
}

func nvmeStep() Step {
	return Step{
		Kind:     plan.Kind{Name: "nvme", Expand: expandNVMe},
		New:      newNVMeAction,
		Children: map[string]ChildFunc{"nvme-connect": Takes(connectNVMe), "nvme-log": Takes(readNVMeLog)},
	}
}

func nvmeID(name string) string { return plan.ClassNVMe + "/" + name }

// nvmeSecret and nvmeCtrlSecret name a subsystem's secrets in the KeyStore.
func nvmeSecret(name string) string     { return nvmeID(name) }
func nvmeCtrlSecret(name string) string { return nvmeID(name) + "/controller" }

// expandNVMe: a subsystem becomes nvme/NAME, which needs a way to as many of
// its portals as have to be up, and its secrets.
func expandNVMe(x *plan.Expansion) {
	if x.Appliance.Fabrics == nil {
		return
	}
	for i, n := range x.Appliance.Fabrics.NVMe {
		at := fmt.Sprintf("fabrics.nvme[%d]", i)
		s := nvmeSpec{
			Name: n.Name, Subsystem: n.Subsystem, MinPaths: max(n.MinPaths, 1), Options: nvmeOptions(n), IOPolicy: n.Options.IOPolicy,
			Host:  nvmeof.Host{NQN: n.HostNQN, ID: strings.ToLower(n.HostID)},
			Paths: nvmeTargets(n.Subsystem, n.Paths, appliance.NVMePort), Discovery: nvmeTargets(nvmeof.DiscoveryNQN, n.Discovery, appliance.NVMeDiscoveryPort),
		}
		if n.TLS != nil {
			s.Keyring = n.TLS.Keyring
		}
		for _, p := range slices.Concat(n.Paths, n.Discovery) {
			if m := matchOfLink(x.Appliance.Network, p.HostInterface); !m.Zero() {
				if s.Links == nil {
					s.Links = map[string]appliance.LinkMatch{}
				}
				s.Links[p.HostInterface] = m
			}
		}
		least := 1
		var way []plan.Resource
		for _, t := range s.Discovery {
			way = append(way, wayOf(t))
		}
		for _, t := range s.Paths {
			least = s.MinPaths
			way = append(way, wayOf(t))
		}
		slices.Sort(way)
		way = slices.Compact(way) // one portal by two interfaces
		u := plan.Unit{
			ID: nvmeID(n.Name), Stage: plan.Fabrics, Batch: plan.ClassNVMe,
			Needs:    []plan.Need{{AnyOf: way, Min: min(least, len(way))}},
			Provides: []plan.Resource{plan.Resource(nvmeID(n.Name))},
			Wants:    plan.Wants{Modules: nvmeModules(n)},
			Policy: x.Policy(n.Policy, plan.Policy{
				Deadline: plan.Duration(time.Minute),
				Retry:    plan.Retry{Initial: plan.Duration(time.Second), Max: plan.Duration(15 * time.Second), Factor: 2, Jitter: 0.1},
			}),
		}
		if n.DHCHAP != nil {
			s.Secret = nvmeSecret(n.Name)
			u.Needs = append(u.Needs, plan.Need{AnyOf: []plan.Resource{keyResource(s.Secret)}})
			if n.DHCHAP.ControllerSecret.Given() {
				s.CtrlSecret = nvmeCtrlSecret(n.Name)
				u.Needs = append(u.Needs, plan.Need{AnyOf: []plan.Resource{keyResource(s.CtrlSecret)}})
			}
		}
		x.Add(at, u, s)
	}
}

// addNVMeKeys: the secrets of DH-HMAC-CHAP are keys as those of media are.
func addNVMeKeys(x *plan.Expansion, f *appliance.Fabrics) {
	for i, n := range f.NVMe {
		if n.DHCHAP == nil {
			continue
		}
		at := fmt.Sprintf("fabrics.nvme[%d].dhchap", i)
		addKey(x, at+".secret", nvmeSecret(n.Name), n.Name, n.DHCHAP.Secret, n.Policy)
		addKey(x, at+".controller-secret", nvmeCtrlSecret(n.Name), n.Name+"-controller", n.DHCHAP.ControllerSecret, n.Policy)
	}
}

// nvmeOptions lays what the file says over the options of a disk that must
// never fail.
func nvmeOptions(n appliance.NVMe) nvmeof.Options {
	o, said := nvmeof.Steadfast(), n.Options
	o.Queues, o.QueueSize = said.Queues, said.QueueSize
	o.KeepAlive = said.KeepAlive.Or(o.KeepAlive)
	o.ReconnectDelay = said.ReconnectDelay.Or(o.ReconnectDelay)
	if l := said.CtrlLoss; l.Given && !l.Never {
		o.CtrlLoss = time.Duration(l.After)
	}
	if l := said.FastIOFail; l.Given && !l.Never {
		o.FastIOFail = time.Duration(l.After)
	}
	o.HeaderDigest, o.DataDigest, o.TLS = said.HeaderDigest, said.DataDigest, n.TLS != nil
	return o
}

func nvmeTargets(nqn string, paths []appliance.NVMePath, port uint16) []nvmeof.Target {
	var list []nvmeof.Target
	for _, p := range paths {
		a, err := p.AddrPort(port)
		if err != nil {
			continue // loading has reported it
		}
		t := nvmeof.Target{NQN: nqn, Addr: a, HostIface: p.HostInterface}
		if p.HostAddress != "" {
			t.HostAddr = parseAddr(p.HostAddress)
		}
		list = append(list, t)
	}
	return list
}

// wayOf is the way to a portal, from where the file says.
func wayOf(t nvmeof.Target) plan.Resource {
	from := ""
	if t.HostAddr.IsValid() {
		from = t.HostAddr.String()
	}
	return plan.EndpointOver(t.HostIface, from, t.Addr.String())
}

// nvmeModules: a kernel's own crypto may be built in, or come by these names.
func nvmeModules(n appliance.NVMe) []string {
	list := []string{"nvme-tcp", "nvme-fabrics"}
	if n.Options.HeaderDigest || n.Options.DataDigest {
		list = append(list, "crypto-crc32c")
	}
	if n.DHCHAP != nil {
		list = append(list, "crypto-hmac", "crypto-sha256", "crypto-sha384", "crypto-sha512", "crypto-dh")
	}
	if n.TLS != nil {
		list = append(list, "tls")
	}
	return list
}

// nvmeDiskSpec is the Spec of a unit of kind nvme-disk.
type nvmeDiskSpec struct {
	Subsystem string `json:"subsystem"`
	NSID      int    `json:"nsid"`
}

func nvmeDiskStep() Step {
	return Step{
		Kind: plan.Kind{Name: "nvme-disk", Expand: func(*plan.Expansion) {}, Provide: provideNVMeDisk},
		New:  newNVMeDiskAction,
	}
}

// provideNVMeDisk: a namespace that something names becomes nvme/NAME/NSID, which
// needs its subsystem.
func provideNVMeDisk(x *plan.Expansion, r plan.Resource) bool {
	name, number, ok := strings.Cut(r.Name(), "/")
	if r.Class() != plan.ClassNVMe || !ok || x.Appliance.Fabrics == nil {
		return false
	}
	for i, n := range x.Appliance.Fabrics.NVMe {
		if n.Name != name {
			continue
		}
		at := fmt.Sprintf("fabrics.nvme[%d]", i)
		nsid, err := strconv.ParseUint(number, 10, 32)
		switch {
		case err != nil || nsid == 0 || strconv.FormatUint(nsid, 10) != number:
			x.Fail(x.Named(r, at), fmt.Sprintf("write nvme/%s/1 for its namespace 1", name), "%s: %q is no number of a namespace", r, number)
			return true
		case n.Subsystem == "":
			x.Fail(x.Named(r, at), "name the disk by what it is (id/nvme-uuid.…; initd nvme list shows it), or give nvme/"+name+" a subsystem",
				"%s: %s is everything that discovery lists, so its namespaces have no numbers of their own", r, name)
			return true
		}
		x.Add(at, plan.Unit{
			ID: string(r), Stage: plan.Fabrics,
			Needs:    []plan.Need{{AnyOf: []plan.Resource{plan.Resource(nvmeID(name))}}},
			Provides: []plan.Resource{r},
			OnLoss:   plan.LossRecheck,
			Policy: x.Policy(n.Policy, plan.Policy{
				Deadline: plan.Duration(30 * time.Second),
				Retry:    plan.Retry{Initial: plan.Duration(time.Second), Max: plan.Duration(15 * time.Second), Factor: 2, Jitter: 0.1},
			}),
		}, nvmeDiskSpec{Subsystem: n.Subsystem, NSID: int(nsid)})
		return true
	}
	return false
}
