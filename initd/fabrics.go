package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"initd/hw/iscsi"
	"initd/hw/kmod"
	"initd/initd/cli"
)

// targetOrDiscovery splits the words of a call: NAME PORTAL..., or none where a portal is asked for everything (--discover).
func targetOrDiscovery(c *cobra.Command, args []string, discover string) (name string, portals []string, err error) {
	switch {
	case discover != "" && len(args) > 0, discover == "" && len(args) < 2:
		return "", nil, cli.Misused(c)
	case discover != "":
		return "", nil, nil
	}
	return args[0], args[1:], nil
}

// sessionsMeant splits the words of a call about sessions that are there: TARGET [PORTAL], or --all.
func sessionsMeant(c *cobra.Command, args []string, all bool) (target, portal string, err error) {
	if all != (len(args) == 0) || len(args) > 2 {
		return "", "", cli.Misused(c)
	}
	if len(args) > 0 {
		target = args[0]
	}
	if len(args) > 1 {
		p, err := iscsi.ParsePortal(args[1])
		if err != nil {
			return "", "", cli.Usage(err)
		}
		portal = p.Address()
	}
	return target, portal, nil
}

// loadFabric loads modules; who may not is told that connections need root.
func loadFabric(ctx context.Context, connections string, modules ...string) error {
	loader, err := kmod.System("/")
	if err == nil {
		err = loader.Load(ctx, modules...)
		loader.Close()
	}
	switch {
	case err != nil && os.Geteuid() != 0:
		return fmt.Errorf("%s need root", connections)
	case err != nil:
		return fmt.Errorf("load what %s need: %w", connections, err)
	}
	return nil
}

// outcome is the end of what became of one of several things, as JSON.
type outcome struct {
	Error  *errorJSON `json:"error,omitempty"`
	failed error
}

// complete fills what is printed, and tells whether it failed.
func (o *outcome) complete() bool {
	if o.failed != nil {
		o.Error = asErrorJSON(o.failed)
	}
	return o.failed != nil
}

// tellOutcomes prints what became of things: all of them as JSON below a key, or as show says. The error carries the exit status.
func tellOutcomes[T any](stdout io.Writer, asJSON bool, key string, list []T, of func(*T) *outcome, show func() error) error {
	failed := false
	for i := range list {
		failed = of(&list[i]).complete() || failed
	}
	if asJSON {
		show = func() error { return writeJSON(stdout, map[string]any{key: list}) }
	}
	if err := show(); err != nil {
		return err
	}
	if failed {
		return exitCode(1)
	}
	return nil
}

// orJSON answers for a call that failed as a whole where JSON is asked for: nothing of what was wanted, and why. A wrong call is said
// in words.
func orJSON(stdout io.Writer, asJSON bool, key string, failed error) error {
	if failed == nil || !asJSON || cli.IsUsage(failed) || errors.As(failed, new(exitCode)) {
		return failed
	}
	if err := writeJSON(stdout, map[string]any{key: []any{}, "error": asErrorJSON(failed)}); err != nil {
		return err
	}
	return exitCode(1)
}

// noteReaders says that others may read a file with secrets.
func noteReaders(stderr io.Writer, path string) {
	if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		fmt.Fprintf(stderr, "initd: others may read %s (mode %04o); chmod 600 it\n", path, info.Mode().Perm())
	}
}
