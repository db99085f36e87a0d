package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"initd/initd/cli"
	"initd/v2v/image"
	"initd/v2v/sandbox"
)

func mapCommand() *cobra.Command {
	var o reading
	var asJSON bool
	c := &cobra.Command{
		Use:   "map IMG",
		Short: "Say where an image holds data, zeros and nothing",
		Long: `List the ranges of an image's disk, in order. With --json each is an object of qemu-img map's JSON (start, length, depth,
present, zero, data, compressed, offset); neighbours of the same kind are one range.`,
		Args: cli.Exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			write := mapText
			if asJSON {
				write = mapJSON
			}
			return o.with(c.Context(), args[0], func(r image.Reader) error {
				w := bufio.NewWriter(c.OutOrStdout())
				if err := write(c.Context(), w, r); err != nil {
					return err
				}
				return w.Flush()
			})
		},
	}
	o.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON as qemu-img map --output=json does")
	return c
}

// joined yields the extents with neighbours of one kind joined, also where their place in the file is not told.
func joined(ctx context.Context, r image.Reader, yield func(image.Extent) error) error {
	var last image.Extent
	for e, err := range r.Extents(0) {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		if last.Length > 0 && last.Kind == e.Kind && last.Compressed == e.Compressed && last.File == e.File &&
			(last.Place < 0 && e.Place < 0 || last.Place >= 0 && e.Place == last.Place+last.Length) {
			last.Length += e.Length
			continue
		}
		if last.Length > 0 {
			if err := yield(last); err != nil {
				return err
			}
		}
		last = e
	}
	if last.Length > 0 {
		return yield(last)
	}
	return nil
}

func mapJSON(ctx context.Context, w io.Writer, r image.Reader) error {
	flat := r.Info().Format == "raw"
	fmt.Fprint(w, "[")
	first := true
	err := joined(ctx, r, func(e image.Extent) error {
		if !first {
			fmt.Fprint(w, ",\n")
		}
		first = false
		data := e.Kind == image.Data
		fmt.Fprintf(w, `{ "start": %d, "length": %d, "depth": 0, "present": %t, "zero": %t, "data": %t, "compressed": %t`,
			e.Offset, e.Length, e.Kind != image.Hole || flat, !data, data, e.Compressed)
		switch {
		case e.Place >= 0 && data:
			fmt.Fprintf(w, `, "offset": %d`, e.Place)
		case flat:
			fmt.Fprintf(w, `, "offset": %d`, e.Offset)
		}
		if e.File > 0 && e.File <= len(r.Info().Files) {
			name, err := json.Marshal(r.Info().Files[e.File-1])
			if err != nil {
				return err
			}
			fmt.Fprintf(w, `, "filename": %s`, name)
		}
		_, err := fmt.Fprint(w, "}")
		return err
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, "]")
	return err
}

func mapText(ctx context.Context, w io.Writer, r image.Reader) error {
	fmt.Fprintf(w, "%16s  %16s  %-10s  %s\n", "offset", "length", "kind", "place")
	return joined(ctx, r, func(e image.Extent) error {
		kind, place := e.Kind.String(), ""
		if e.Compressed {
			kind = "compressed"
		}
		if e.Kind == image.Data && e.Place >= 0 {
			place = fmt.Sprint(e.Place)
			if e.File > 0 && e.File <= len(r.Info().Files) {
				place += " in " + sandbox.Clean(r.Info().Files[e.File-1])
			}
		}
		line := fmt.Sprintf("%16d  %16d  %-10s  %s", e.Offset, e.Length, kind, place)
		for len(line) > 0 && line[len(line)-1] == ' ' {
			line = line[:len(line)-1]
		}
		_, err := fmt.Fprintln(w, line)
		return err
	})
}
