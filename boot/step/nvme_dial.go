package step

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"initd/hw/nvmeof"
	"initd/hw/sysfs"
)

// nvmeJob is one path for the child nvme-connect; positions are in the call's
// files, from 1.
type nvmeJob struct {
	Target     nvmeof.Target  `json:"target"`
	Rank       int            `json:"rank"`
	Lasting    bool           `json:"lasting,omitempty"`
	Options    nvmeof.Options `json:"options"`
	IOPolicy   string         `json:"ioPolicy,omitempty"`
	Keyring    string         `json:"keyring,omitempty"`
	Secret     int            `json:"secret,omitempty"`
	CtrlSecret int            `json:"ctrlSecret,omitempty"`
	// Need says that there is a secret, whether it came along or not: a connection that
	// is there already has it too.
	NeedSecret     bool        `json:"needSecret,omitempty"`
	NeedCtrlSecret bool        `json:"needCtrlSecret,omitempty"`
	Host           nvmeof.Host `json:"host,omitzero"`
}

// nvmeCall is what the child is given.
type nvmeCall struct {
	Jobs []nvmeJob `json:"jobs"`
	// Identity are the folders with the files hostnqn and hostid; Keep is where one
	// that was made up is kept.
	Identity []string      `json:"identity"`
	Keep     string        `json:"keep"`
	Patience time.Duration `json:"patience"`
}

// nvmePatience is how long a portal may take to say its first word: one that
// is silent blocks nobody while it is looked at. The kernel itself waits for 10 s.
const nvmePatience = 12 * time.Second

// nvmeCallTime bounds a child: the kernel waits up to a minute for an answer,
// and lets nobody else connect meanwhile.
const nvmeCallTime = 3 * time.Minute

// waited is a path that a child is at.
type waited struct {
	u    *nvmeKept
	p    *nvmePath
	turn int // the smaller, the sooner
}

// turn is when a path is connected, of those that answer: first paths first,
// and before those that may keep the kernel busy with an authentication that
// comes to nothing (a command that gets no answer takes it a minute).
func (u *nvmeKept) turn(p *nvmePath) int {
	const later = 1000
	turn := p.rank
	if u.spec.Secret != "" {
		turn += later
	}
	if p.failed != nil && p.failed.mend() {
		turn += 2 * later
	}
	return turn
}

// dial has children connect all paths whose time has come, and read the logs
// that have changed. due is when the next one's comes.
func (k *nvmeKeeper) dial(ctx context.Context) (due time.Time, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.looked {
		return due, false
	}
	now := time.Now()
	var list []waited
	for _, u := range k.units {
		if !u.dialled {
			continue
		}
		u.name()
		for _, p := range u.paths {
			switch {
			case p.controller != "" && p.unread && !p.reading && p.state == nvmeof.StateLive && !p.next.After(now):
				p.reading, p.unread = true, false
				go k.readLog(ctx, u, p, p.controller)
			case p.busy || p.reading || p.controller != "" && !p.unread:
			case p.next.After(now):
				if !ok || p.next.Before(due) {
					due, ok = p.next, true
				}
			case p.controller == "":
				p.busy = true
				list = append(list, waited{u, p, u.turn(p)})
			}
		}
	}
	if len(list) > 0 {
		slices.SortFunc(list, func(a, b waited) int { return a.turn - b.turn })
		go k.connect(ctx, list)
	}
	return due, ok
}

// connect runs one child for these paths.
func (k *nvmeKeeper) connect(ctx context.Context, list []waited) {
	ctx, cancel := context.WithTimeout(ctx, nvmeCallTime)
	defer cancel()
	c := nvmeCall{Identity: k.identity(), Patience: nvmePatience}
	c.Keep = c.Identity[0]
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	have := map[string]int{}
	secret := func(name string) int {
		if name == "" {
			return 0
		}
		if at, ok := have[name]; ok {
			return at
		}
		have[name] = 0
		if f := k.deps.Keys.Get(name); f != nil {
			files = append(files, f)
			have[name] = len(files)
		}
		return have[name]
	}
	for _, w := range list {
		s := w.u.spec
		c.Jobs = append(c.Jobs, nvmeJob{Target: w.p.target, Rank: w.turn, Lasting: w.p.target.Discovery(), Options: s.Options,
			IOPolicy: s.IOPolicy, Keyring: s.Keyring, Host: s.Host, Secret: secret(s.Secret), CtrlSecret: secret(s.CtrlSecret),
			NeedSecret: s.Secret != "", NeedCtrlSecret: s.CtrlSecret != ""})
	}
	var mu sync.Mutex // a child that is given up may be heard still
	told := make([]bool, len(list))
	once := func(i int, m ChildProgress) {
		mu.Lock()
		was := told[i]
		told[i] = true
		mu.Unlock()
		if !was {
			k.heard(list[i], m)
		}
	}
	_, err := k.deps.Children.Run(ctx, Call{Func: "nvme-connect", Unit: "nvme", Params: c, Files: files, Progress: func(m ChildProgress) {
		switch {
		case m.Progress != nil && m.Progress.Note != "":
			k.deps.Note("NVMe: " + m.Progress.Note)
		case m.Index < 0 || m.Index >= len(list):
		case m.Done:
			once(m.Index, m)
		}
	}})
	if err == nil {
		err = errors.New("the child ended without a word about it")
	}
	for i := range list {
		once(i, ChildProgress{Error: AsChildError(err)})
	}
}

