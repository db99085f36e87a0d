package iscsi

import (
	"context"
	"strconv"
	"strings"
	"sync"

	"initd/hw/uevent"
)

// arrivals tells of each session when a disk of it has come. All share one subscription, and hear nothing of each other: sixteen logins at
// once make some thousand events. The zero value is ready.
type arrivals struct {
	mu     sync.Mutex
	subs   map[uint32]chan struct{} // guarded by mu; nil until somebody listens
	cancel context.CancelFunc       // guarded by mu
}

// hear returns a channel that holds one token when a disk of the session has come, or may have; it is closed when nobody will tell any
// more. release ends it.
func (a *arrivals) hear(sid uint32) (arrived <-chan struct{}, release func(), err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.subs == nil {
		ctx, cancel := context.WithCancel(context.Background())
		events, err := uevent.Subscribe(ctx, uevent.Kernel)
		if err != nil {
			cancel()
			return nil, nil, err
		}
		a.subs, a.cancel = map[uint32]chan struct{}{}, cancel
		go a.run(events)
	}
	c := make(chan struct{}, 1)
	a.subs[sid] = c
	return c, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.subs[sid] == c {
			delete(a.subs, sid)
		}
	}, nil
}

func (a *arrivals) run(events <-chan uevent.Event) {
	for e := range events {
		sid, all := uint32(0), e.Action == uevent.Overflow
		if !all {
			var ok bool
			if sid, ok = diskOf(e); !ok {
				continue
			}
		}
		a.mu.Lock()
		for id, c := range a.subs {
			if !all && id != sid {
				continue
			}
			select {
			case c <- struct{}{}:
			default:
			}
		}
		a.mu.Unlock()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.subs {
		close(c)
	}
	a.subs = nil // who listens next begins anew
}

// diskOf tells which session an event brings a disk of: …/host5/session3/target5:0:0/5:0:0:1/block/sda.
func diskOf(e uevent.Event) (session uint32, ok bool) {
	if e.Subsystem != "block" || e.Action != uevent.Add {
		return 0, false
	}
	_, rest, ok := strings.Cut(e.Path, "/session")
	if !ok {
		return 0, false
	}
	number, _, _ := strings.Cut(rest, "/")
	n, err := strconv.ParseUint(number, 10, 32)
	return uint32(n), err == nil
}

func (a *arrivals) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cancel != nil {
		a.cancel()
	}
}
