package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"initd/boot/step"
	"initd/initd/api"
	"initd/initd/bundle"
	"initd/initd/cli"
)

func bundleCommand() *cobra.Command {
	p := bootPlaces()
	out, asJSON := "", false
	c := &cobra.Command{
		Use:   "support-bundle",
		Short: "Save what somebody far away needs to understand this machine",
		Long: `Writes one archive (tar, gzip; mode 0600) with the report, events, plan and appliance files,
the kernel's messages, mounts, device mapper tables, block devices, network, modules, versions and the last lines of
services. manifest.json in it lists what is there and what was left out.

It holds no keys, no certificates and no file that the appliance names; passwords, password hashes, private keys
and user names in URLs are replaced by REDACTED. It works without a running orchestrator too.
Exit status 0: it was written; 1: it was not; 2: wrong call.`,
		Args: cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			saved, err := saveBundle(c.Context(), machine(p), out, ".")
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(c.OutOrStdout(), saved)
			}
			fmt.Fprintf(c.OutOrStdout(), "%s: %d files, %d KiB\n", saved.Path, len(saved.Files), (saved.Bytes+1023)/1024)
			for _, l := range saved.LeftOut {
				fmt.Fprintf(c.OutOrStdout(), "  without %s: %s\n", l.What, l.Why)
			}
			return nil
		},
	}
	c.Flags().StringVarP(&out, "output", "o", "", "the FILE to write (default: support-NAME-TIME.tar.gz, here)")
	c.Flags().StringVar(&p.run, "run", p.run, "the orchestrator's folder")
	c.Flags().StringVar(&p.file, "file", p.file, "the appliance file")
	c.Flags().BoolVar(&asJSON, "json", false, "print path, contents and what was left out as JSON")
	return c
}

// saved is what --json prints, and what the child tells the menu.
type saved struct {
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
	bundle.Manifest
}

// machine is this one, for a bundle.
func machine(p places) bundle.Machine {
	return bundle.Machine{
		Root: "/", Run: p.run, File: p.file, Version: version,
		Logs: func(ctx context.Context, service string) (string, error) {
			a, err := ask(ctx, p.run, api.Request{Op: api.OpLogs, Name: service})
			if err != nil {
				return "", err
			}
			if !a.OK {
				return "", errors.New(a.Message)
			}
			return a.Message, nil
		},
	}
}

// saveBundle writes to out, or to a name of its own in dir.
func saveBundle(ctx context.Context, m bundle.Machine, out, dir string) (saved, error) {
	path := out
	if path == "" {
		path = filepath.Join(dir, bundle.FileName(m, time.Now()))
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return saved{}, err
	}
	made := saved{Path: path}
	write := func(w io.Writer) (err error) {
		made.Manifest, err = bundle.Write(ctx, m, io.MultiWriter(w, (*counter)(&made.Bytes)))
		return err
	}
	if out != "" {
		err = cli.WriteFile(path, 0o600, write)
	} else {
		err = cli.Replace(path, 0o600, write)
	}
	if err != nil {
		return saved{}, fmt.Errorf("save a support bundle: %w", err)
	}
	return made, nil
}

// counter counts bytes.
type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

// bundleParams is what the child bundle is given.
type bundleParams struct {
	Run, File, Dir string
}

// bundleChild is the child bundle: what it reads and writes may block.
func bundleChild(ctx context.Context, _ *step.ChildInput, p bundleParams) (any, error) {
	s, err := saveBundle(ctx, machine(places{run: p.Run, file: p.File}), "", p.Dir)
	if err != nil {
		return nil, err
	}
	s.Manifest = bundle.Manifest{} // the menu says where it is
	return s, nil
}
