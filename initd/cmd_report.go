package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"initd/boot/report"
	"initd/initd/cli"
)

// defaultEvents is the event file of a running machine.
const defaultEvents = "/run/initd/events"

// source is where the commands that read a report get it from.
type source struct{ events string }

func (s *source) flag(c *cobra.Command) {
	c.Flags().StringVar(&s.events, "events", defaultEvents, "the event FILE to read: this machine's, or one from elsewhere")
}

func (s *source) read() (*report.Report, error) {
	if err := s.there(); err != nil {
		return nil, err
	}
	events, err := report.ReadFile(s.events)
	if err != nil {
		return nil, err
	}
	if st, err := os.Stat(s.events); len(events) == 0 && err == nil && st.Size() > 0 {
		return nil, fmt.Errorf("read events of %s: there is no event in it", s.events)
	}
	return report.Fold(events), nil
}

// there says why the events of a machine cannot be read at all.
func (s *source) there() error {
	f, err := os.Open(s.events)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("no orchestrator has run on this machine: %s is not there", s.events)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("read events of %s: only root may", s.events)
	case err != nil:
		return fmt.Errorf("read events: %w", err)
	}
	return f.Close()
}

// style fits what w is: colours and the width of a terminal.
func style(w io.Writer) report.Style {
	f, ok := w.(*os.File)
	if !ok {
		return report.Style{}
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return report.Style{}
	}
	return report.Style{Colour: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb", Width: int(size.Col)}
}

func statusCommand() *cobra.Command {
	var s source
	var asJSON, follow bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Show what this boot has done, does and waits for",
		Long: `Exit status 0: the boot is ready and everything is up; 1: something is not;
2: there is no report, or the call is wrong.`,
		Args: cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if follow {
				if err := s.there(); err != nil {
					return cli.Usage(err)
				}
				return followStatus(c.Context(), s.events, c.OutOrStdout())
			}
			r, err := s.read()
			if err != nil {
				return cli.Usage(err)
			}
			if asJSON {
				err = r.JSON(c.OutOrStdout())
			} else {
				err = r.Status(c.OutOrStdout(), style(c.OutOrStdout()))
			}
			if err != nil {
				return err
			}
			if !wellUp(r) {
				return exitCode(1)
			}
			return nil
		},
	}
	s.flag(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print the whole report as JSON (initd.report/v1)")
	c.Flags().BoolVar(&follow, "follow", false, "print console lines as things happen, until interrupted")
	return c
}

// wellUp tells whether the boot is ready and nothing is missing.
func wellUp(r *report.Report) bool {
	for i := range r.Units {
		if u := &r.Units[i]; !u.State.OK() && u.State != report.Skipped {
			return false
		}
	}
	return r.Ready != 0
}

func followStatus(ctx context.Context, path string, w io.Writer) error {
	screen := report.NewConsole()
	return report.Follow(ctx, path, func(e report.Event, _ bool) error {
		for _, line := range screen.Add(e) {
			if _, err := fmt.Fprintln(w, line); err != nil {
				return err
			}
		}
		return nil
	})
}

func whyCommand() *cobra.Command {
	var s source
	var asJSON bool
	c := &cobra.Command{
		Use:   "why UNIT",
		Short: "Say why a unit is as it is, and what it would take",
		Long:  `Exit status 0: the unit is up; 1: it is not; 2: there is no such unit, or no report.`,
		Args:  cli.Exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := s.read()
			if err != nil {
				return cli.Usage(err)
			}
			u := r.Unit(args[0])
			if asJSON && u != nil {
				err = writeJSON(c.OutOrStdout(), u)
			} else {
				err = r.Why(c.OutOrStdout(), args[0], style(c.OutOrStdout()))
			}
			switch {
			case u == nil:
				return cli.Usage(err)
			case err != nil:
				return err
			case !u.State.OK():
				return exitCode(1)
			}
			return nil
		},
	}
	s.flag(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print the unit's part of the report as JSON")
	return c
}

func analyzeCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "analyze",
		Short: "Say where the time of a boot went",
		Args:  cli.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	part := func(use, short string, show func(*report.Report, io.Writer, report.Style) error) *cobra.Command {
		var s source
		p := &cobra.Command{Use: use, Short: short, Args: cli.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
			r, err := s.read()
			if err != nil {
				return cli.Usage(err)
			}
			return show(r, c.OutOrStdout(), style(c.OutOrStdout()))
		}}
		s.flag(p)
		return p
	}
	c.AddCommand(
		part("blame", "List units by the time they took and waited", (*report.Report).Blame),
		part("critical-chain", "Show the chain of units that decided when the boot was ready", (*report.Report).CriticalChain),
		plotCommand(),
	)
	return c
}

func plotCommand() *cobra.Command {
	var s source
	var out string
	var until time.Duration
	c := &cobra.Command{
		Use:   "plot",
		Short: "Draw the boot as a timeline (SVG)",
		Args:  cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := s.read()
			if err != nil {
				return cli.Usage(err)
			}
			if out == "" {
				return r.Plot(c.OutOrStdout(), until)
			}
			return cli.WriteFile(out, 0o644, func(w io.Writer) error { return r.Plot(w, until) })
		},
	}
	s.flag(c)
	c.Flags().StringVarP(&out, "output", "o", "", "write to FILE, not to standard output")
	c.Flags().DurationVar(&until, "until", 0, "end the picture this long after the kernel's start (default: a little after ready)")
	return c
}
