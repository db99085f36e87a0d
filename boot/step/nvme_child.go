package step

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"initd/boot/engine"
	"initd/hw/nvmeof"
	"initd/hw/secret"
	"initd/hw/sysfs"
)

// connectNVMe is the child nvme-connect: it looks at all portals at once, and
// connects those that answer one after another, as the kernel does it anyway:
// first paths first. Each result is told as soon as it is there.
func connectNVMe(ctx context.Context, in *ChildInput, c nvmeCall) (any, error) {
	if err := protect(); err != nil {
		return nil, err
	}
	f, err := sysfs.Open("/")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	host, from, err := nvmeof.Identity{Sys: f, Dirs: c.Identity, Keep: c.Keep}.Find()
	if err != nil && from == "" {
		return nil, &ChildError{CodeText: "NVME-OPTION", Message: err.Error(), HintText: "mend the file, or remove it: then the machine's own UUID is taken"}
	}
	q := newNVMeQueue(len(c.Jobs))
	looks := &nvmeof.Looks{}
	for i, j := range c.Jobs {
		go func() {
			look, cancel := context.WithTimeout(ctx, c.Patience) // of the first at its portal
			defer cancel()
			err := looks.Probe(look, j.Target, j.Options)
			if err != nil { // told at once: the kernel may be busy with another for a minute
				in.Tell(ChildProgress{Index: i, Done: true, Error: nvmeError(err)})
			}
			q.looked(i, j.Rank, err)
		}()
	}
	for range c.Jobs {
		i, err := q.next()
		if err != nil {
			continue
		}
		j, as := c.Jobs[i], host
		if j.Host != (nvmeof.Host{}) {
			as = j.Host
		}
		m := ChildProgress{Index: i, Done: true}
		name, err := j.connect(f, as, in)
		if err != nil {
			m.Error = nvmeError(err)
		} else if m.Result, err = json.Marshal(name); err != nil {
			return nil, err
		}
		in.Tell(m)
	}
	return nil, nil
}

// nvmeQueue orders paths that were looked at: first those that answer, of
// these first paths first.
type nvmeQueue struct {
	mu    sync.Mutex
	more  *sync.Cond
	ready []nvmeLook // guarded by mu
}

type nvmeLook struct {
	index, rank int
	err         error
}

func newNVMeQueue(n int) *nvmeQueue {
	q := &nvmeQueue{ready: make([]nvmeLook, 0, n)}
	q.more = sync.NewCond(&q.mu)
	return q
}

func (q *nvmeQueue) looked(index, rank int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ready = append(q.ready, nvmeLook{index, rank, err})
	q.more.Signal()
}

// next waits for one. What failed goes first: it costs nothing.
func (q *nvmeQueue) next() (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.ready) == 0 {
		q.more.Wait()
	}
	best := 0
	for i, l := range q.ready {
		if b := q.ready[best]; b.err == nil && (l.err != nil || l.rank < b.rank) {
			best = i
		}
	}
	l := q.ready[best]
	q.ready = slices.Delete(q.ready, best, best+1)
	return l.index, l.err
}

// connect makes the connection, or finds that it is there.
func (j nvmeJob) connect(f *sysfs.FS, host nvmeof.Host, in *ChildInput) (string, error) {
	if c, ok := nvmeof.Adopt(f, j.Target, j.Host); ok {
		return c.Name, nil
	}
	r := nvmeof.Request{Target: j.Target, Host: host, Options: j.Options, Lasting: j.Lasting}
	if j.Keyring != "" {
		id, err := nvmeof.Keyring(j.Keyring)
		if err != nil {
			return "", &nvmeof.ConnectError{Target: j.Target, Reason: nvmeof.NoPSK, Detail: err.Error()}
		}
		r.Options.Keyring = id
	}
	var err error
	if r.Secret, err = j.secret(f, in, j.NeedSecret, j.Secret, "dhchap_secret"); err != nil {
		return "", err
	}
	defer r.Secret.Destroy()
	if r.CtrlSecret, err = j.secret(f, in, j.NeedCtrlSecret, j.CtrlSecret, "dhchap_ctrl_secret"); err != nil {
		return "", err
	}
	defer r.CtrlSecret.Destroy()
	name, err := nvmeof.Connect(r)
	if refused := (*nvmeof.ConnectError)(nil); errors.As(err, &refused) && refused.Reason == nvmeof.Exists {
		if c, ok := nvmeof.Adopt(f, j.Target, j.Host); ok {
			return c.Name, nil // somebody was quicker
		}
	}
	if err != nil {
		return "", err
	}
	if err := nvmeof.SetOwner("/", name, nvmeof.Us); err != nil {
		in.Tell(ChildProgress{Index: -1, Progress: &engine.Progress{Note: err.Error()}})
	}
	if j.IOPolicy == "" || j.Target.Discovery() {
		return name, nil
	}
	if s, ok := nvmeof.Find(f, j.Target.NQN); ok && s.IOPolicy != j.IOPolicy {
		if err := nvmeof.SetIOPolicy("/", s.Name, j.IOPolicy); err != nil {
			in.Tell(ChildProgress{Index: -1, Progress: &engine.Progress{Note: err.Error()}})
		}
	}
	return name, nil
}

