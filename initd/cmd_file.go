package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"initd/boot/appliance"
	"initd/initd/cli"
)

func schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of appliance files, for editors",
		Args:  cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			b, err := appliance.JSONSchema()
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(b)
			return err
		},
	}
}

func fmtCommand() *cobra.Command {
	var write, check bool
	c := &cobra.Command{
		Use:   "fmt FILE",
		Short: "Print an appliance file in canonical form",
		Long:  `Prints FILE with its keys in the documented order; comments stay. Exit status 2: FILE is bad; with --check, 1: FILE is not canonical.`,
		Args:  cli.Exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			data, err := os.ReadFile(args[0])
			if err != nil {
				return cli.Usage(fmt.Errorf("read appliance file: %w", err))
			}
			out, err := appliance.Format(appliance.Source{Name: args[0], Data: data})
			if err != nil {
				return badFile(c, err)
			}
			switch same := bytes.Equal(data, out); {
			case check && !same:
				fmt.Fprintf(c.OutOrStdout(), "%s is not in canonical form; mend it with: initd fmt --write %s\n", args[0], args[0])
				return exitCode(1)
			case check || write && same:
				return nil
			case write:
				return cli.WriteFile(args[0], 0o644, func(w io.Writer) error { _, err := w.Write(out); return err })
			}
			_, err = c.OutOrStdout().Write(out)
			return err
		},
	}
	c.Flags().BoolVarP(&write, "write", "w", false, "write it back, atomically")
	c.Flags().BoolVar(&check, "check", false, "only say whether it is canonical")
	return c
}

// version is set by the build: -ldflags '-X main.version=…'.
var version = "unknown"

func versionCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			goVersion := ""
			if bi, ok := debug.ReadBuildInfo(); ok {
				goVersion = bi.GoVersion
			}
			if asJSON {
				return writeJSON(c.OutOrStdout(), map[string]string{"version": version, "go": goVersion})
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "initd %s (%s)\n", version, goVersion)
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return c
}
