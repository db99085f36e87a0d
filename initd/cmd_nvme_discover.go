package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"initd/hw/nvmeof"
	"initd/initd/cli"
)

func nvmeDiscoverCommand() *cobra.Command {
	var s nvmeSide
	referrals := true
	c := &cobra.Command{
		Use:   "discover PORTAL...",
		Short: "Show what discovery controllers list for this machine",
		Long: `Asks the discovery controller at each PORTAL (port 8009 unless it says another; any port of a target will do)
what this machine may connect to there, and follows its referrals. Nothing stays connected.
Exit status 0: all portals answered; 1: one did not; 2: a wrong call or a bad file.`,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cli.Misused(c)
			}
			portals, err := s.targets(nvmeof.DiscoveryNQN, nvmeof.DiscoveryPort, args)
			if err != nil {
				return err
			}
			found, end, err := s.ask(c.Context(), portals, referrals, c.ErrOrStderr())
			if err == nil {
				err = end()
			}
			if err != nil {
				return orJSON(c.OutOrStdout(), s.asJSON, "portals", err)
			}
			return s.showFound(found, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	s.flags(c)
	c.Flags().Lookup("dhchap-secret-file").Hidden = true // discovery controllers of today ask for none
	c.Flags().BoolVar(&referrals, "referrals", true, "ask the portals that others refer to, too")
	return c
}

// ask asks portals; what one of them answers, or that it does not, stands in its Found.
// end returns when nothing of the question is left.
func (s *nvmeSide) ask(ctx context.Context, portals []nvmeof.Target, referrals bool, stderr io.Writer) (found []nvmeof.Found, end func() error, err error) {
	host, err := s.host(stderr)
	if err != nil {
		return nil, nil, err
	}
	if err := needRoot("a question to a discovery controller"); err != nil {
		return nil, nil, err
	}
	if err := loadNVMe(ctx); err != nil {
		return nil, nil, err
	}
	d := &nvmeof.Discoverer{Request: nvmeof.Request{Host: host}, Referrals: referrals, Look: s.look}
	return d.Run(ctx, portals), d.Wait, nil
}

func (s *nvmeSide) look(ctx context.Context, t nvmeof.Target, o nvmeof.Options) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return nvmeof.Probe(ctx, t, o)
}

// nvmeFoundJSON is what one portal said.
type nvmeFoundJSON struct {
	nvmeof.Found
	outcome
}

func (s *nvmeSide) showFound(found []nvmeof.Found, stdout, stderr io.Writer) error {
	out := []nvmeFoundJSON{}
	for _, f := range found {
		if f.Err != nil && !s.asJSON {
			_ = tell(stderr, f.Err)
		}
		out = append(out, nvmeFoundJSON{Found: f, outcome: outcome{failed: f.Err}})
	}
	return tellOutcomes(stdout, s.asJSON, "portals", out, func(j *nvmeFoundJSON) *outcome { return &j.outcome }, func() error { return printFound(stdout, found) })
}

func printFound(out io.Writer, found []nvmeof.Found) error {
	w := &strings.Builder{}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range found {
		if f.Err != nil {
			continue
		}
		fmt.Fprintf(t, "%s", f.Portal)
		if f.Via.IsValid() {
			fmt.Fprintf(t, " (by %s)", f.Via)
		}
		fmt.Fprintln(t)
		for _, e := range f.Log.Entries {
			note := ""
			switch {
			case e.Kind == nvmeof.KindReferral:
				note = "referral"
			case e.Kind == nvmeof.KindSelf:
				note = "this discovery controller"
			case e.Kind != nvmeof.KindNVM:
				note = e.Kind
			}
			if e.TLS != "" {
				note += " TLS"
			}
			fmt.Fprintf(t, "  %s\t%s://%s\t%s\n", e.NQN, e.Transport, hostPortText(e.Address, e.Service), note)
		}
		if len(f.Log.Entries) == 0 {
			fmt.Fprintln(t, "  nothing for this host")
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return writeTrimmed(out, w.String())
}
