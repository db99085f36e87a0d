package nvmet

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// fake is a listener that behaves as no nvmet does.
type fake struct {
	cfg    Fake
	listen net.Listener
	ctx    context.Context

	mu     sync.Mutex
	spoken chan struct{} // closed while it speaks; guarded by mu
}

func startFake(ctx context.Context, cfg Fake) (*fake, error) {
	l, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("nvmet: fake: %w", err)
	}
	f := &fake{cfg: cfg, listen: l, ctx: ctx, spoken: make(chan struct{})}
	context.AfterFunc(ctx, func() { l.Close() })
	go f.serve()
	return f, nil
}

func (f *fake) serve() {
	for {
		c, err := f.listen.Accept()
		if err != nil {
			return
		}
		go f.answer(c)
	}
}

func (f *fake) answer(c net.Conn) {
	defer c.Close()
	f.mu.Lock()
	spoken := f.spoken
	f.mu.Unlock()
	switch f.cfg.Mode {
	case "closing", "garbage":
		select {
		case <-spoken:
		default:
			if f.cfg.Mode == "garbage" {
				_, _ = io.WriteString(c, strings.Repeat("no NVMe at all, ", 20))
			}
			return
		}
	case "late":
		select {
		case <-time.After(time.Duration(f.cfg.Seconds) * time.Second):
		case <-f.ctx.Done():
			return
		}
	default:
		select {
		case <-spoken:
		case <-f.ctx.Done():
			return
		}
	}
	if f.cfg.To == "" {
		return
	}
	to, err := net.Dial("tcp", f.cfg.To)
	if err != nil {
		return
	}
	defer to.Close()
	done := make(chan struct{}, 2)
	pass := func(a, b net.Conn) {
		_, _ = io.Copy(a, b) // either end may go at any time
		done <- struct{}{}
	}
	go pass(to, c)
	go pass(c, to)
	select {
	case <-done:
	case <-f.ctx.Done():
	}
}

// speak ends the silence, or begins it anew for those who come from now on.
func (f *fake) speak(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.spoken:
		if !on {
			f.spoken = make(chan struct{})
		}
	default:
		if on {
			close(f.spoken)
		}
	}
}
