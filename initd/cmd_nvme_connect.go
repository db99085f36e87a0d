package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"initd/hw/nvmeof"
	"initd/hw/sysfs"
	"initd/initd/cli"
)

// nvmeConnect is one call of nvme connect.
type nvmeConnect struct {
	nvmeSide
	nqn      string
	portals  []string
	discover string
	options  nvmeof.Options
	ctrlLoss string
	fastFail string
	policy   string
}

func nvmeConnectCommand() *cobra.Command {
	n := nvmeConnect{options: nvmeof.Steadfast()}
	c := &cobra.Command{
		Use:   "connect NQN PORTAL... | --discover PORTAL",
		Short: "Connect to a subsystem, by one or several portals",
		Long: `Connects to the subsystem NQN at each PORTAL, or, with --discover, to every subsystem that the discovery
controller at PORTAL lists. All portals are looked at together, then those that answer are connected one after another, as
the kernel does it anyway: a portal that is dead holds no other up. A connection that is there already is left as it is.

Without options it suits a disk that must never fail: the kernel tries again every 2 s for ever, and I/O waits meanwhile.
Exit status 0: all connections are there; 1: one is not; 2: a wrong call or a bad file.`,
		RunE: func(c *cobra.Command, args []string) error {
			var err error
			if n.nqn, n.portals, err = targetOrDiscovery(c, args, n.discover); err != nil {
				return err
			}
			defer n.wipe()
			return orJSON(c.OutOrStdout(), n.asJSON, "connections", n.run(c.Context(), c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr()))
		},
	}
	n.flags(c)
	f := c.Flags()
	f.StringVar(&n.discover, "discover", "", "connect to everything that the portal ADDRESS[:8009] lists")
	f.StringVar(&n.ctrlFile, "dhchap-ctrl-secret-file", "", "file with the subsystem's secret, which it has to prove that it has")
	f.IntVar(&n.options.Queues, "queues", 0, "I/O queues (default: one a CPU)")
	f.IntVar(&n.options.WriteQueues, "write-queues", 0, "queues for writes alone")
	f.IntVar(&n.options.PollQueues, "poll-queues", 0, "queues that are polled")
	f.IntVar(&n.options.QueueSize, "queue-size", 0, "commands a queue holds, 16 to 1024 (default 128)")
	f.DurationVar(&n.options.KeepAlive, "keep-alive", n.options.KeepAlive, "a silent controller is noticed within this time")
	f.DurationVar(&n.options.ReconnectDelay, "reconnect-delay", n.options.ReconnectDelay, "between the kernel's attempts")
	f.StringVar(&n.ctrlLoss, "ctrl-loss", "never", "after this time without a controller the disk is removed")
	f.StringVar(&n.fastFail, "fast-io-fail", "never", "after this time without any path I/O fails instead of waiting")
	f.BoolVar(&n.options.HeaderDigest, "header-digest", false, "checksums over headers")
	f.BoolVar(&n.options.DataDigest, "data-digest", false, "checksums over data")
	f.IntVar(&n.options.TOS, "tos", 0, "type of service of the TCP connections")
	f.BoolVar(&n.options.TLS, "tls", false, "TLS with a pre-shared key; needs a handshake daemon (tlshd)")
	f.Int32Var(&n.options.Keyring, "keyring", 0, "serial number of the keyring with the key for TLS (default: .nvme)")
	f.Int32Var(&n.options.TLSKey, "tls-key", 0, "serial number of the key for TLS")
	f.StringVar(&n.policy, "io-policy", "", "how paths share the work: numa, round-robin or queue-depth")
	return c
}

// connectedJSON is what became of one path.
type connectedJSON struct {
	NQN        string             `json:"nqn"`
	Portal     string             `json:"portal"`
	Already    bool               `json:"already,omitempty"` // it was there
	Controller *nvmeof.Controller `json:"controller,omitempty"`
	outcome
}

