package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"initd/hw/nvmeof"
	"initd/hw/secret"
	"initd/hw/sysfs"
	"initd/initd/cli"
)

func nvmeCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "nvme",
		Short: "Find NVMe subsystems over TCP, connect to them and disconnect",
		Long: `NVMe over TCP by hand, on any machine and without an appliance file. A PORTAL is ADDRESS[:PORT] or
tcp://ADDRESS[:PORT], with IPv6 addresses in brackets where a port follows. This machine is the host that /etc/nvme/hostnqn and hostid say,
or else the one of its firmware's UUID. Secrets come from files only.`,
		Args: cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(nvmeDiscoverCommand(), nvmeConnectCommand(), nvmeListCommand(), nvmeDisconnectCommand())
	return c
}

// etcNVMe is where a machine's identity lies (nvme-cli's own place).
const etcNVMe = "/etc/nvme"

// nvmeSide is what this machine brings to a connection: flags that discover and connect share.
type nvmeSide struct {
	hostNQN, hostID        string
	hostAddress, hostIface string
	secretFile, ctrlFile   string
	asJSON                 bool
	timeout                time.Duration
	root                   string // tests read another tree than /
	secret, ctrl           *secret.Buffer
}

func (s *nvmeSide) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&s.hostNQN, "host-nqn", "", "this machine's name (default: of /etc/nvme/hostnqn, or of its UUID)")
	f.StringVar(&s.hostID, "host-id", "", "this machine's UUID; goes with --host-nqn")
	f.StringVar(&s.hostAddress, "host-address", "", "address of this machine to connect from")
	f.StringVar(&s.hostIface, "host-interface", "", "interface of this machine to connect through")
	f.StringVar(&s.secretFile, "dhchap-secret-file", "", "file with this machine's secret (DHHC-1:…); - for standard input")
	f.BoolVar(&s.asJSON, "json", false, "print the answer as JSON")
	f.DurationVar(&s.timeout, "timeout", 12*time.Second, "how long to wait until a portal answers")
	f.StringVar(&s.root, "root", "/", "")
	_ = f.MarkHidden("root")
}

// host finds this machine's identity.
func (s *nvmeSide) host(stderr io.Writer) (nvmeof.Host, error) {
	if s.hostNQN != "" || s.hostID != "" {
		h := nvmeof.Host{NQN: s.hostNQN, ID: strings.ToLower(s.hostID)}
		if h.NQN == "" {
			h.NQN = nvmeof.HostOf(h.ID).NQN
		}
		if h.ID == "" {
			uuid, ok := strings.CutPrefix(h.NQN, nvmeof.HostOf("").NQN)
			if !ok {
				return h, cli.Usage(errors.New("--host-nqn: a name that is not made of a UUID needs --host-id too"))
			}
			h.ID = uuid
		}
		if err := h.Check(); err != nil {
			return h, cli.Usage(err)
		}
		return h, nil
	}
	f, err := sysfs.Open(s.root)
	if err != nil {
		return nvmeof.Host{}, err
	}
	defer f.Close()
	h, from, err := nvmeof.Identity{Sys: f, Dirs: []string{etcNVMe}, Keep: etcNVMe}.Find()
	if err != nil && from != "" {
		fmt.Fprintf(stderr, "initd: note: %v\n", err) // it serves for this once
		err = nil
	}
	return h, err
}

// targets reads the portals.
func (s *nvmeSide) targets(nqn string, port uint16, portals []string) ([]nvmeof.Target, error) {
	var from netip.Addr
	if s.hostAddress != "" {
		var err error
		if from, err = netip.ParseAddr(s.hostAddress); err != nil {
			return nil, cli.Usage(fmt.Errorf("--host-address: %q is no address", s.hostAddress))
		}
	}
	var list []nvmeof.Target
	for _, text := range portals {
		a, err := nvmeof.ParsePlace(text, port)
		if err != nil {
			return nil, cli.Usage(err)
		}
		t := nvmeof.Target{NQN: nqn, Addr: a, HostAddr: from.Unmap(), HostIface: s.hostIface}
		if err := t.Check(); err != nil {
			return nil, cli.Usage(err)
		}
		list = append(list, t)
	}
	return list, nil
}

// readSecrets reads the files with secrets, and checks their form.
func (s *nvmeSide) readSecrets(stdin io.Reader, stderr io.Writer) error {
	if s.secretFile == "" && s.ctrlFile == "" {
		return nil
	}
	if s.ctrlFile != "" && s.secretFile == "" {
		return cli.Usage(errors.New("--dhchap-ctrl-secret-file: the subsystem proves itself only to a host that does, too: --dhchap-secret-file is missing"))
	}
	if s.secretFile == "-" && s.ctrlFile == "-" {
		return cli.Usage(errors.New("standard input can hold one secret only"))
	}
	if err := secret.ProtectProcess(); errors.Is(err, secret.ErrNotLocked) && swapInUse() {
		fmt.Fprintln(stderr, "initd: note: memory cannot be locked here, so traces of the secret may reach swap; root can lock it")
	} else if err != nil && !errors.Is(err, secret.ErrNotLocked) {
		return err
	}
	for _, x := range []struct {
		file string
		to   **secret.Buffer
	}{{s.secretFile, &s.secret}, {s.ctrlFile, &s.ctrl}} {
		if x.file == "" {
			continue
		}
		b, err := readKeyFile(x.file, stdin)
		if err != nil {
			return cli.Usage(err)
		}
		*x.to = b
		if _, err := nvmeof.CheckSecret(b); err != nil {
			return cli.Usage(fmt.Errorf("%s: %w", cmp.Or(strings.TrimPrefix(x.file, "-"), "standard input"), err))
		}
		noteReaders(stderr, x.file) // there is none called - here
	}
	return nil
}

func (s *nvmeSide) wipe() {
	s.secret.Destroy()
	s.ctrl.Destroy()
}

// loadNVMe loads the kernel's part; it is there, or comes with the first connection, on most machines.
func loadNVMe(ctx context.Context) error {
	if _, err := os.Stat("/dev/nvme-fabrics"); err == nil {
		return nil
	}
	return loadFabric(ctx, "connections to NVMe over TCP", "nvme-tcp")
}

// needRoot says early what would fail late.
func needRoot(what string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%s needs root", what)
	}
	return nil
}
