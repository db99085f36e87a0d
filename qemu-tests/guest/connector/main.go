// Connector measures how long it takes to connect to many NVMe subsystems in one machine: with initd's command, with nvme-cli's
// connect-all, and by bare writes to the kernel, one round after another. It owns nothing but its printed lines, "NAME took N ns", and
// leaves nothing connected.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"time"

	"initd/hw/link"
	"initd/hw/nvmeof"
	"initd/hw/sysfs"
	"initd/qemu-tests/peer/nvmet"
)

func main() {
	count := flag.Int("count", 16, "subsystems")
	rounds := flag.Int("rounds", 5, "rounds of each")
	flag.Parse()
	if err := run(*count, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "connector:", err)
		os.Exit(1)
	}
}

const portal = "127.0.0.1:4420"

func run(count, rounds int) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := link.LoopbackUp(); err != nil {
		return err
	}
	cfg := nvmet.Config{Ports: []nvmet.Port{{ID: 1, Address: "127.0.0.1", Service: "4420"}}}
	for i := range count {
		nqn := fmt.Sprintf("nqn.2026-01.net.example:f%02d", i)
		cfg.Subsystems = append(cfg.Subsystems, nvmet.Subsystem{NQN: nqn, Namespaces: []nvmet.Namespace{{ID: 1, FileMiB: 1}}})
		cfg.Ports[0].Subsystems = append(cfg.Ports[0].Subsystems, nqn)
	}
	if _, err := nvmet.Start(ctx, cfg); err != nil {
		return err
	}
	f, err := sysfs.Open("/")
	if err != nil {
		return err
	}
	defer f.Close()
	ways := []struct {
		name string
		do   func() error
	}{
		{"bare", func() error { return bare(cfg) }},
		{"ours", func() error { return program("/usr/bin/initd", "nvme", "connect", "--discover", portal) }},
		{"theirs", func() error { return program("nvme", "connect-all", "-t", "tcp", "-a", "127.0.0.1", "-s", "4420") }},
	}
	for range rounds {
		for _, w := range ways {
			start := time.Now()
			if err := w.do(); err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			took := time.Since(start)
			n, err := away(f)
			if err == nil && n != count {
				err = fmt.Errorf("%d connected, want %d", n, count)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			fmt.Printf("%s took %d ns\n", w.name, took.Nanoseconds())
		}
	}
	return nil
}

// bare tells the kernel what it needs to know and nothing else: without discovery, and without a look first.
func bare(cfg nvmet.Config) error {
	host := nvmeof.HostOf("6d6b1c5e-7c0f-4c38-9d31-0f8ab6a6a3f5")
	for _, s := range cfg.Subsystems {
		_, err := nvmeof.Connect(nvmeof.Request{Host: host, Options: nvmeof.Steadfast(), Target: nvmeof.Target{NQN: s.NQN, Addr: netip.MustParseAddrPort(portal)}})
		if err != nil {
			return err
		}
	}
	return nil
}

func program(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// away disconnects everything and counts the disks' controllers.
func away(f *sysfs.FS) (int, error) {
	list, err := nvmeof.Controllers(f)
	n := 0
	for _, c := range list {
		if c.Type != "discovery" {
			n++
		}
		err = errors.Join(err, nvmeof.Disconnect("/", c.Name))
	}
	return n, err
}
