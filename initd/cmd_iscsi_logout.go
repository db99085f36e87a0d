package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"initd/hw/iscsi"
	"initd/hw/sysfs"
)

// iscsiLogout is one call of iscsi logout.
type iscsiLogout struct {
	target, portal string
	all, force     bool
	asJSON         bool
	timeout        time.Duration
	run            string
}

func iscsiLogoutCommand() *cobra.Command {
	var l iscsiLogout
	c := &cobra.Command{
		Use:   "logout TARGET [PORTAL] | --all",
		Short: "Log out of a target",
		Long: `Ends the sessions to TARGET, or the one at PORTAL, or all of them that initd made. A session whose disks are
mounted, mapped or swapped to stays, unless --force is given: then I/O on it fails. A target that does not answer
holds this up no longer than --timeout. Sessions of others are never ended.
Exit status 0: they are gone, or were not there; 1: one is not gone; 2: a wrong call.`,
		RunE: func(c *cobra.Command, args []string) error {
			var err error
			if l.target, l.portal, err = sessionsMeant(c, args, l.all); err != nil {
				return err
			}
			return orJSON(c.OutOrStdout(), l.asJSON, "sessions", l.do(c.Context(), c.OutOrStdout(), c.ErrOrStderr()))
		},
	}
	f := c.Flags()
	f.BoolVar(&l.all, "all", false, "all sessions that initd made")
	f.BoolVar(&l.force, "force", false, "even if the disks are in use")
	f.BoolVar(&l.asJSON, "json", false, "print what was done as JSON")
	f.DurationVar(&l.timeout, "timeout", 30*time.Second, "how long a target may take")
	f.StringVar(&l.run, "run", "/run/initd", "where sessions are remembered")
	return c
}

// chosenSessions are those that a call means; others' are an error where they were named.
func chosenSessions(sys *sysfs.FS, target, portal string) ([]iscsi.Session, error) {
	sessions, err := iscsi.Sessions(sys)
	if err != nil {
		return nil, err
	}
	var list []iscsi.Session
	for _, s := range sessions {
		switch {
		case target != "" && s.Target != target, portal != "" && s.Portal != portal:
		case s.Ours():
			list = append(list, s)
		case target != "":
			return nil, fmt.Errorf("session %d to %s at %s was not made by initd; who made it (iscsid, as a rule) has to end it: iscsiadm -m node -T %s -u",
				s.ID, s.Target, s.Portal, s.Target)
		}
	}
	return list, nil
}

func (l *iscsiLogout) do(ctx context.Context, stdout, stderr io.Writer) error {
	sys, err := sysfs.Open("/")
	if err != nil {
		return err
	}
	list, err := chosenSessions(sys, l.target, l.portal)
	sys.Close()
	if err != nil {
		return err
	}
	results := []sessionJSON{}
	if len(list) > 0 {
		h, err := openISCSI(ctx, l.run, false)
		if err != nil {
			return err
		}
		defer h.Close()
		for _, s := range list {
			results = append(results, sessionJSON{Target: s.Target, Portal: s.Portal, Session: &s, outcome: outcome{failed: l.one(ctx, h, s)}})
		}
	}
	return tellOutcomes(stdout, l.asJSON, "sessions", results, func(r *sessionJSON) *outcome { return &r.outcome }, func() error {
		for _, r := range results {
			if r.failed != nil {
				_ = tell(stderr, r.failed)
			} else {
				fmt.Fprintf(stdout, "session %d: %s at %s: logged out\n", r.Session.ID, r.Target, r.Portal)
			}
		}
		if len(results) == 0 {
			fmt.Fprintln(stderr, "initd: no session of initd's to log out of")
		}
		return nil
	})
}

func (l *iscsiLogout) one(ctx context.Context, h *iscsi.Host, s iscsi.Session) error {
	if !l.force {
		for _, d := range s.Disks {
			if by := diskUse(h.Sys, d.Name); by != "" {
				return fmt.Errorf("log out of %s: %s is used by %s; end that first, or give --force", s.Target, d.Node(), by)
			}
		}
	}
	isid, _ := s.ISID()
	rec, recErr := h.Records.Read(isid.String())
	if recErr != nil { // made by an initd whose records are gone
		rec = iscsi.Record{Session: s.ID, Host: s.Host, ISID: isid.String()}
	}
	if err := h.Records.Remove(isid.String()); err != nil { // first: nobody recovers it from here on
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	err := h.Kernel.Logout(ctx, rec)
	if err != nil && recErr == nil {
		err = errors.Join(err, h.Records.Write(rec))
	}
	return err
}
