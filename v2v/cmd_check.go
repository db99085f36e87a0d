package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"initd/initd/cli"
	"initd/v2v/convert"
	"initd/v2v/image"
)

// Exit statuses of qemu-img check.
const (
	exitNotChecked = 1
	exitCorrupt    = 2
)

func checkCommand() *cobra.Command {
	var o reading
	var quiet, tables, progress bool
	c := &cobra.Command{
		Use:   "check IMG",
		Short: "Look for damage in an image",
		Long: `Check an image's header and tables against each other and the file, and decode all that is stored, which finds what
qemu-img check does not: damaged compressed data, and data that lie on tables. Counts of references, which only writing
needs, are not checked. Nothing is changed.

Exit status 0: whole; 1: it could not be checked; 2: damaged. These are qemu-img check's.`,
		Args: cli.Exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.check(); err != nil {
				return err
			}
			r, err := o.open(c.Context(), args[0], o.format)
			if err != nil {
				return checkFailed(err)
			}
			defer r.Close()
			m := newMeter(c.ErrOrStderr(), nil, progress && !quiet)
			out, err := checkAll(c.Context(), r, tables, m)
			m.end()
			if err != nil {
				return checkFailed(err)
			}
			if !quiet {
				what := fmt.Sprintf("%s of data were decoded", bytesText(out.Data))
				if tables {
					what = "the data were not read"
				}
				fmt.Fprintf(c.OutOrStdout(), "%s: no damage found; %s, %s of %s.\n", args[0], r.Info().Format, what, bytesText(r.Size()))
			}
			return nil
		},
	}
	o.flags(c)
	f := c.Flags()
	f.BoolVar(&tables, "tables-only", false, "do not read the data")
	f.BoolVarP(&quiet, "quiet", "q", false, "print nothing but errors")
	f.BoolVarP(&progress, "progress", "p", false, "show how far it is")
	return c
}

func checkAll(ctx context.Context, r image.Reader, tables bool, m *meter) (convert.Result, error) {
	if tables {
		for _, err := range r.Extents(0) {
			if err == nil {
				err = context.Cause(ctx)
			}
			if err != nil {
				return convert.Result{}, err
			}
		}
		return convert.Result{}, nil
	}
	return convert.Copy(ctx, r, nil, convert.CopyOptions{Progress: func(p convert.Progress) {
		m.tell(convert.Event{Phase: "check", Progress: p})
	}})
}

func checkFailed(err error) error {
	var e *image.Error
	if errors.As(err, &e) && e.Fault == image.Corrupt {
		return exitCode{exitCorrupt, err}
	}
	return exitCode{exitNotChecked, err}
}