func (n *nvmeConnect) run(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) error {
	if err := n.readOptions(); err != nil {
		return cli.Usage(err)
	}
	list, err := n.targets(n.nqn, nvmeof.Port, n.portals)
	if err != nil {
		return err
	}
	if err := n.readSecrets(stdin, stderr); err != nil {
		return err
	}
	host, err := n.host(stderr)
	if err != nil {
		return err
	}
	if err := needRoot("a connection to NVMe over TCP"); err != nil {
		return err
	}
	if err := loadNVMe(ctx); err != nil {
		return err
	}
	bad, looks := false, &nvmeof.Looks{}
	if n.discover != "" {
		portals, err := n.targets(nvmeof.DiscoveryNQN, nvmeof.DiscoveryPort, []string{n.discover})
		if err != nil {
			return err
		}
		found, end, err := n.ask(ctx, portals, true, stderr)
		if err != nil {
			return err
		}
		defer func() {
			if err := end(); err != nil {
				fmt.Fprintf(stderr, "initd: note: %v\n", err)
			}
		}()
		for _, f := range found {
			if f.Err != nil {
				bad = true
				_ = tell(stderr, f.Err)
				continue
			}
			looks.Answers(nvmeof.Target{Addr: f.Portal, HostAddr: portals[0].HostAddr, HostIface: portals[0].HostIface}, nvmeof.Options{}) // it was asked without digests, and without TLS
		}
		var problems []string
		list, problems = nvmeof.Subsystems(found, portals[0])
		for _, p := range problems {
			fmt.Fprintf(stderr, "initd: note: %s\n", p)
		}
	}
	results, err := n.all(ctx, host, list, looks)
	if err != nil {
		return err
	}
	return n.report(results, bad, stdout, stderr)
}

func (n *nvmeConnect) readOptions() error {
	for _, x := range []struct {
		flag, text string
		to         *time.Duration
		never      time.Duration
	}{{"--ctrl-loss", n.ctrlLoss, &n.options.CtrlLoss, -1}, {"--fast-io-fail", n.fastFail, &n.options.FastIOFail, 0}} {
		if x.text == "never" {
			*x.to = x.never
			continue
		}
		d, err := time.ParseDuration(x.text)
		if err != nil || d < time.Second {
			return fmt.Errorf("%s %q: write never, or a duration of a second at least, such as 10m", x.flag, x.text)
		}
		*x.to = d
	}
	switch n.policy {
	case "", "numa", "round-robin", "queue-depth":
	default:
		return fmt.Errorf("--io-policy %q: write numa, round-robin or queue-depth", n.policy)
	}
	return n.options.Check()
}

// all looks at every portal at once and connects those that answer.
func (n *nvmeConnect) all(ctx context.Context, host nvmeof.Host, list []nvmeof.Target, looks *nvmeof.Looks) ([]connectedJSON, error) {
	f, err := sysfs.Open("/")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	results := make([]connectedJSON, len(list))
	var wg sync.WaitGroup
	var one sync.Mutex // as the kernel has it
	for i, t := range list {
		results[i] = connectedJSON{NQN: t.NQN, Portal: t.URL()}
		wg.Go(func() {
			r := &results[i]
			c, there := nvmeof.Adopt(f, t, host)
			if !there {
				look, cancel := context.WithTimeout(ctx, n.timeout)
				defer cancel()
				if r.failed = looks.Probe(look, t, n.options); r.failed != nil {
					return
				}
				one.Lock()
				var name string
				name, r.failed = nvmeof.Connect(nvmeof.Request{Target: t, Host: host, Options: n.options, Secret: n.secret, CtrlSecret: n.ctrl})
				one.Unlock()
				if r.failed != nil {
					return
				}
				// Made by a person: nobody's own, whatever a controller of this name was before.
				if r.failed = nvmeof.Forget("/", name); r.failed != nil {
					return
				}
				c.Name = name
				if n.asJSON { // else its name says enough
					if c, r.failed = nvmeof.ReadController(f, name); r.failed != nil {
						return
					}
				}
			}
			r.Already, r.Controller = there, &c
			if n.policy == "" {
				return
			}
			if s, ok := nvmeof.Find(f, t.NQN); ok {
				r.failed = nvmeof.SetIOPolicy("/", s.Name, n.policy)
			}
		})
	}
	wg.Wait()
	return results, nil
}

func (n *nvmeConnect) report(results []connectedJSON, failed bool, stdout, stderr io.Writer) error {
	err := tellOutcomes(stdout, n.asJSON, "connections", results, func(r *connectedJSON) *outcome { return &r.outcome }, func() error {
		t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
		for _, r := range results {
			switch {
			case r.failed != nil:
				_ = tell(stderr, r.failed)
			case r.Already:
				fmt.Fprintf(t, "%s\t%s\t%s\twas there\n", r.Controller.Name, r.Portal, r.NQN)
			default:
				fmt.Fprintf(t, "%s\t%s\t%s\tconnected\n", r.Controller.Name, r.Portal, r.NQN)
			}
		}
		if len(results) == 0 && !failed {
			fmt.Fprintln(stderr, "initd: nothing to connect to: the log lists no subsystem for this host")
		}
		return t.Flush()
	})
	if err == nil && failed {
		return exitCode(1)
	}
	return err
}

// hostPortText joins what a target lists, whatever it is.
func hostPortText(host, port string) string {
	if strings.Contains(host, ":") {
		return net.JoinHostPort(host, port)
	}
	return host + ":" + port
}
