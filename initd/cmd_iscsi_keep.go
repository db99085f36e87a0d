package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"initd/hw/iscsi"
	"initd/initd/cli"
)

func iscsiKeepCommand() *cobra.Command {
	run := "/run/initd"
	c := &cobra.Command{
		Use:   "keep",
		Short: "Make lost connections of initd's sessions anew, until it is ended",
		Long: `Watches every session that initd made on this machine, and after a lost connection logs in again, with the same
identity and the same disks, for as long as the session exists; also what was lost before it came. A running initd boot
does this by itself for the sessions of its file. One line tells each change.
Exit status 0: ended by a signal; 1: somebody else keeps the sessions, or the kernel has no iSCSI.`,
		Args: cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(c.Context(), unix.SIGINT, unix.SIGTERM)
			defer stop()
			return iscsiKeep(ctx, c.OutOrStdout(), run)
		},
	}
	c.Flags().StringVar(&run, "run", run, "where sessions are remembered")
	return c
}

func iscsiKeep(ctx context.Context, stdout io.Writer, run string) error {
	h, err := openISCSI(ctx, run, true)
	if err != nil {
		return err
	}
	defer h.Close()
	release, err := h.Records.Lock(false)
	if err != nil {
		return err
	}
	defer release()
	unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | 4) //nolint:errcheck // MCL_ONFAULT: a page must not have to come from a disk that is lost
	lines := make(chan string)
	s := &iscsi.Supervisor{
		Sys: h.Sys, Records: h.Records,
		Recover: func(ctx context.Context, rec iscsi.Record, logout bool) error {
			chap, err := chapOf(rec)
			if err != nil {
				return fmt.Errorf("log in to %s again: %w", rec.Config.Target, err)
			}
			defer chap.Destroy()
			return h.Kernel.Recover(ctx, rec, chap, logout)
		},
		Tell: func(rec iscsi.Record, n iscsi.News) {
			select {
			case lines <- fmt.Sprintf("session %d: %s at %s: %s", rec.Session, rec.Config.Target, rec.Config.Portal.Address(), n):
			case <-ctx.Done():
			}
		},
	}
	ready := make(chan struct{})
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, ready) }()
	for {
		select {
		case <-ready:
			fmt.Fprintln(stdout, "keeping iSCSI sessions")
			ready = nil
		case line := <-lines:
			fmt.Fprintln(stdout, line)
		case err := <-ended:
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		}
	}
}

func iscsiReleaseCommand() *cobra.Command {
	var all bool
	run := "/run/initd"
	c := &cobra.Command{
		Use:   "release TARGET [PORTAL] | --all",
		Short: "Give sessions away for good, to iscsid",
		Long: `Forgets sessions that initd made, and leaves them running: nobody here recovers or ends them any more.
Start iscsid then: it takes up what runs, whoever made it, so it is not to be started before. It logs in again with the
secrets of its own node records (iscsiadm -m node), so these have to be there before the first lost connection. Units of
the file go on counting on the disks. On a system that starts iscsid by itself, as Debian does where there is a session:
iscsid.service.d/initd.conf with ExecStartPre=-/run/initd/bin/initd iscsi release --all.
Exit status 0: they are given away; 1: one is not; 2: a wrong call.`,
		RunE: func(c *cobra.Command, args []string) error {
			target, portal, err := sessionsMeant(c, args, all)
			if err != nil {
				return err
			}
			return iscsiRelease(c.Context(), c.OutOrStdout(), c.ErrOrStderr(), run, target, portal)
		},
	}
	c.Flags().BoolVar(&all, "all", false, "all sessions that initd made")
	c.Flags().StringVar(&run, "run", run, "where sessions are remembered")
	return c
}

func iscsiRelease(ctx context.Context, stdout, stderr io.Writer, run, target, portal string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	h, err := openISCSI(ctx, run, false)
	if err != nil {
		return err
	}
	defer h.Close()
	list, err := chosenSessions(h.Sys, target, portal)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		fmt.Fprintln(stderr, "initd: no session of initd's to give away")
	}
	for _, s := range list {
		isid, _ := s.ISID()
		if err := give(h, s, isid.String()); err != nil {
			return err
		}
		fmt.Fprintf(stdout, "session %d: %s at %s: given away\n", s.ID, s.Target, s.Portal)
	}
	return nil
}

// give gives one session away. Where it is a unit's, the record stays, so that
// the unit counts on it still; the mark in the kernel is what makes it ours.
func give(h *iscsi.Host, s iscsi.Session, isid string) error {
	rec, err := h.Records.Read(isid)
	if err != nil || rec.Unit == "" {
		if err := h.Kernel.Release(iscsi.Record{Session: s.ID, ISID: isid}); err != nil {
			return err
		}
		return h.Records.Remove(isid)
	}
	rec.Given, rec.Key, rec.File = true, "", ""
	if err := h.Records.Write(rec); err != nil {
		return err
	}
	return h.Kernel.Release(rec)
}
