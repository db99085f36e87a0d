package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"initd/hw/nvmeof"
	"initd/hw/sysfs"
	"initd/initd/cli"
)

func nvmeDisconnectCommand() *cobra.Command {
	asJSON, force, all, root := false, false, false, "/"
	c := &cobra.Command{
		Use:   "disconnect NQN|nvmeN|PORTAL... | --all",
		Short: "Disconnect from subsystems, or single paths",
		Long: `Takes away every connection to the subsystem NQN, the connection nvmeN, or those at a PORTAL. A disk goes with the last
connection to it, and what is mounted from it fails: one that is in use is refused, and so is one that somebody registered as its own
(a running initd boot would connect it again), unless --force is given.
Exit status 0: they are gone, or were not there; 1: one is still there; 2: a wrong call.`,
		RunE: func(c *cobra.Command, args []string) error {
			if all != (len(args) == 0) {
				return cli.Misused(c)
			}
			f, err := sysfs.Open(root)
			if err != nil {
				return err
			}
			defer f.Close()
			d := nvmeDisconnect{force: force, root: root}
			if err := d.choose(f, args); err != nil {
				return orJSON(c.OutOrStdout(), asJSON, "connections", err)
			}
			return d.run(f, asJSON, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print the answer as JSON")
	c.Flags().BoolVar(&force, "force", false, "disconnect what is in use, or somebody's own, too")
	c.Flags().BoolVar(&all, "all", false, "disconnect everything that is nobody's own")
	c.Flags().StringVar(&root, "root", root, "")
	_ = c.Flags().MarkHidden("root")
	return c
}

// nvmeDisconnect is one call of nvme disconnect.
type nvmeDisconnect struct {
	force  bool
	root   string
	chosen []nvmeof.Controller
	last   map[string][]nvmeof.Namespace // the disks that go with the chosen, by subsystem
}

// choose finds what the words mean; a word that means nothing is a wrong call, unless it is a name that was right once.
func (d *nvmeDisconnect) choose(f *sysfs.FS, words []string) error {
	list, err := nvmeof.Read(f)
	if err != nil {
		return err
	}
	for _, w := range words {
		place, perr := nvmeof.ParsePlace(w, nvmeof.Port)
		if perr != nil && nvmeof.CheckNQN(w) != nil && !strings.HasPrefix(w, "nvme") {
			return cli.Usage(fmt.Errorf("%q is no NQN, controller (nvme0) or portal", w))
		}
		for _, s := range list {
			for _, c := range s.Controllers {
				if c.Name == w && !c.Fabric() {
					return cli.Usage(fmt.Errorf("%s is a device of this machine (%s), no connection", w, c.Transport))
				}
				if c.Fabric() && (c.NQN == w || c.Name == w || perr == nil && c.Target.Addr == place) {
					d.add(c)
				}
			}
		}
	}
	if len(words) == 0 {
		for _, s := range list {
			for _, c := range s.Controllers {
				if c.Fabric() && (c.Owner == "" || d.force) {
					d.add(c)
				}
			}
		}
	}
	d.last = map[string][]nvmeof.Namespace{}
	for _, s := range list {
		stays := false
		for _, c := range s.Controllers {
			stays = stays || !d.has(c.Name)
		}
		if !stays {
			d.last[s.Name] = s.Namespaces
		}
	}
	return nil
}

func (d *nvmeDisconnect) add(c nvmeof.Controller) {
	if !d.has(c.Name) {
		d.chosen = append(d.chosen, c)
	}
}

func (d *nvmeDisconnect) has(name string) bool {
	for _, c := range d.chosen {
		if c.Name == name {
			return true
		}
	}
	return false
}

// disconnectedJSON is what became of one connection.
type disconnectedJSON struct {
	Name   string `json:"name"`
	NQN    string `json:"nqn"`
	Portal string `json:"portal"`
	outcome
}

func (d *nvmeDisconnect) run(f *sysfs.FS, asJSON bool, stdout, stderr io.Writer) error {
	out := []disconnectedJSON{}
	for _, c := range d.chosen {
		j := disconnectedJSON{Name: c.Name, NQN: c.NQN, Portal: c.Target.URL(), outcome: outcome{failed: d.one(f, c)}}
		out = append(out, j)
		switch {
		case asJSON:
		case j.failed != nil:
			_ = tell(stderr, j.failed)
		default:
			fmt.Fprintf(stdout, "%s  %s  %s  disconnected\n", c.Name, j.Portal, c.NQN)
		}
	}
	return tellOutcomes(stdout, asJSON, "connections", out, func(j *disconnectedJSON) *outcome { return &j.outcome }, func() error {
		if len(out) == 0 {
			fmt.Fprintln(stderr, "initd: nothing of that is connected")
		}
		return nil
	})
}

// keptError refuses a disconnect that would do harm.
type keptError struct{ text, hint string }

func (e *keptError) Error() string { return e.text }
func (e *keptError) Hint() string  { return e.hint }

func (d *nvmeDisconnect) one(f *sysfs.FS, c nvmeof.Controller) error {
	if !d.force && c.Owner != "" {
		hint := "leave it to " + c.Owner + ", or say --force"
		if c.Owner == nvmeof.Us {
			hint = "a running initd boot keeps it, and connects it again; --force all the same"
		}
		return &keptError{fmt.Sprintf("disconnect %s: %s registered it as its own", c.Name, c.Owner), hint}
	}
	if !d.force {
		for _, n := range d.last[c.Subsystem] {
			if who := diskUse(f, n.Name); who != "" {
				return &keptError{fmt.Sprintf("disconnect %s: it is the last path to /dev/%s, which is used by %s", c.Name, n.Name, who), "end that first, or say --force"}
			}
		}
	}
	if err := nvmeof.Disconnect(d.root, c.Name); err != nil {
		if errors.Is(err, os.ErrPermission) {
			return errors.New("disconnect " + c.Name + ": only root may")
		}
		return err
	}
	return nil
}
