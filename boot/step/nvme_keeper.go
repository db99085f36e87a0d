package step

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"initd/boot/engine"
	"initd/hw/nvmeof"
	"initd/hw/sysfs"
	"initd/hw/uevent"
)

// nvmeKeeper keeps connections: it hears from the kernel what comes and goes,
// and has children connect what is missing.
type nvmeKeeper struct {
	deps *Deps
	wake chan struct{} // holds one token

	mu          sync.Mutex
	units       map[string]*nvmeKept         // by unit ID
	controllers map[string]nvmeof.Controller // by name; fabrics only
	looked      bool                         // controllers are known
}

// The pauses between attempts at one path. A look costs the target nothing;
// what somebody has to mend is asked for less often.
const (
	nvmeFirstPause = time.Second
	nvmeLongPause  = 15 * time.Second
	nvmeMendPause  = time.Minute
)

func newNVMeKeeper(d *Deps) *nvmeKeeper {
	return &nvmeKeeper{deps: d, wake: make(chan struct{}, 1), units: map[string]*nvmeKept{}, controllers: map[string]nvmeof.Controller{}}
}

// add begins to connect a unit's paths, at the next poke.
func (k *nvmeKeeper) add(id string, s nvmeSpec) *nvmeKept {
	k.mu.Lock()
	defer k.mu.Unlock()
	u := k.units[id]
	if u == nil {
		u = &nvmeKept{id: id, spec: s, changed: make(chan struct{}, 1)}
		for i, t := range s.Paths {
			u.paths = append(u.paths, &nvmePath{target: t, rank: i, iface: t.HostIface})
		}
		for i, t := range s.Discovery {
			u.paths = append(u.paths, &nvmePath{target: t, rank: i, unread: true, iface: t.HostIface})
		}
		k.units[id] = u
	}
	u.name()
	u.dialled, u.done = true, false
	for _, p := range u.paths {
		p.next, p.tries = time.Time{}, 0
		p.unread = p.unread || p.target.Discovery()
		if !p.busy {
			p.failed = nil
		}
	}
	k.match(u)
	return u
}

// name gives paths the kernel's names of the interfaces that they come from.
// One that is not there yet keeps the file's name, by which nothing is found.
func (u *nvmeKept) name() {
	for _, p := range u.paths {
		if m, ok := u.spec.Links[p.iface]; ok && p.controller == "" {
			if kernel, err := kernelLink(p.iface, m); err == nil {
				p.target.HostIface = kernel
			}
		}
	}
}

// keep goes on with a unit that was found done.
func (k *nvmeKeeper) keep(id string, s nvmeSpec) {
	u := k.add(id, s)
	k.mu.Lock()
	u.done, u.fresh = true, true
	k.mu.Unlock()
	k.poke()
}

// rest dials no more for a unit.
func (k *nvmeKeeper) rest(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if u := k.units[id]; u != nil {
		u.dialled = false
	}
}

func (k *nvmeKeeper) poke() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// await returns when enough of a unit's paths are up, when no more can be
// without somebody mending something, or when ctx ends.
func (k *nvmeKeeper) await(ctx context.Context, u *nvmeKept, progress func(engine.Progress)) error {
	told := ""
	for {
		k.mu.Lock()
		up, hopeless := u.up()
		reason, server := u.reason()
		var err error
		if up {
			u.done, u.fresh = true, true
			k.poke()
		} else if hopeless || ctx.Err() != nil {
			err = u.failure()
		}
		object, text := u.spec.Subsystem, u.count()
		k.mu.Unlock()
		switch {
		case up:
			progress(engine.Progress{Object: object, Text: text})
			return nil
		case err != nil:
			return err
		case reason != told:
			told = reason
			progress(engine.Progress{Waiting: reason, Object: object, Server: server})
		}
		select {
		case <-u.changed:
		case <-ctx.Done():
		}
	}
}

// run keeps until ctx ends.
func (k *nvmeKeeper) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := k.listen(ctx); err != nil && ctx.Err() == nil {
			k.deps.Note("NVMe: " + err.Error())
			select {
			case <-time.After(nvmeLongPause):
			case <-ctx.Done():
			}
		}
	}
}

