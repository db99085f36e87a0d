package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"initd/initd/cli"
	"initd/v2v/convert"
	"initd/v2v/formats"
)

// Exit statuses of qemu-img compare.
const (
	exitDiffer = 1
	exitOpen   = 2
	exitRead   = 4
)

func compareCommand() *cobra.Command {
	var o reading
	var second string
	var strict, quiet, progress bool
	c := &cobra.Command{
		Use:   "compare A B",
		Short: "Say whether two images hold the same disk",
		Long: `Compare what two images read as. Behind the end of the shorter one the longer one may hold zeros, but with --strict different
sizes are a difference, and so is a hole against data that are there.

Exit status 0: the same; 1: they differ; 2: one cannot be opened; 4: one cannot be read. These are qemu-img compare's.`,
		Args: cli.Exactly(2),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.check(); err != nil {
				return err
			}
			if second != "" {
				if _, err := formats.ByName(second); err != nil {
					return cli.Usage(err)
				}
			}
			a, err := o.open(c.Context(), args[0], o.format)
			if err != nil {
				return exitCode{exitOpen, err}
			}
			defer a.Close()
			b, err := o.open(c.Context(), args[1], second)
			if err != nil {
				return exitCode{exitOpen, err}
			}
			defer b.Close()
			m := newMeter(c.ErrOrStderr(), nil, progress && !quiet)
			err = convert.Compare(c.Context(), a, b, convert.CompareOptions{Strict: strict, Progress: func(p convert.Progress) {
				m.tell(convert.Event{Phase: "compare", Progress: p})
			}})
			m.end()
			var d *convert.Difference
			switch {
			case errors.As(err, &d):
				if !quiet {
					fmt.Fprintf(c.OutOrStdout(), "The images differ: %v.\n", d)
				}
				return exitCode{exitDiffer, nil}
			case err != nil:
				return exitCode{exitRead, err}
			}
			if !quiet {
				if _, err := fmt.Fprintln(c.OutOrStdout(), "The images hold the same disk."); err != nil {
					return exitCode{exitRead, err}
				}
			}
			return nil
		},
	}
	o.flags(c)
	f := c.Flags()
	f.StringVarP(&second, "second-format", "F", "", "the second image is of this `FORMAT`")
	f.BoolVarP(&strict, "strict", "s", false, "different sizes and different allocation are differences")
	f.BoolVarP(&quiet, "quiet", "q", false, "print nothing but errors")
	f.BoolVarP(&progress, "progress", "p", false, "show how far the comparison is")
	_ = c.RegisterFlagCompletionFunc("second-format", completeFormats)
	return c
}
