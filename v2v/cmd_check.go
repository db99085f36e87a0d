package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"initd/initd/cli"
	"initd/v2v/convert"
	"initd/v2v/image"
	"initd/v2v/sandbox"
)

// Exit statuses of qemu-img check.
const (
	exitNotChecked = 1
	exitCorrupt    = 2
	exitLeaks      = 3
)

func checkCommand() *cobra.Command {
	var o reading
	var quiet, tables, progress, asJSON bool
	c := &cobra.Command{
		Use:   "check IMG",
		Short: "Look for damage in an image",
		Long: `Check an image's header and tables against each other and the file, and decode all that is stored, which finds what
qemu-img check does not: damaged compressed data, and data that lie on tables. Of qcow2 the counts of references are
compared with what refers, cluster by cluster. Nothing is changed.

Exit status 0: whole; 1: it could not be checked, or a wrong call; 2: damaged; 3: whole, but some of the file is used by nothing. These are
qemu-img check's.`,
		Args: func(c *cobra.Command, args []string) error { return notChecked(cli.Exactly(1)(c, args)) },
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.check(); err != nil {
				return notChecked(err)
			}
			found := finding{Filename: args[0]}
			m := newMeter(c.ErrOrStderr(), nil, progress && !quiet)
			err := found.look(c.Context(), o, tables, m)
			m.end()
			var code exitCode
			if errors.As(err, &code) && code.code == exitNotChecked {
				return err
			}
			switch {
			case asJSON:
				if err := writeJSON(c.OutOrStdout(), found); err != nil {
					return err
				}
			case err == nil || code.code == exitLeaks:
				if !quiet || code.code == exitLeaks {
					var text bytes.Buffer
					found.print(&text, tables)
					if _, werr := text.WriteTo(c.OutOrStdout()); werr != nil && err == nil {
						return exitCode{exitNotChecked, werr}
					}
				}
			}
			return err
		},
	}
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return notChecked(c.Parent().FlagErrorFunc()(c, err)) })
	o.opening.Counts = true
	o.flags(c)
	f := c.Flags()
	f.BoolVar(&asJSON, "json", false, "print JSON, with qemu-img's names where it has them")
	f.BoolVar(&tables, "tables-only", false, "do not read the data")
	f.BoolVarP(&quiet, "quiet", "q", false, "print nothing but what is wrong")
	f.BoolVarP(&progress, "progress", "p", false, "show how far it is")
	return c
}

// notChecked is for wrong calls too: what other commands end with for them says here that an image is damaged.
func notChecked(err error) error {
	if err == nil {
		return nil
	}
	return exitCode{exitNotChecked, err}
}

// finding is what a check has found; its JSON has the names of qemu-img's ImageCheck (qapi/block-core.json) where it has them.
type finding struct {
	Filename    string   `json:"filename"`
	Format      string   `json:"format,omitempty"`
	VirtualSize int64    `json:"virtual-size"`
	Decoded     int64    `json:"decoded"` // bytes
	Errors      int64    `json:"check-errors"`
	Corruptions int64    `json:"corruptions"`
	Leaks       int64    `json:"leaks"` // clusters
	LeakedBytes int64    `json:"leaked-bytes"`
	NotCounted  string   `json:"not-counted,omitempty"`
	NotLeaked   string   `json:"leaks-not-counted,omitempty"`
	Findings    []string `json:"findings,omitempty"`
	Warnings    []string `json:"warnings,omitempty"`
}

// look opens and checks the image. The error carries the exit status.
func (f *finding) look(ctx context.Context, o reading, tables bool, m *meter) error {
	r, err := o.open(ctx, f.Filename, o.format)
	if err != nil {
		return f.failed(err)
	}
	defer r.Close()
	info := r.Info()
	f.Format, f.VirtualSize, f.Warnings = info.Format, r.Size(), info.Warnings
	out, err := checkAll(ctx, r, tables, m)
	if err != nil {
		return f.failed(err)
	}
	f.Decoded = out.Data
	c := info.Counts
	if c == nil {
		return nil
	}
	f.NotCounted, f.NotLeaked, f.Corruptions, f.Findings = c.Not, c.NotLeaked, c.Low+c.Marks, c.First
	f.Leaks, f.LeakedBytes = c.Leaked, c.Leaked*info.Unit
	switch {
	case c.Low > 0:
		return f.failed(&image.Error{Fault: image.Corrupt, Code: "qcow2-refcounts", Image: f.Filename, Format: info.Format,
			What: fmt.Sprintf("%s counted less often than used, so that who writes to it overwrites what is there; %s", clusters(c.Low), strings.Join(c.First, "; ")),
			Do:   "convert it, or repair a copy with qemu-img check -r all"})
	case c.Marks > 0:
		return f.failed(&image.Error{Fault: image.Corrupt, Code: "qcow2-copied", Image: f.Filename, Format: info.Format,
			What: fmt.Sprintf("the counts of %s contradict the entries that refer to them, so that who writes to it may change what belongs to others too; %s", clusters(c.Marks), strings.Join(c.First, "; ")),
			Do:   "convert it, or repair a copy with qemu-img check -r all"})
	case c.Leaked > 0:
		return exitCode{exitLeaks, nil}
	}
	return nil
}

func (f *finding) failed(err error) error {
	var e *image.Error
	if !errors.As(err, &e) || e.Fault != image.Corrupt {
		return exitCode{exitNotChecked, err}
	}
	if f.Corruptions == 0 {
		f.Corruptions, f.Findings = 1, []string{err.Error()}
	}
	return exitCode{exitCorrupt, err}
}

func (f *finding) print(w io.Writer, tables bool) {
	what := bytesText(f.Decoded) + " of data were decoded"
	if tables {
		what = "the data were not read"
	}
	fmt.Fprintf(w, "%s: no damage found; %s, %s of %s.\n", sandbox.Clean(f.Filename), f.Format, what, bytesText(f.VirtualSize))
	for _, s := range f.Warnings {
		fmt.Fprintf(w, "Note: %s.\n", sandbox.Clean(s))
	}
	if f.NotCounted != "" {
		fmt.Fprintf(w, "Counts of references were not compared: %s.\n", f.NotCounted)
	}
	if f.NotLeaked != "" {
		fmt.Fprintf(w, "Clusters that nothing uses were not looked for: %s.\n", f.NotLeaked)
	}
	if f.Leaks > 0 {
		fmt.Fprintf(w, "%s (%s) used by nothing; no harm, but room: qemu-img check -r leaks gives it back.\n", clusters(f.Leaks), bytesText(f.LeakedBytes))
		for _, l := range f.Findings {
			fmt.Fprintf(w, "  %s\n", l)
		}
	}
}

func clusters(n int64) string {
	if n == 1 {
		return "1 cluster"
	}
	return fmt.Sprintf("%d clusters", n)
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
