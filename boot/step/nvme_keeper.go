package step

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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

// nvmeKept is what is kept for one unit. The keeper's lock guards it.
type nvmeKept struct {
	id      string
	spec    nvmeSpec
	dialled bool // paths that are missing are to be dialled
	done    bool // the unit has been told that it is
	fresh   bool // just now: what is up then needs no telling
	paths   []*nvmePath
	changed chan struct{} // holds one token; whoever awaits the unit hears of changes
}

// nvmePath is one connection that a unit wants.
type nvmePath struct {
	target     nvmeof.Target
	rank       int    // among those of its subsystem: the first are made first
	controller string // "" while there is none
	state      nvmeof.State
	live       bool // this controller was live at some time
	busy       bool // a child is at it
	tries      int
	next       time.Time
	failed     *ChildError // why it is not there

	// told is what was last said of it, of a unit that is done: "", up, gone.
	told string

	// Of a discovery controller: its log has to be read, was read, and is being read.
	unread, read, reading bool
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
			u.paths = append(u.paths, &nvmePath{target: t, rank: i})
		}
		for i, t := range s.Discovery {
			u.paths = append(u.paths, &nvmePath{target: t, rank: i, unread: true})
		}
		k.units[id] = u
	}
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
		if before != p.controller {
			u.poke()
		}
	}
	u.poke()
}

func (u *nvmeKept) poke() {
	select {
	case u.changed <- struct{}{}:
	default:
	}
}

// nvmeNews is what is to be told of a path of a unit that is done.
type nvmeNews struct {
	unit, path, reason string
	back               bool
}

// news notes paths that went, or did not come, and those that came after all.
func (u *nvmeKept) news() []nvmeNews {
	var list []nvmeNews
	fresh := u.fresh
	u.fresh = false
	for _, p := range u.paths {
		gone := p.controller == "" && !p.busy && p.failed != nil
		now := "up"
		if gone {
			now = "gone"
		}
		if p.target.Discovery() || now == p.told || !gone && !p.live {
			continue
		}
		p.told = now
		if fresh && !gone {
			continue
		}
		n := nvmeNews{unit: u.id, path: "path/" + p.target.Addr.String(), back: !gone}
		if gone {
			n.reason = p.failed.Message
		}
		if u.spec.Subsystem == "" {
			n.path += " " + p.target.NQN
		}
		list = append(list, n)
	}
	return list
}

