package client

import "sync"

// pump is a queue without a bound between one writer and one reader: init
// sends as much as there are processes, and the reader must not stop the
// answers behind it.
type pump[T any] struct {
	out chan T

	mu     sync.Mutex
	queue  []T
	closed bool
	more   *sync.Cond
	stop   chan struct{}
}

func newPump[T any]() *pump[T] {
	p := &pump[T]{out: make(chan T), stop: make(chan struct{})}
	p.more = sync.NewCond(&p.mu)
	go p.run()
	return p
}

func (p *pump[T]) put(v T) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.queue = append(p.queue, v)
		p.more.Signal()
	}
}

func (p *pump[T]) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.closed = true
		close(p.stop)
		p.more.Signal()
	}
}

func (p *pump[T]) run() {
	defer close(p.out)
	for {
		p.mu.Lock()
		for len(p.queue) == 0 && !p.closed {
			p.more.Wait()
		}
		if p.closed {
			p.mu.Unlock()
			return
		}
		v := p.queue[0]
		p.queue = p.queue[1:]
		p.mu.Unlock()
		select {
		case p.out <- v:
		case <-p.stop:
			return
		}
	}
}
