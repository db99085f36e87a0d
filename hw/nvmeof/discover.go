package nvmeof

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

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

	ending sync.WaitGroup
	mu     sync.Mutex
	failed error // guarded by mu until ending is over
}

// Found is what one portal said.
type Found struct {
	Portal netip.AddrPort `json:"portal"`
	// Via is the portal that referred to it, if one did.
	Via netip.AddrPort `json:"via,omitzero"`
	Log Log            `json:"log"`
	Err error          `json:"-"`
}

// question is a portal to ask.
type question struct {
	to  Target
	via netip.AddrPort
}

// Run asks the portals, and those that they refer to, each once. One that fails keeps no other back; those of one round
// are looked at together. Connections that were made for it may end after it: see Wait.
func (d *Discoverer) Run(ctx context.Context, portals []Target) []Found {
	var round []question
	for _, p := range portals {
		round = append(round, question{to: p})
	}
	asked := map[netip.AddrPort]bool{}
	var list []Found
	for depth := 0; len(round) > 0 && depth <= maxReferralDepth; depth++ {
		round = slices.DeleteFunc(round, func(q question) bool {
			was := asked[q.to.Addr]
			asked[q.to.Addr] = true
			return was
		})
		round = round[:min(len(round), maxPortals-len(list))]
		answers := d.round(ctx, round)
		list = append(list, answers...)
		var next []question
		for i, f := range answers {
			if d.Referrals && f.Err == nil {
				next = append(next, referrals(f, round[i].to)...)
			}
		}
		round = next
	}
	return list
}

func (d *Discoverer) round(ctx context.Context, round []question) []Found {
	answers := make([]Found, len(round))
	var wg sync.WaitGroup
	for i, q := range round {
		wg.Go(func() {
			f := Found{Portal: q.to.Addr, Via: q.via}
			f.Log, f.Err = d.ask(ctx, q.to)
			if f.Log.Entries == nil {
				f.Log.Entries = []LogEntry{}
			}
			answers[i] = f
		})
	}
	wg.Wait()
	return answers
}

// referrals are the portals that an answer names, from where this one was asked.
func referrals(f Found, from Target) []question {
	var list []question
	for _, e := range f.Log.Entries {
		if e.Kind != KindReferral {
			continue
		}
		if to, err := e.Target(); err == nil {
			list = append(list, question{to: from.elsewhere(to), via: f.Portal})
		}
	}
	return list
}

// elsewhere is to, reached from where t is; an address of the other family is left out.
func (t Target) elsewhere(to Target) Target {
	to.HostAddr, to.HostIface = t.HostAddr, t.HostIface
	if to.HostAddr.IsValid() && to.Check() != nil {
		to.HostAddr = netip.Addr{}
	}
	return to
}

func (d *Discoverer) ask(ctx context.Context, t Target) (Log, error) {
	r := d.Request
	r.Target = t
	look, ask := d.Look, d.Ask
	if look == nil {
		look = Probe
	}
	if ask == nil {
		ask = d.askKernel
	}
	if err := look(ctx, t, r.Options); err != nil {
		return Log{}, err
	}
	return ask(ctx, r)
}

// askKernel takes a discovery controller that is there, or makes one for the question.
func (d *Discoverer) askKernel(_ context.Context, r Request) (Log, error) {
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
	d.ending.Go(func() {
		if err := Disconnect("/", name); err != nil {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.failed = errors.Join(d.failed, err)
		}
	})
	return l, err
}

// Wait returns when the connections that were made for questions are gone: taking one away takes the kernel a while, in which
// others may be made.
func (d *Discoverer) Wait() error {
	d.ending.Wait()
	return d.failed
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
			t = from.elsewhere(t)
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
