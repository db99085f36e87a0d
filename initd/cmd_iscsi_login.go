package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"initd/hw/iscsi"
	"initd/initd/cli"
)

// iscsiLogin is one call of iscsi login.
type iscsiLogin struct {
	target    string
	portals   []string
	discover  string
	luns      []uint
	allLUNs   bool
	chapFile  string
	initiator string
	options   []string
	iface     string
	source    string
	asJSON    bool
	timeout   time.Duration
	run       string
}

func iscsiLoginCommand() *cobra.Command {
	var l iscsiLogin
	c := &cobra.Command{
		Use:   "login TARGET PORTAL... | --discover PORTAL",
		Short: "Log in to a target, by one or several portals at once",
		Long: `Logs in to TARGET at each PORTAL (HOST[:PORT]), a session each, all at once: a portal that is dead
holds no other up. With --discover it logs in to every target that a portal lists, at every portal of theirs.
A session that is there already is left as it is. Without --lun and --all-luns LUN 0 is looked for.

Parameters are set by -o KEY=VALUE:
` + optionsText() + `
The secrets of --chap-file are read again for each new connection, so the file has to stay. After a lost connection a
session is made anew by a running initd boot, or by initd iscsi keep.
Exit status 0: all sessions are there; 1: one is not, or has not the LUN; 2: a wrong call or a bad file.`,
		RunE: func(c *cobra.Command, args []string) error {
			var err error
			if l.target, l.portals, err = targetOrDiscovery(c, args, l.discover); err != nil {
				return err
			}
			return orJSON(c.OutOrStdout(), l.asJSON, "sessions", l.do(c.Context(), c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr()))
		},
	}
	f := c.Flags()
	f.StringVar(&l.discover, "discover", "", "log in to everything that the portal HOST[:PORT] lists")
	f.UintSliceVar(&l.luns, "lun", nil, "LUN to look for; may be given again")
	f.BoolVar(&l.allLUNs, "all-luns", false, "look for all LUNs")
	f.StringVar(&l.chapFile, "chap-file", "", "file with user and secret, as for initd iscsi discover")
	f.StringVar(&l.initiator, "initiator", "", "initiator name (default: this machine's)")
	f.StringArrayVarP(&l.options, "option", "o", nil, "parameter KEY=VALUE; may be given again")
	f.StringVar(&l.iface, "interface", "", "network interface to connect over")
	f.StringVar(&l.source, "source", "", "address of this machine to connect from")
	f.BoolVar(&l.asJSON, "json", false, "print the answer as JSON")
	f.DurationVar(&l.timeout, "timeout", 45*time.Second, "how long to wait for each session")
	f.StringVar(&l.run, "run", "/run/initd", "where sessions are remembered")
	return c
}

// optionsText lists the parameters, one a line.
func optionsText() string {
	var b strings.Builder
	for _, o := range iscsi.Options() {
		fmt.Fprintf(&b, "  %-21s %s\n", o.Name, o.Doc)
	}
	return b.String()
}

// sessionJSON is what became of one session.
type sessionJSON struct {
	Target  string         `json:"target"`
	Portal  string         `json:"portal"`
	Already bool           `json:"already,omitempty"` // it was there
	Session *iscsi.Session `json:"session,omitempty"`
	outcome
}

func (l *iscsiLogin) do(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) error {
	if l.chapFile == "-" {
		return cli.Usage(errors.New("--chap-file: a session needs its secrets again after a lost connection; name a file"))
	}
	chap, err := readCHAPFile(l.chapFile, stdin, stderr)
	if err != nil {
		return cli.Usage(err)
	}
	defer chap.Destroy()
	if l.chapFile != "" {
		if l.chapFile, err = filepath.Abs(l.chapFile); err != nil {
			return err
		}
	}
	wanted, err := l.wanted(ctx, chap)
	if err != nil {
		if cli.IsUsage(err) || l.asJSON {
			return err
		}
		return tell(stderr, err)
	}
	h, err := openISCSI(ctx, l.run, true)
	if err != nil {
		return err
	}
	defer h.Close()
	results := make([]sessionJSON, len(wanted))
	var wg sync.WaitGroup
	for i, c := range wanted {
		wg.Go(func() { results[i] = l.one(ctx, h, c, chap) })
	}
	wg.Wait()
	err = l.report(results, stdout, stderr)
	if len(results) > 0 && !iscsi.RecordsAt(l.run).Kept() {
		fmt.Fprintln(stderr, "initd: nothing on this machine makes a lost connection anew; initd iscsi keep does")
	}
	return err
}

