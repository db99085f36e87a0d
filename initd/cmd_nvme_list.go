package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"initd/hw/nvmeof"
	"initd/hw/sysfs"
	"initd/initd/cli"
)

func nvmeListCommand() *cobra.Command {
	asJSON, all, root := false, false, "/"
	c := &cobra.Command{
		Use:   "list",
		Short: "List connected subsystems, their paths and disks",
		Long: `Lists what sysfs shows: subsystems, the connections to each with their state, and its disks. An owner is whoever
registered a connection as its own (initd, stas …).`,
		Args: cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			f, err := sysfs.Open(root)
			if err != nil {
				return err
			}
			defer f.Close()
			list, err := nvmeof.Read(f)
			if err != nil {
				return err
			}
			shown := []nvmeof.Subsystem{}
			for _, s := range list {
				if all || len(s.Controllers) > 0 && s.Controllers[0].Fabric() {
					shown = append(shown, s)
				}
			}
			if asJSON {
				return writeJSON(c.OutOrStdout(), map[string]any{"subsystems": shown})
			}
			if len(shown) == 0 {
				fmt.Fprintln(c.ErrOrStderr(), "initd: no NVMe subsystems are connected")
				return nil
			}
			return printNVMe(c.OutOrStdout(), shown)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	c.Flags().BoolVar(&all, "all", false, "list this machine's own NVMe devices, too")
	c.Flags().StringVar(&root, "root", root, "")
	_ = c.Flags().MarkHidden("root")
	return c
}

func printNVMe(out io.Writer, list []nvmeof.Subsystem) error {
	w := &strings.Builder{}
	for _, s := range list {
		fmt.Fprintln(w, s.NQN)
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, c := range s.Controllers {
			place := c.Target.URL()
			if !c.Fabric() {
				place = c.Transport
			}
			notes := []string{}
			if c.HostIface != "" {
				notes = append(notes, "through "+c.HostIface)
			}
			if c.Source.IsValid() {
				notes = append(notes, "from "+c.Source.String())
			} else if c.HostAddr.IsValid() {
				notes = append(notes, "from "+c.HostAddr.String())
			}
			if ana := anaOf(c); ana != "" && ana != "optimized" {
				notes = append(notes, ana)
			}
			if c.Owner != "" {
				notes = append(notes, "of "+c.Owner)
			}
			fmt.Fprintf(t, "  %s\t%s\t%s\t%s\n", c.Name, c.State, place, strings.Join(notes, ", "))
		}
		for _, n := range s.Namespaces {
			ro := ""
			if n.ReadOnly {
				ro = "read-only"
			}
			fmt.Fprintf(t, "  /dev/%s\tnamespace %d\t%d MiB\t%s %s\n", n.Name, n.NSID, n.Bytes>>20, n.WWID, ro)
		}
		if err := t.Flush(); err != nil {
			return err
		}
		if hosts := hostsOf(s); len(hosts) > 0 {
			fmt.Fprintf(w, "  as %s\n", strings.Join(hosts, ", "))
		}
	}
	return writeTrimmed(out, w.String())
}

// writeTrimmed leaves out the blanks at the ends of lines that an empty last column leaves.
func writeTrimmed(w io.Writer, text string) error {
	for line := range strings.Lines(text) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// anaOf is the state of the controller's ways to namespaces, where all have the same.
func anaOf(c nvmeof.Controller) string {
	state := ""
	for _, l := range c.Legs {
		if state != "" && state != l.ANAState {
			return "mixed"
		}
		state = l.ANAState
	}
	return state
}

// hostsOf lists the names under which this machine is connected.
func hostsOf(s nvmeof.Subsystem) []string {
	var list []string
	seen := map[string]bool{}
	for _, c := range s.Controllers {
		if c.Fabric() && !seen[c.Host.NQN] {
			seen[c.Host.NQN] = true
			list = append(list, c.Host.NQN)
		}
	}
	return list
}