// identity lists the folders that may have this machine's name, the one first
// that a name that was made up is kept in.
func (k *nvmeKeeper) identity() []string {
	const folder = "nvme"
	list := []string{filepath.Join(k.deps.Paths.Run, folder), "/etc/nvme"}
	if len(k.deps.Paths.Identity) > 0 {
		list = append([]string{filepath.Join(k.deps.Paths.Identity[0], folder)}, list...)
	}
	return list
}

// heard takes in what has become of one path.
func (k *nvmeKeeper) heard(w waited, m ChildProgress) {
	defer k.poke()
	name := ""
	if m.Error == nil {
		if err := json.Unmarshal(m.Result, &name); err != nil {
			m.Error = AsChildError(err)
		}
	}
	var c nvmeof.Controller
	var gone error
	if name != "" {
		c, gone = readController(name)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	p := w.p
	p.busy = false
	if m.Error != nil {
		p.failed = m.Error
		p.next = time.Now().Add(nvmePause(p.tries, m.Error.mend()))
		p.tries++
		w.u.forget()
		w.u.poke()
		return
	}
	if gone == nil {
		k.controllers[name] = c
	}
	k.match(w.u)
	if p.controller == "" { // it is gone again, or somebody else's by its looks
		p.next = time.Now().Add(nvmePause(p.tries, false))
		p.tries++
	}
}

func readController(name string) (nvmeof.Controller, error) {
	f, err := sysfs.Open("/")
	if err != nil {
		return nvmeof.Controller{}, err
	}
	defer f.Close()
	return nvmeof.ReadConnection(f, name)
}

// nvmePause is how long a path rests after so many failures.
func nvmePause(tries int, mend bool) time.Duration {
	if mend && tries > 2 {
		return nvmeMendPause
	}
	return min(nvmeFirstPause<<min(tries, 10), nvmeLongPause)
}

// readLog has a child read the log of one discovery controller.
func (k *nvmeKeeper) readLog(ctx context.Context, u *nvmeKept, p *nvmePath, controller string) {
	defer k.poke()
	ctx, cancel := context.WithTimeout(ctx, nvmeCallTime)
	defer cancel()
	call := nvmeLogCall{Controller: controller, Asked: p.target, Options: u.spec.Options, Host: u.spec.Host, Identity: k.identity(), Patience: nvmePatience}
	r, err := k.deps.Children.Run(ctx, Call{Func: "nvme-log", Unit: u.id, Params: call})
	var l nvmeListed
	if err == nil {
		err = json.Unmarshal(r.Result, &l)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	p.reading = false
	if err != nil {
		p.failed, p.unread = AsChildError(err), true
		p.next = time.Now().Add(nvmePause(p.tries, false))
		p.tries++
		u.poke()
		return
	}
	p.read, p.tries, p.failed = true, 0, nil
	u.listed(p.target, l.Targets)
	k.match(u)
	for _, text := range l.Problems {
		k.deps.Note(u.id + ": " + text)
	}
}

// listed takes over what a log lists.
func (u *nvmeKept) listed(asked nvmeof.Target, targets []nvmeof.Target) {
	wanted := map[nvmeof.Target]bool{}
	rank := map[string]int{}
	for _, t := range targets {
		if u.spec.Subsystem != "" && t.NQN != u.spec.Subsystem {
			continue
		}
		wanted[t] = true
		if !slices.ContainsFunc(u.paths, func(p *nvmePath) bool { return p.target == t }) {
			u.paths = append(u.paths, &nvmePath{target: t, rank: rank[t.NQN], by: map[nvmeof.Target]bool{}})
		}
		rank[t.NQN]++
	}
	for _, p := range u.paths {
		switch {
		case p.by == nil: // a discovery controller
		case wanted[p.target]:
			p.by[asked] = true
		default:
			delete(p.by, asked)
		}
	}
	u.forget()
}

// forget leaves out what no discovery controller lists any more: it is not
// dialled any more. A connection that is there is left alone, until it goes.
func (u *nvmeKept) forget() {
	u.paths = slices.DeleteFunc(u.paths, func(p *nvmePath) bool {
		gone := p.by != nil && len(p.by) == 0 && p.controller == "" && !p.busy
		if gone {
			u.left = append(u.left, p.target.String())
		}
		return gone
	})
}
