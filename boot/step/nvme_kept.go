package step

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"initd/hw/nvmeof"
)

// nvmeKept is what is kept for one unit. The keeper's lock guards it.
type nvmeKept struct {
	id      string
	spec    nvmeSpec
	dialled bool // paths that are missing are to be dialled
	done    bool // the unit has been told that it is
	fresh   bool // just now: what is up then needs no telling
	paths   []*nvmePath
	left    []string      // what is not dialled any more, to be told
	changed chan struct{} // holds one token; whoever awaits the unit hears of changes
}

// nvmePath is one connection that a unit wants.
type nvmePath struct {
	target     nvmeof.Target
	iface      string // the interface that target comes from, as the file calls it
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
	// Of what discovery found: the discovery controllers that list it.
	by map[nvmeof.Target]bool
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
	groups := u.groups()
	if len(groups) == 0 {
		return false, 0
	}
	for _, g := range groups {
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
		if e.CodeText == "NVME-TLS" { // an image has no daemon for it, and none comes by itself
			e.NextText = "initd skip " + u.id
		}
	}
	return e
}