// secret reads the secret from the descriptor at, or else, where this process
// was given none, from a connection to the same subsystem: the kernel shows root
// what it was told.
func (j nvmeJob) secret(f *sysfs.FS, in *ChildInput, need bool, at int, attribute string) (*secret.Buffer, error) {
	if !need || j.Target.Discovery() {
		return nil, nil
	}
	if at > 0 && at <= len(in.Files) {
		b, err := secret.Open(in.Files[at-1], maxKeyFile)
		if err == nil {
			_, err = nvmeof.CheckSecret(b)
		}
		return b, err
	}
	if s, ok := nvmeof.Find(f, j.Target.NQN); ok {
		for _, c := range s.Controllers {
			file, err := os.Open(filepath.Join("/sys/class/nvme", filepath.Base(c.Name), attribute))
			if err != nil {
				continue
			}
			b, err := secret.Read(file, 4096)
			file.Close()
			if err == nil {
				if _, err = nvmeof.CheckSecret(b); err == nil {
					return b, nil
				}
				b.Destroy()
			}
		}
	}
	return nil, &ChildError{CodeText: "KEY-GONE", Message: "its secret is not here any more", ObjectText: j.Target.NQN,
		HintText: "fetch it again: initd retry key/nvme/…, or give it by hand: initd keys unlock nvme/…"}
}

// nvmeError is what the report shows of a path; its target stands elsewhere.
func nvmeError(err error) *ChildError {
	c := AsChildError(err)
	if e := (*nvmeof.ConnectError)(nil); errors.As(err, &e) {
		c.Message = e.Why()
	}
	return c
}

// nvmeLogCall is what the child nvme-log is given: a discovery controller, and
// how to ask those that it refers to.
type nvmeLogCall struct {
	Controller string         `json:"controller"`
	Asked      nvmeof.Target  `json:"asked"`
	Options    nvmeof.Options `json:"options"`
	Host       nvmeof.Host    `json:"host,omitzero"`
	Identity   []string       `json:"identity"`
	Patience   time.Duration  `json:"patience"`
}

// nvmeListed is what the child found.
type nvmeListed struct {
	Targets  []nvmeof.Target `json:"targets"`
	Problems []string        `json:"problems,omitempty"`
}

// readNVMeLog is the child nvme-log.
func readNVMeLog(ctx context.Context, _ *ChildInput, c nvmeLogCall) (any, error) {
	log, err := nvmeof.DiscoveryLog(c.Controller)
	if err != nil {
		return nil, err
	}
	found := []nvmeof.Found{{Portal: c.Asked.Addr, Log: log}}
	var referrals []nvmeof.Target
	for _, e := range log.Entries {
		if to, err := e.Target(); err == nil && e.Kind == nvmeof.KindReferral && to.Addr != c.Asked.Addr {
			referrals = append(referrals, to)
		}
	}
	var problems []string
	if len(referrals) > 0 {
		more, err := c.refer(ctx, referrals)
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
		for _, f := range more {
			if f.Err != nil {
				problems = append(problems, fmt.Sprintf("referral to %s: %v", f.Portal, f.Err))
			}
		}
	}
	targets, bad := nvmeof.Subsystems(found, c.Asked)
	return nvmeListed{Targets: targets, Problems: append(problems, bad...)}, nil
}

func (c nvmeLogCall) refer(ctx context.Context, to []nvmeof.Target) ([]nvmeof.Found, error) {
	f, err := sysfs.Open("/")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	host := c.Host
	if host == (nvmeof.Host{}) {
		if host, _, err = (nvmeof.Identity{Sys: f, Dirs: c.Identity, Keep: c.Identity[0]}).Find(); err != nil {
			return nil, err
		}
	}
	d := &nvmeof.Discoverer{Request: nvmeof.Request{Host: host}, Referrals: true,
		Look: func(ctx context.Context, t nvmeof.Target, o nvmeof.Options) error {
			look, cancel := context.WithTimeout(ctx, c.Patience)
			defer cancel()
			return nvmeof.Probe(look, t, o)
		}}
	found := d.Run(ctx, to)
	return found, d.Wait()
}

func parseAddr(s string) netip.Addr {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{} // loading has reported it
	}
	return a.Unmap()
}