// tell says what has become of paths, and loses units that were done and are
// not any more.
func (k *nvmeKeeper) tell() {
	lost := map[string]string{}
	var news []nvmeNews
	k.mu.Lock()
	for _, u := range k.units {
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
	for _, n := range news {
		if k.deps.Lost != nil {
			k.deps.Lost(n.unit, n.path, n.reason, n.back)
		}
	}
	for id, reason := range lost {
		k.deps.Lose(id, reason)
	}
}

// groups gathers a unit's paths by subsystem, without discovery controllers.
func (u *nvmeKept) groups() map[string][]*nvmePath {
	m := map[string][]*nvmePath{}
	for _, p := range u.paths {
		if !p.target.Discovery() {
			m[p.target.NQN] = append(m[p.target.NQN], p)
		}
	}
	return m
}

// up tells whether the unit is done, or hopeless: too many of its paths wait
// for somebody to mend something.
func (u *nvmeKept) up() (up, hopeless bool) {
	up = true
	if !u.logged() {
		up, hopeless = false, u.noLog()
	}
	groups := u.groups()
	if len(groups) == 0 {
		return false, hopeless || u.logged()
	}
	for _, g := range groups {
		live, bad := 0, 0
		for _, p := range g {
			switch {
			case p.state == nvmeof.StateLive:
				live++
			case p.failed != nil && p.failed.mend():
				bad++
			}
		}
		want := min(u.spec.MinPaths, len(g))
		up = up && live >= want
		hopeless = hopeless || len(g)-bad < want
	}
	return up, hopeless
}

// connected is up for a unit that is done: a path that the kernel reconnects
// is one, and a log once read counts.
func (u *nvmeKept) connected() (bool, int) {
	for _, g := range u.groups() {
		there := 0
		for _, p := range g {
			if p.controller != "" {
				there++
			}
		}
		if there < min(u.spec.MinPaths, len(g)) {
			return false, there
		}
	}
	return true, 0
}

// logged tells that what is there to connect is known: from the file, or by
// the log of some discovery controller.
func (u *nvmeKept) logged() bool {
	if len(u.spec.Discovery) == 0 {
		return true
	}
	return slices.ContainsFunc(u.paths, func(p *nvmePath) bool { return p.read })
}

// noLog tells that every discovery controller waits for somebody to mend
// something.
func (u *nvmeKept) noLog() bool {
	return !slices.ContainsFunc(u.paths, func(p *nvmePath) bool {
		return p.target.Discovery() && (p.failed == nil || !p.failed.mend())
	})
}

// mend tells that waiting alone will not help.
func (e *ChildError) mend() bool {
	switch e.CodeText {
	case "NVME-PORTAL", "NVME-BUSY", "NVME-PATHS":
		return false
	}
	return e.CodeText != ""
}

// count is how many paths are up, in words.
func (u *nvmeKept) count() string {
	live, all := 0, 0
	for _, p := range u.paths {
		if p.target.Discovery() {
			continue
		}
		all++
		if p.state == nvmeof.StateLive {
			live++
		}
	}
	text := fmt.Sprintf("%d of %d paths up", live, all)
	if n := len(u.groups()); u.spec.Subsystem == "" {
		text += fmt.Sprintf(" to %d subsystems", n)
	}
	return text
}

// reason says of each path why it is not up; server is the first one's.
func (u *nvmeKept) reason() (text, server string) {
	var list []string
	for _, p := range u.paths {
		why := ""
		switch {
		case p.controller != "" && p.state != nvmeof.StateLive && !p.busy:
			why = string(p.state)
		case p.controller == "" && p.failed != nil:
			why = p.failed.Message
		case p.controller != "" && p.target.Discovery() && p.failed != nil:
			why = p.failed.Message
		case p.controller == "" && p.busy && p.tries > 0:
			why = "it has not answered yet"
		}
		if why == "" {
			continue
		}
		list = append(list, p.target.Place()+": "+why)
		server = cmp.Or(server, p.target.Addr.String())
	}
	return strings.Join(list, "; "), server
}

// failure is the unit's error. k.mu is held.
func (u *nvmeKept) failure() error {
	reason, server := u.reason()
	e := &ChildError{CodeText: "NVME-PATHS", ObjectText: u.spec.Subsystem, ServerText: server,
		Message: fmt.Sprintf("connect %s: %s", u.spec.Name, u.count())}
	switch {
	case len(u.spec.Discovery) > 0 && u.logged() && len(u.groups()) == 0:
		e.CodeText, e.HintText = "NVME-SUBSYSTEM", "initd nvme discover "+u.spec.Discovery[0].URL()+" shows what this host may have there"
		e.Message += ": the discovery log does not have it"
		if u.spec.Subsystem == "" {
			e.Message = fmt.Sprintf("connect %s: the discovery log lists nothing for this host", u.spec.Name)
		}
		return e
	case reason == "":
		e.Message += ": no other has answered yet, or its turn to be connected has not come"
		return e
	}
	e.Message += ": " + reason
	same, final := true, true
	var first *ChildError
	for _, p := range u.paths {
		if p.failed == nil {
			continue
		}
		if first == nil {
			first = p.failed
		}
		same = same && p.failed.CodeText == first.CodeText
		final = final && p.failed.Final
	}
	if first != nil && same {
		e.CodeText, e.HintText, e.Final = cmp.Or(first.CodeText, e.CodeText), first.HintText, final
	}
	return e
}
