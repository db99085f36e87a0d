package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"initd/hw/iscsi"
	"initd/hw/sysfs"
	"initd/initd/cli"
)

// listedJSON is a session in a list.
type listedJSON struct {
	iscsi.Session
	Owner string `json:"owner"` // initd, or other
	Unit  string `json:"unit,omitempty"`
	CHAP  bool   `json:"chap"` // its record names secrets
}

func iscsiListCommand() *cobra.Command {
	var asJSON bool
	run := "/run/initd"
	c := &cobra.Command{
		Use:   "list",
		Short: "List the iSCSI sessions of this machine, whoever made them",
		Long: `One session a line: its number, state, target, portal, disks, and who made it: initd, or another (as a
rule open-iscsi's iscsid). Exit status 0, also where there is none.`,
		Args: cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return orJSON(c.OutOrStdout(), asJSON, "sessions", iscsiList(c.OutOrStdout(), c.ErrOrStderr(), run, asJSON))
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print the list as JSON")
	c.Flags().StringVar(&run, "run", run, "where sessions are remembered")
	return c
}

func iscsiList(stdout, stderr io.Writer, run string, asJSON bool) error {
	sys, err := sysfs.Open("/")
	if err != nil {
		return err
	}
	defer sys.Close()
	sessions, err := iscsi.Sessions(sys)
	if err != nil {
		return err
	}
	records := iscsi.RecordsAt(run)
	list := []listedJSON{}
	for _, s := range sessions {
		l := listedJSON{Session: s, Owner: "other"}
		if isid, ours := s.ISID(); ours {
			l.Owner = "initd"
			if rec, err := records.Read(isid.String()); err == nil {
				l.Unit, l.CHAP = rec.Unit, rec.File != "" || rec.Key != ""
			}
		}
		list = append(list, l)
	}
	if asJSON {
		return writeJSON(stdout, map[string]any{"sessions": list})
	}
	if len(list) == 0 {
		fmt.Fprintln(stderr, "initd: no iSCSI sessions")
		return nil
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SESSION\tSTATE\tTARGET\tPORTAL\tBY\tDISKS")
	for _, l := range list {
		by := l.Owner
		if l.Unit != "" {
			by = l.Unit
		}
		state := l.State
		if l.Conn != "" && l.Conn != "up" {
			state += " (connection " + l.Conn + ")"
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", l.ID, state, l.Target, l.Portal, by, disksText(l.Disks))
	}
	return w.Flush()
}
