package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"

	"initd/qemu-tests/peer/config"
	"initd/qemu-tests/peer/dhcp"
	"initd/qemu-tests/peer/keyserver"
	"initd/qemu-tests/peer/lio"
	"initd/qemu-tests/peer/network"
	"initd/qemu-tests/peer/ntp"
	"initd/qemu-tests/peer/nvmet"
	"initd/qemu-tests/peer/router"
)

// peer is a running one.
type peer struct {
	emit  func(any)
	links map[string]string // interface names by MAC address
	nvmet *nvmet.Target     // nil if it is none
	lio   *lio.Machine      // the same

	wg     sync.WaitGroup
	failed chan error // of servers that end by themselves

	mu      sync.Mutex
	configs map[string]keyserver.Config  // by name; guarded by mu
	running map[string]*keyserver.Server // by name; guarded by mu
}

// start brings the network and all servers up and says so.
func start(ctx context.Context, cfg config.Config, emit func(any)) (*peer, error) {
	p := &peer{
		emit: emit, links: map[string]string{}, failed: make(chan error, len(cfg.NTP)+len(cfg.DHCP)+len(cfg.Routers)),
		configs: map[string]keyserver.Config{}, running: map[string]*keyserver.Server{},
	}
	if len(cfg.Links) > 0 {
		names, err := network.Up(ctx, cfg.Links)
		if err != nil {
			return nil, err
		}
		for i, l := range cfg.Links {
			p.links[strings.ToLower(l.MAC)] = names[i]
		}
	}
	for _, k := range cfg.KeyServers {
		p.configs[k.Name] = k
		if err := p.startKeyServer(k); err != nil {
			p.close()
			return nil, err
		}
	}
	for _, c := range cfg.NTP {
		listening := make(chan net.Addr, 1)
		p.run(func() error {
			return ntp.Serve(ctx, c, func(e ntp.Event) { emit(e) }, func(a net.Addr) { listening <- a })
		})
		select {
		case <-listening:
		case err := <-p.failed:
			p.close()
			return nil, err
		}
	}
	for _, c := range cfg.DHCP {
		if err := p.startDHCP(ctx, c); err != nil {
			p.close()
			return nil, err
		}
	}
	for _, c := range cfg.Routers {
		p.run(func() error { return router.Serve(ctx, c) })
	}
	if cfg.NVMet != nil {
		var err error
		if p.nvmet, err = nvmet.Start(ctx, *cfg.NVMet); err != nil {
			p.close()
			return nil, err
		}
	}
	if cfg.LIO != nil {
		var err error
		if p.lio, err = lio.Start(ctx, *cfg.LIO); err != nil {
			p.close()
			return nil, err
		}
	}
	emit(map[string]any{"event": "ready"})
	return p, nil
}

func (p *peer) run(serve func() error) {
	p.wg.Go(func() {
		if err := serve(); err != nil {
			p.failed <- err
		}
	})
}

func (p *peer) startDHCP(ctx context.Context, c dhcp.Config) error {
	name, ok := p.links[strings.ToLower(c.Link)]
	if !ok {
		return fmt.Errorf("dhcp: link %q is none of those configured", c.Link)
	}
	s, err := dhcp.New(c, func(e dhcp.Event) { p.emit(e) })
	if err != nil {
		return err
	}
	p.run(func() error { return s.Serve(ctx, name) })
	return nil
}

func (p *peer) startKeyServer(k keyserver.Config) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running[k.Name] != nil {
		return fmt.Errorf("key server %q runs already", k.Name)
	}
	s, err := keyserver.Start(k, func(e keyserver.Event) { p.emit(e) })
	if err != nil {
		return err
	}
	p.running[k.Name] = s
	return nil
}

// wait returns at the end of ctx, or when a server failed.
func (p *peer) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-p.failed:
		return err
	}
}

func (p *peer) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, s := range p.running {
		s.Close()
		delete(p.running, name)
	}
}

func (p *peer) stopKeyServer(name string) error {
	p.mu.Lock()
	s := p.running[name]
	delete(p.running, name)
	p.mu.Unlock()
	if s == nil {
		return fmt.Errorf("key server %q does not run", name)
	}
	s.Close()
	return nil
}

func (p *peer) hangUp(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.running[name]
	if s == nil {
		return fmt.Errorf("key server %q does not run", name)
	}
	s.HangUp()
	return nil
}

// restart starts a stopped key server; it is not late again.
func (p *peer) restart(name string) error {
	p.mu.Lock()
	k, ok := p.configs[name]
	p.mu.Unlock()
	if !ok {
		return errors.New("no key server is called " + name)
	}
	k.Late = 0
	return p.startKeyServer(k)
}