// listen subscribes, then looks; it returns when the subscription breaks.
func (k *nvmeKeeper) listen(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := uevent.Subscribe(ctx, uevent.Kernel)
	if err != nil {
		return err
	}
	f, err := sysfs.Open("/")
	if err != nil {
		return err
	}
	defer f.Close()
	if err := k.look(f); err != nil {
		return err
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if due, ok := k.dial(ctx); ok {
			timer.Reset(time.Until(due))
		} else {
			timer.Stop()
		}
		k.tell()
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-k.wake:
		case e, ok := <-events:
			switch {
			case !ok:
				return errors.New("the kernel's events ended")
			case e.Action == uevent.Failed:
				return e.Err
			case e.Action == uevent.Overflow:
				if err := k.look(f); err != nil {
					return err
				}
			case e.Subsystem == "nvme":
				k.event(f, e)
			}
		}
	}
}

// look reads all controllers.
func (k *nvmeKeeper) look(f *sysfs.FS) error {
	list, err := nvmeof.Connections(f)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.looked = true
	clear(k.controllers)
	for _, c := range list {
		if c.Fabric() {
			k.controllers[c.Name] = c
		}
	}
	for _, u := range k.units {
		k.match(u)
	}
	return nil
}

// event takes in that a controller came, changed or went.
func (k *nvmeKeeper) event(f *sysfs.FS, e uevent.Event) {
	name := e.Name()
	c, err := nvmeof.ReadConnection(f, name)
	k.mu.Lock()
	defer k.mu.Unlock()
	if e.Action == uevent.Remove || err != nil || c.State.Ending() {
		if old, ok := k.controllers[name]; ok && old.Owner == nvmeof.Us && err != nil {
			if err := nvmeof.Forget("/", name); err != nil {
				k.deps.Note(err.Error())
			}
		}
		delete(k.controllers, name)
	} else if c.Fabric() {
		k.controllers[name] = c
	}
	stale := e.Properties[nvmeof.AENProperty] == nvmeof.AENDiscoveryLog || e.Properties[nvmeof.EventProperty] == nvmeof.EventRediscover
	for _, u := range k.units {
		for _, p := range u.paths {
			if p.controller == name && stale {
				p.unread = true
			}
		}
		k.match(u)
	}
}

// match finds the controllers of a unit's paths. A path that was up and is not
// there any more is dialled at once. k.mu is held.
func (k *nvmeKeeper) match(u *nvmeKept) {
	for _, p := range u.paths {
		before := p.controller
		p.controller, p.state = "", ""
		live := p.live
		p.live = false
		for _, c := range k.controllers {
			if c.Match(p.target, u.spec.Host) {
				p.controller, p.state = c.Name, c.State
				p.live = c.State == nvmeof.StateLive || live && before == c.Name
				break
			}
		}
		if p.live && !live {
			p.failed = nil
		}
		if live && p.controller == "" {
			p.next, p.tries, p.unread = time.Time{}, 0, p.target.Discovery()
			p.failed = &ChildError{CodeText: "NVME-PATHS", Message: "the kernel gave the connection up"}
		}
	}
	u.forget()
	u.poke()
}

// tell says what has become of paths, and loses units that were done and are
// not any more.
func (k *nvmeKeeper) tell() {
	lost := map[string]string{}
	var news []nvmeNews
	var left []string
	k.mu.Lock()
	for _, u := range k.units {
		for _, path := range u.left {
			left = append(left, u.id+": "+path+" is not listed any more")
		}
		u.left = nil
		if !u.done {
			continue
		}
		news = append(news, u.news()...)
		if up, _ := u.connected(); !up {
			u.done = false
			reason, _ := u.reason()
			lost[u.id] = cmp.Or(reason, "too few paths are left")
		}
	}
	k.mu.Unlock()
	for _, text := range left {
		k.deps.Note(text)
	}
	for _, n := range news {
		if k.deps.Lost != nil {
			k.deps.Lost(n.unit, n.path, n.reason, n.back)
		}
	}
	for id, reason := range lost {
		k.deps.Lose(id, reason)
	}
}