// wanted says which sessions are asked for.
func (l *iscsiLogin) wanted(ctx context.Context, chap *iscsi.CHAP) ([]iscsi.Config, error) {
	base := iscsi.Config{Target: l.target, AllLUNs: l.allLUNs, Interface: l.iface, Source: l.source}
	for _, n := range l.luns {
		base.LUNs = append(base.LUNs, uint64(n))
	}
	if len(base.LUNs) == 0 && !base.AllLUNs {
		base.LUNs = []uint64{0}
	}
	for _, o := range l.options {
		k, v, ok := strings.Cut(o, "=")
		if !ok {
			return nil, cli.Usage(fmt.Errorf("-o %s: write KEY=VALUE", o))
		}
		if err := base.Set(k, v); err != nil {
			return nil, cli.Usage(fmt.Errorf("-o %w", err))
		}
	}
	var err error
	if base.Initiator, err = initiatorName(l.initiator); err != nil {
		return nil, cli.Usage(err)
	}
	var list []iscsi.Config
	if l.discover != "" {
		if list, err = l.found(ctx, base, chap); err != nil {
			return nil, err
		}
	}
	for _, text := range l.portals {
		c := base
		if c.Portal, err = iscsi.ParsePortal(text); err != nil {
			return nil, cli.Usage(err)
		}
		list = append(list, c)
	}
	for _, c := range list {
		if err := c.Check(); err != nil {
			return nil, cli.Usage(err)
		}
	}
	return list, nil
}

func (l *iscsiLogin) found(ctx context.Context, base iscsi.Config, chap *iscsi.CHAP) ([]iscsi.Config, error) {
	at, err := iscsi.ParsePortal(l.discover)
	if err != nil {
		return nil, cli.Usage(err)
	}
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	targets, err := iscsi.Discovery{Portal: at, Initiator: base.Initiator, CHAP: chap}.Run(ctx)
	if err != nil {
		return nil, err
	}
	var list []iscsi.Config
	for _, t := range targets {
		for _, p := range t.Portals {
			c := base
			c.Target, c.Portal = t.Name, p
			list = append(list, c)
		}
	}
	return list, nil
}

// one makes one session, unless it is there.
func (l *iscsiLogin) one(ctx context.Context, h *iscsi.Host, c iscsi.Config, chap *iscsi.CHAP) sessionJSON {
	out := sessionJSON{Target: c.Target, Portal: c.Portal.Address()}
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	list, err := iscsi.SessionsOf(h.Sys, c.Target)
	if err != nil {
		out.failed = err
		return out
	}
	for _, s := range list {
		if s.Portal == c.Portal.Address() && s.Initiator == c.Initiator {
			out.Already, out.Session = true, &s
			if !s.Ours() {
				return out
			}
			// it may be asked for other LUNs than before
			rec := iscsi.Record{Session: s.ID, Host: s.Host, Config: c}
			out.failed = h.Kernel.Scan(ctx, rec)
			out.refresh(h, s.ID)
			return out
		}
	}
	rec, err := h.Kernel.Login(ctx, c, chap, func(r iscsi.Record) error {
		r.File = l.chapFile
		return h.Records.Write(r)
	})
	out.failed = err
	var missing *iscsi.NoLUNError
	if err == nil || errors.As(err, &missing) {
		out.refresh(h, rec.Session)
	} else if rec.ISID != "" {
		out.failed = errors.Join(err, h.Records.Remove(rec.ISID))
	}
	return out
}

func (s *sessionJSON) refresh(h *iscsi.Host, id uint32) {
	if now, err := iscsi.ReadSession(h.Sys, id); err == nil {
		s.Session = &now
	}
}

func (l *iscsiLogin) report(results []sessionJSON, stdout, stderr io.Writer) error {
	return tellOutcomes(stdout, l.asJSON, "sessions", results, func(r *sessionJSON) *outcome { return &r.outcome }, func() error {
		for _, r := range results {
			if r.Session != nil {
				fmt.Fprintf(stdout, "session %d: %s at %s: %s\n", r.Session.ID, r.Target, r.Portal, disksText(r.Session.Disks))
			}
			if r.failed != nil {
				_ = tell(stderr, r.failed)
			}
		}
		return nil
	})
}

func disksText(disks []iscsi.Disk) string {
	if len(disks) == 0 {
		return "no disks"
	}
	var words []string
	for _, d := range disks {
		words = append(words, fmt.Sprintf("LUN %d is %s", d.LUN, d.Node()))
	}
	return strings.Join(words, ", ")
}
