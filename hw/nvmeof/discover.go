package nvmeof

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"initd/hw/sysfs"
)

// Bounds of what is followed of referrals: a target may refer to itself, or to others that refer back.
const (
	maxReferralDepth = 8
	maxPortals       = 64
)

// Discoverer asks discovery controllers.
type Discoverer struct {
	// Request is what every portal is asked with: host, options, secrets. Its target is filled in.
	Request Request
	// Referrals are followed if true.
	Referrals bool
	// Look finds out whether a portal answers, before the kernel is sent there; nil: Probe.
	Look func(ctx context.Context, t Target, o Options) error
	// Ask reads the log at one portal; nil: by the kernel.
	Ask func(ctx context.Context, r Request) (Log, error)
}

// Found is what one portal said.
type Found struct {
	Portal netip.AddrPort `json:"portal"`
	// Via is the portal that referred to it, if one did.
	Via netip.AddrPort `json:"via,omitzero"`
	Log Log            `json:"log"`
	Err error          `json:"-"`
}

// Run asks the portals, and those that they refer to, each once. One that fails keeps no other back.
func (d Discoverer) Run(ctx context.Context, portals []Target) []Found {
	type question struct {
		to    Target
		via   netip.AddrPort
		depth int
	}
	var todo []question
	for _, p := range portals {
		todo = append(todo, question{to: p})
	}
	asked := map[netip.AddrPort]bool{}
	var list []Found
	for len(todo) > 0 && len(list) < maxPortals {
		q := todo[0]
		todo = todo[1:]
		if asked[q.to.Addr] {
			continue
		}
		asked[q.to.Addr] = true
		f := Found{Portal: q.to.Addr, Via: q.via, Log: Log{Entries: []LogEntry{}}}
		if f.Log, f.Err = d.ask(ctx, q.to); f.Err == nil && d.Referrals && q.depth < maxReferralDepth {
			for _, e := range f.Log.Entries {
				if e.Kind != KindReferral {
					continue
				}
				if to, err := e.Target(); err == nil {
					to.HostAddr, to.HostIface = q.to.HostAddr, q.to.HostIface
					if to.HostAddr.IsValid() && to.Check() != nil {
						to.HostAddr = netip.Addr{} // of the other family
					}
					todo = append(todo, question{to: to, via: q.to.Addr, depth: q.depth + 1})
				}
			}
		}
		list = append(list, f)
	}
	return list
}

func (d Discoverer) ask(ctx context.Context, t Target) (Log, error) {
	r := d.Request
	r.Target = t
	look, ask := d.Look, d.Ask
	if look == nil {
		look = Probe
	}
	if ask == nil {
		ask = askKernel
	}
	if err := look(ctx, t, r.Options); err != nil {
		return Log{Entries: []LogEntry{}}, err
	}
	l, err := ask(ctx, r)
	if l.Entries == nil {
		l.Entries = []LogEntry{}
	}
	return l, err
}

// askKernel takes a discovery controller that is there, or makes one for the question.
func askKernel(_ context.Context, r Request) (Log, error) {
	f, err := sysfs.Open("/")
	if err != nil {
		return Log{}, err
	}
	defer f.Close()
	if c, ok := Adopt(f, r.Target, r.Host); ok && c.State == StateLive {
		return DiscoveryLog(c.Name)
	}
	name, err := Connect(r)
	if err != nil {
		return Log{}, err
	}
	l, err := DiscoveryLog(name)
	return l, errors.Join(err, Disconnect("/", name))
}

// Subsystems gathers the ways to each subsystem with disks that the portals listed, each way once, in a stable order. problems are
// entries that cannot be used, in words.
func Subsystems(found []Found, from Target) (list []Target, problems []string) {
	seen := map[Target]bool{}
	for _, f := range found {
		for _, e := range f.Log.Entries {
			if e.Kind != KindNVM {
				continue
			}
			t, err := e.Target()
			if err != nil {
				problems = append(problems, err.Error())
				continue
			}
			t.HostAddr, t.HostIface = from.HostAddr, from.HostIface
			if t.HostAddr.IsValid() && t.Check() != nil {
				t.HostAddr = netip.Addr{}
			}
			if e.TLS != "" {
				problems = append(problems, fmt.Sprintf("%s: the target asks for TLS there", t))
			}
			if !seen[t] {
				seen[t] = true
				list = append(list, t)
			}
		}
	}
	slices.SortFunc(list, func(a, b Target) int {
		return cmp.Or(cmp.Compare(a.NQN, b.NQN), a.Addr.Compare(b.Addr))
	})
	return list, problems
}
