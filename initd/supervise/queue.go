package supervise

import (
	"context"
	"fmt"
	"sync"
)

// queue hands lines to a sink, in order, and drops what is too much.
type queue struct {
	mu      sync.Mutex
	lines   []queued
	dropped map[string]int
	more    chan struct{}
}

type queued struct{ service, line string }

func newQueue() *queue { return &queue{more: make(chan struct{}, 1), dropped: map[string]int{}} }

func (q *queue) put(service, line string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.lines) >= maxWaits {
		q.dropped[service]++
		return
	}
	q.lines = append(q.lines, queued{service, line})
	select {
	case q.more <- struct{}{}:
	default:
	}
}

// run feeds the sink until ctx ends.
func (q *queue) run(ctx context.Context, s Sink) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.more:
		}
		for _, l := range q.take() {
			if s != nil {
				s.Line(l.service, l.line)
			}
		}
	}
}

func (q *queue) take() []queued {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := q.lines
	q.lines = nil
	for name, n := range q.dropped {
		list = append(list, queued{name, fmt.Sprintf("(%d lines dropped)", n)})
	}
	clear(q.dropped)
	return list
}
