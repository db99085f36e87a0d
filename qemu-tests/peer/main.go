// Peer is the other machine of a test: it runs KMIP servers, SNTP servers and
// DHCPv4 servers with the manners that a configuration asks for, and tells
// what it is asked as JSON lines.
//
// As process 1 of a virtual machine it mounts the kernel's file systems, loads
// the modules of its image, configures its links from /peer.json, and speaks on
// the event port; there it also hears commands (see package config). Anywhere else
// it is given the configuration by path, configures no network, and speaks on
// standard output. It owns no protocol: those are in the packages below.
//
// Events, besides those of keyserver, ntp and dhcp: {"event":"boot"},
// {"event":"ready"} when all that is not late listens, {"event":"done","do":…},
// {"event":"broken","error":…} when it cannot go on, {"event":"end"}.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"initd/qemu-tests/guest/event"
	"initd/qemu-tests/guest/kernel"
	"initd/qemu-tests/guest/life"
	"initd/qemu-tests/guest/plan"
	"initd/qemu-tests/peer/config"
)

func main() {
	if os.Getpid() == 1 {
		// Every signal is taken: one that is not would be a kernel panic in process 1.
		signals := make(chan os.Signal, 16)
		signal.Notify(signals)
		life.Live("peer", func(port *event.Port) error { return guest(port, signals) })
		return
	}
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: peer CONFIG.json")
		os.Exit(2)
	}
	if err := loopback(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

// guest is the work of a machine's first process.
func guest(port *event.Port, signals <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		for s := range signals {
			if s == unix.SIGTERM || s == unix.SIGINT { // ctrl-alt-del, or the power button
				cancel()
			}
		}
	}()
	return inGuest(ctx, cancel, port)
}

func inGuest(ctx context.Context, cancel context.CancelFunc, port *event.Port) error {
	emit := func(v any) { emitTo(port, v) }
	if err := port.Emit("boot", nil); err != nil {
		return err
	}
	if err := kernel.LoadModules(plan.Modules); err != nil {
		return err
	}
	cfg, err := readConfig(config.Path)
	if err != nil {
		return err
	}
	p, err := start(ctx, cfg, emit)
	if err != nil {
		return err
	}
	defer p.close()
	go p.listenTo(port, cancel)
	return p.wait(ctx)
}

// emitTo sends any of the events as the port frames them.
func emitTo(port *event.Port, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		return
	}
	var members map[string]any
	if json.Unmarshal(data, &members) != nil {
		return
	}
	name, _ := members["event"].(string)
	delete(members, "event")
	if err := port.Emit(name, members); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
	}
}

// loopback runs the servers of a configuration until a signal ends it.
func loopback(path string) error {
	cfg, err := readConfig(path)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	emit := func(v any) {
		mu.Lock()
		defer mu.Unlock()
		if err := out.Encode(v); err != nil {
			stop()
		}
	}
	cfg.Links = nil
	p, err := start(ctx, cfg, emit)
	if err != nil {
		return err
	}
	defer p.close()
	return p.wait(ctx)
}

func readConfig(path string) (config.Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return config.Config{}, err
	}
	var cfg config.Config
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(&cfg); err != nil {
		return config.Config{}, fmt.Errorf("read %s: %w", path, err)
	}
	return cfg, nil
}
