package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"initd/boot/step"
	"initd/hw/kmip"
	"initd/initd/cli"
)

func keysCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "keys",
		Short: "Check key servers, and hand keys in",
		Args:  cli.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(keysCheckCommand(), keysUnlockCommand())
	return c
}

func keysCheckCommand() *cobra.Command {
	var file, facts string
	var identity []string
	var asJSON bool
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "check -f FILE",
		Short: "Say whether every key of an appliance could be had from here",
		Long: `Connects to every key server of FILE and looks every key up on each of them, on any
machine that has the certificates. Keys are looked up, never fetched: the servers give out nothing.
Exit status 0: every key is on some server; 1: one is missing; 2: FILE is bad.`,
		Args: cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if file == "" {
				return cli.Misused(c)
			}
			cfg, requests, err := keysOf(file, facts, identity)
			if err != nil {
				return badFile(c, err)
			}
			ctx, cancel := context.WithTimeout(c.Context(), timeout)
			defer cancel()
			if code := runKeysCheck(ctx, cfg, requests, c.OutOrStdout(), c.ErrOrStderr(), asJSON); code != 0 {
				return exitCode(code)
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVarP(&file, "file", "f", "", "appliance file")
	f.BoolVar(&asJSON, "json", false, "print the report as JSON")
	f.StringVar(&facts, "facts", "", "FILE with the machine's facts as JSON, or host")
	f.StringArrayVar(&identity, "identity", nil, "folder to search for certificates and keys before that of FILE; may be given again")
	f.DurationVar(&timeout, "timeout", 30*time.Second, "how long to wait for servers in all")
	return c
}

// keysOf says which servers and keys an appliance file names.
func keysOf(file, facts string, identity []string) (kmip.Config, []kmip.Request, error) {
	a, p, err := compileFile(file, facts)
	if err != nil {
		return kmip.Config{}, nil, err
	}
	return step.KeyServers(a, p, step.Paths{Config: filepath.Dir(file), Identity: identity})
}

// runKeysCheck prints the report and gives the exit status.
func runKeysCheck(ctx context.Context, cfg kmip.Config, requests []kmip.Request, stdout, stderr io.Writer, asJSON bool) int {
	report := kmip.CheckReport{At: time.Now(), Servers: []kmip.ServerReport{}, Keys: []kmip.KeyReport{}}
	if len(cfg.Servers) > 0 {
		var err error
		if report, err = kmip.Check(ctx, cfg, requests); err != nil {
			fmt.Fprintf(stderr, "initd: %v\n", err)
			return 2
		}
	}
	var err error
	if asJSON {
		err = writeJSON(stdout, struct {
			OK bool `json:"ok"`
			kmip.CheckReport
		}{report.OK(), report})
	} else {
		err = report.Text(stdout)
	}
	switch {
	case err != nil:
		fmt.Fprintf(stderr, "initd: %v\n", err)
		return 1
	case !report.OK():
		return 1
	}
	return 0
}
