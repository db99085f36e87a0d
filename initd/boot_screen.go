package main

import (
	"encoding/json"

	"initd/boot/report"
	"initd/hw/console"
)

// screen shows events on the console, and mirrors all of them to the device
// that initd.events= names. It never waits for either.
type screen struct {
	console *console.Writer // nil without one
	mirror  *console.Writer // nil without one
	lines   *report.Lines
}

func newScreen(a kernelArgs) *screen {
	s := &screen{lines: report.NewLines(a.debug)}
	if w, err := console.Open("/dev/console"); err == nil {
		s.console = w
	}
	if a.events != "" {
		if w, err := console.Open(a.events); err == nil {
			s.mirror = w
		}
	}
	return s
}

// show is called in the order of the events.
func (s *screen) show(e report.Event) {
	if s.console != nil {
		for _, line := range s.lines.Event(e) {
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
