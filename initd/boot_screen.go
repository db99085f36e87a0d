package main

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"initd/boot/report"
	"initd/hw/console"
	"initd/initd/failure"
)

// screen shows events on the console, and mirrors all of them to the device
// that initd.events= names. It never waits for either.
type screen struct {
	console *console.Writer // nil without one
	mirror  *console.Writer // nil without one

	mu    sync.Mutex
	lines *report.Console // guarded by mu
	asks  string          // guarded by mu; the question that stands: no live lines
	aside bool            // guarded by mu; somebody works at the console: no live lines, no question

	failing func(bool) // hears whether the boot needs people; may be nil
}

func newScreen(a kernelArgs) *screen {
	s := newMirror(a)
	if w, err := console.Open("/dev/console"); err == nil {
		s.console = w
	}
	return s
}

// newMirror is a screen without the console: beside another init that is not
// ours.
func newMirror(a kernelArgs) *screen {
	s := &screen{lines: report.NewConsole()}
	if a.events != "" {
		if w, err := console.OpenShared(a.events); err == nil {
			s.mirror = w
		}
	}
	return s
}

// show is called in the order of the events.
func (s *screen) show(e report.Event) {
	s.mu.Lock()
	lines := s.lines.Add(e)
	s.mu.Unlock()
	if s.failing != nil {
		switch e.Kind {
		case report.Halted:
			s.failing(true)
		case report.Settled:
			s.failing(s.unready())
		case report.Resumed, report.ReadyReached, report.ShutdownStep:
			s.failing(false)
		}
	}
	if s.console != nil {
		for _, line := range lines {
			s.console.Line(line)
		}
	}
	if s.mirror == nil {
		return
	}
	b, err := json.Marshal(struct {
		Name report.Kind `json:"event"`
		report.Event
	}{e.Kind, e})
	if err == nil {
		s.mirror.Line(string(b))
	}
}

// unready tells whether the boot has settled without being ready.
func (s *screen) unready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return failure.Failing(s.lines.State())
}

// waitsFor tells whether a unit waits for a resource.
func (s *screen) waitsFor(unit, resource string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lines.WaitsFor(unit, resource)
}

// A boot that waits says for what this often: soon at first, for somebody may
// stand there, and seldom later.
const (
	liveFirst = 5 * time.Second
	liveLast  = time.Minute
)

// waits says what is waited for, now and then, while something is.
func (s *screen) waits(ctx context.Context) {
	if s.console == nil {
		return
	}
	pause := liveFirst
	t := time.NewTimer(pause)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		s.mu.Lock()
		lines := s.lines.Live(report.Boottime())
		free := s.asks == "" && !s.aside
		s.mu.Unlock()
		switch {
		case len(lines) == 0:
			pause = liveFirst
		case free:
			for _, line := range lines {
				s.console.Line(line)
			}
			pause = min(2*pause, liveLast)
		}
		t.Reset(pause)
	}
}

// question says which question stands on the consoles, "" for none: lines go
// above it.
func (s *screen) question(text string) {
	if text != "" {
		text += ": "
	}
	s.mu.Lock()
	s.asks = text
	s.mu.Unlock()
	if s.console != nil {
		s.console.Foot(text)
	}
}

// stepAside leaves the console to somebody who works there; lines go on. The
// question that stands is shown again afterwards.
func (s *screen) stepAside(aside bool) {
	s.mu.Lock()
	s.aside = aside
	foot := s.asks
	s.mu.Unlock()
	if aside {
		foot = ""
	}
	if s.console != nil {
		s.console.Foot(foot)
	}
}

// standing is the question that stands, as it is shown.
func (s *screen) standing() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asks
}

// drain waits until what was shown is out, for as long as done allows.
func (s *screen) drain(done <-chan struct{}) {
	for _, w := range []*console.Writer{s.console, s.mirror} {
		if w == nil {
			continue
		}
		w.Close()
		select {
		case <-w.Done():
		case <-done:
		}
	}
}
