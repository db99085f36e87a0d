package main

import (
	"sync"

	"initd/boot/engine"
	"initd/boot/report"
)

// notes holds back what there is to say until the engine is there: which plan
// this boot uses heads the report, and is known only then.
type notes struct {
	mu    sync.Mutex
	early []string // guarded by mu
}

// note puts a line into the report, by way of the engine once there is one.
func (o *orchestrator) note(text string) {
	o.notes.mu.Lock()
	eng := o.engine.Load()
	if eng == nil {
		o.notes.early = append(o.notes.early, text)
	}
	o.notes.mu.Unlock()
	if eng != nil {
		o.noteBy(eng, text)
	}
}

func (o *orchestrator) noteBy(eng *engine.Engine, text string) {
	e := report.Event{Kind: report.Notice, Text: text}
	if eng.Record(e) != nil {
		o.record(e)
	}
}

// take gives what was held back so far.
func (n *notes) take() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := n.early
	n.early = nil
	return list
}

// use sends what comes from now on, and what is held back still, by eng.
func (o *orchestrator) use(eng *engine.Engine) {
	o.notes.mu.Lock()
	early := o.notes.early
	o.notes.early = nil
	o.engine.Store(eng)
	o.notes.mu.Unlock()
	for _, text := range early {
		o.noteBy(eng, text)
	}
}

// flushNotes records what is held back of a boot that ends without an engine.
func (o *orchestrator) flushNotes() {
	for _, text := range o.notes.take() {
		o.record(report.Event{Kind: report.Notice, Text: text})
	}
}
