package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"initd/hw/iscsi"
	"initd/initd/cli"
)

// iscsiDiscover is one call of iscsi discover.
type iscsiDiscover struct {
	portal    string
	chapFile  string
	initiator string
	digests   bool
	asJSON    bool
	timeout   time.Duration
}

func iscsiDiscoverCommand() *cobra.Command {
	var d iscsiDiscover
	c := &cobra.Command{
		Use:   "discover HOST[:PORT]",
		Short: "List the targets that a portal offers",
		Long: `Asks a portal for its targets (SendTargets) and prints each with its portals, one a line:
PORTAL,TAG TARGET. It needs no rights, no kernel module and no appliance file. An IPv6 address
with a port stands in brackets: [2001:db8::50]:3260. A portal may show some initiators only:
the name is that of the firmware (iBFT) or of /etc/iscsi/initiatorname.iscsi, or --initiator's.

A file for --chap-file has lines KEY=VALUE: user, secret, and where the target has to prove
itself too mutual-secret and mutual-user. Exit status 0: the portal answered, even with no
target; 1: it did not, or refused; 2: a wrong call or a bad file.`,
		Example: `  initd iscsi discover 192.0.2.50
  initd iscsi discover '[2001:db8::50]:3260' --json
  initd iscsi discover store.example --chap-file /root/chap`,
		Args: cli.Exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			d.portal = args[0]
			return d.run(c.Context(), c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	f.StringVar(&d.chapFile, "chap-file", "", "file with user and secret; - for standard input")
	f.StringVar(&d.initiator, "initiator", "", "initiator name (default: this machine's)")
	f.BoolVar(&d.digests, "digests", false, "ask for CRC32C digests; a target that has none goes without")
	f.BoolVar(&d.asJSON, "json", false, "print the answer as JSON")
	f.DurationVar(&d.timeout, "timeout", 15*time.Second, "how long to wait in all")
	return c
}

// foundJSON is the answer as JSON.
type foundJSON struct {
	Portal    string       `json:"portal"`
	Initiator string       `json:"initiator,omitempty"`
	Targets   []targetJSON `json:"targets"`
	Error     *errorJSON   `json:"error,omitempty"`
}

type targetJSON struct {
	Name    string       `json:"name"`
	Portals []portalJSON `json:"portals"`
}

type portalJSON struct {
	Address string `json:"address"` // HOST:PORT
	iscsi.Portal
}

// errorJSON is a failure as JSON.
type errorJSON struct {
	Code    string `json:"code,omitempty"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

func asErrorJSON(err error) *errorJSON {
	out := &errorJSON{Message: err.Error()}
	if c := (interface{ Code() string })(nil); errors.As(err, &c) {
		out.Code = c.Code()
	}
	if h := (interface{ Hint() string })(nil); errors.As(err, &h) {
		out.Hint = h.Hint()
	}
	return out
}

func (d iscsiDiscover) run(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) error {
	portal, err := iscsi.ParsePortal(d.portal)
	if err != nil {
		return cli.Usage(err)
	}
	name, err := initiatorName(d.initiator)
	if err != nil {
		return cli.Usage(err)
	}
	chap, err := readCHAPFile(d.chapFile, stdin, stderr)
	if err != nil {
		return cli.Usage(err)
	}
	defer chap.Destroy()
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	list, err := iscsi.Discovery{Portal: portal, Initiator: name, CHAP: chap, Digests: d.digests}.Run(ctx)
	var wrong *iscsi.SettingError
	if errors.As(err, &wrong) {
		return cli.Usage(wrong)
	}
	if d.asJSON {
		return d.json(stdout, portal, name, list, err)
	}
	if err != nil {
		return tell(stderr, err)
	}
	for _, t := range list {
		for _, p := range t.Portals {
			tag := ""
			if p.Tag >= 0 {
				tag = "," + strconv.Itoa(p.Tag)
			}
			if _, err := fmt.Fprintf(stdout, "%s%s %s\n", p.Address(), tag, t.Name); err != nil {
				return err
			}
		}
	}
	if len(list) == 0 {
		fmt.Fprintf(stderr, "initd: %s answers, and has no target for %s\n", portal.Address(), name)
	}
	return nil
}

func (d iscsiDiscover) json(stdout io.Writer, portal iscsi.Portal, name string, list []iscsi.Target, failed error) error {
	out := foundJSON{Portal: portal.Address(), Initiator: name, Targets: []targetJSON{}}
	for _, t := range list {
		j := targetJSON{Name: t.Name}
		for _, p := range t.Portals {
			j.Portals = append(j.Portals, portalJSON{p.Address(), p})
		}
		out.Targets = append(out.Targets, j)
	}
	if failed != nil {
		out.Error = asErrorJSON(failed)
	}
	if err := writeJSON(stdout, out); err != nil {
		return err
	}
	if failed != nil {
		return exitCode(1)
	}
	return nil
}

// tell prints a failure with its code and what to do.
func tell(stderr io.Writer, err error) error {
	j := asErrorJSON(err)
	fmt.Fprintf(stderr, "initd: %s", j.Message)
	if j.Code != "" {
		fmt.Fprintf(stderr, " [%s]", j.Code)
	}
	fmt.Fprintln(stderr)
	if j.Hint != "" {
		fmt.Fprintf(stderr, "hint: %s\n", j.Hint)
	}
	return exitCode(1)
}

// initiatorName is what was said, or this machine's.
func initiatorName(said string) (string, error) {
	if said != "" {
		return said, nil
	}
	name, _, err := iscsi.InitiatorName(os.DirFS("/"))
	if err != nil {
		return "", fmt.Errorf("%w, or with --initiator", err)
	}
	return name, nil
}

// readCHAPFile reads a file of secrets; "" gives none.
func readCHAPFile(path string, stdin io.Reader, stderr io.Writer) (*iscsi.CHAP, error) {
	if path == "" {
		return nil, nil
	}
	from := stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("--chap-file: %w", err)
		}
		defer f.Close()
		noteReaders(stderr, path)
		from = f
	}
	c, err := iscsi.ReadCHAP(from)
	if err != nil {
		return nil, fmt.Errorf("--chap-file %s: %w", path, err)
	}
	if c.Short() {
		fmt.Fprintf(stderr, "initd: a secret in %s has fewer than %d bytes, so that who hears a login can guess it\n", path, iscsi.SafeSecret)
	}
	return c, nil
}
