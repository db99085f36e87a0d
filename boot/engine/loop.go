package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"initd/boot/report"
)

// Defaults of Config.
const (
	defaultHeartbeat = time.Second
	defaultGrace     = 5 * time.Second
	defaultBatchHold = time.Second
)

// New prepares an engine; nothing runs before Run.
func New(cfg Config) (*Engine, error) {
	if cfg.Plan == nil {
		return nil, errors.New("engine: no plan")
	}
	kinds := map[string]bool{}
	e := &Engine{queue: newQueue(), known: map[string]bool{}, settled: make(chan struct{}), ready: make(chan struct{})}
	for i := range cfg.Plan.Units {
		u := &cfg.Plan.Units[i]
		e.known[u.ID] = true
		if !u.Milestone && cfg.Actions[u.Kind] == nil {
			kinds[u.Kind] = true
		}
	}
	for _, t := range cfg.Plan.Templates {
		if _, ok := cfg.Actions[t.Kind].(Expander); !ok {
			kinds[t.Kind] = true
		}
	}
	if len(kinds) > 0 {
		var list []string
		for k := range kinds {
			list = append(list, k)
		}
		slices.Sort(list)
		return nil, fmt.Errorf("engine: nothing runs units of kind %s", strings.Join(list, ", "))
	}
	if cfg.Clock == nil {
		cfg.Clock = report.Boottime
	}
	if cfg.HeartbeatEvery == 0 {
		cfg.HeartbeatEvery = defaultHeartbeat
	}
	if cfg.Grace == 0 {
		cfg.Grace = defaultGrace
	}
	if cfg.BatchHold == 0 {
		cfg.BatchHold = defaultBatchHold
	}
	if cfg.trimEvery == 0 {
		cfg.keepFirst, cfg.trimEvery = defaultKeepFirst, defaultTrimEvery
	}
	if cfg.Ledger == nil {
		cfg.Ledger = newLedger()
	}
	e.cfg = cfg
	return e, nil
}

// Run runs the plan until ctx ends; that is its only end, and no error. It
// waits Config.Grace for running actions to return. Settled and ready are
// events on the way. An Engine runs once.
func (e *Engine) Run(ctx context.Context) error {
	if e.started.Swap(true) {
		return errors.New("engine: runs already")
	}
	r := newRun(e, ctx)
	r.start()
	r.decide()
	r.watch()
	return r.loop()
}
