package main

import (
	"time"

	"initd/initd/pid1/wire"
)

const (
	crashLimit  = 5                // deaths …
	crashWindow = 10 * time.Minute // … within this are a crash loop, unless one proves good; time for five silent ones
	crashFirst  = 100 * time.Millisecond
	crashPause  = 60 * time.Second // between tries in a crash loop
)

// crashes remembers recent deaths of the orchestrator. Its zero value is what
// a proven one starts with.
type crashes struct {
	times []time.Time
	loop  bool
}

// add records a death and returns how long to wait before the next start, and
// whether this is a crash loop, which lasts until one proves good. The first
// restart is immediate: one death is an accident, and services wait for their
// supervisor.
func (c *crashes) add(now time.Time) (wait time.Duration, failing bool) {
	kept := c.times[:0]
	for _, t := range c.times {
		if now.Sub(t) < crashWindow {
			kept = append(kept, t)
		}
	}
	c.times = append(kept, now)
	n := len(c.times)
	c.loop = c.loop || n >= crashLimit
	switch {
	case c.loop:
		c.times = nil
		return crashPause, true
	case n == 1:
		return 0, false
	}
	return crashFirst << (2 * (n - 2)), false
}

// paths chooses which orchestrator to start: the one that an upgrade names,
// then the last that proved good, then the usual places.
type paths struct {
	list   []string
	at     int
	misses int // deaths of the current one since it was chosen
	tried  int // places that could not be loaded, in a row
}

const (
	usualExe = "/usr/bin/initd"
	spareExe = wire.AdoptPath // a copy that the orchestrator leaves there
)

func newPaths(first string) paths { return paths{list: unique(first, usualExe, spareExe)} }

// unique keeps the first of each, without empty ones.
func unique(list ...string) []string {
	var out []string
	for _, s := range list {
		known := s == ""
		for _, t := range out {
			known = known || s == t
		}
		if !known {
			out = append(out, s)
		}
	}
	return out
}

func (p *paths) current() string { return p.list[p.at] }

// upgrade makes path the one to start; the current one is the next to fall
// back to.
func (p *paths) upgrade(path string) {
	good := p.current()
	if path == "" || path == good {
		p.misses = 0
		return
	}
	list := unique(append([]string{path, good}, p.list...)...)
	*p = paths{list: list[:min(len(list), maxPaths)]}
}

const maxPaths = 8

// failed counts a failure and tells whether another place can be tried at
// once. ran tells that the program was loaded.
func (p *paths) failed(ran bool) (again bool) {
	if ran {
		p.tried = 0
		if p.misses++; p.misses >= missesTime {
			p.advance()
		}
		return true
	}
	p.advance()
	if p.tried++; p.tried >= len(p.list) {
		p.tried = 0
		return false
	}
	return true
}

func (p *paths) advance() {
	p.at = (p.at + 1) % len(p.list)
	p.misses = 0
}

// proven: the current program has been up long enough; it comes first.
func (p *paths) proven() {
	*p = paths{list: unique(append([]string{p.current()}, p.list...)...)}
}
