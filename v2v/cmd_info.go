package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"initd/initd/cli"
	"initd/v2v/file"
	"initd/v2v/formats"
	"initd/v2v/image"
	"initd/v2v/sandbox"
)

func infoCommand() *cobra.Command {
	var o reading
	var asJSON bool
	c := &cobra.Command{
		Use:   "info IMG",
		Short: "Say what an image is",
		Long: `Say an image's format, sizes and what else people look for. Nothing but the image is opened, and what it refers to
is not: an image that conversion would refuse is refused here too, by the same words.`,
		Args: cli.Exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			return o.with(c.Context(), args[0], func(r image.Reader) error {
				info := r.Info()
				if info.Stored < 0 {
					info.Stored = stored(args[0])
				}
				if asJSON {
					return infoJSON(c.OutOrStdout(), args[0], info)
				}
				var text bytes.Buffer
				infoText(&text, args[0], info)
				_, err := text.WriteTo(c.OutOrStdout())
				return err
			})
		},
	}
	o.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, with qemu-img's names where it has them")
	return c
}

// stored is what a file occupies, in bytes: a child without rights is not told. -1 for what is no file.
func stored(path string) int64 {
	src, err := file.Open(path, file.OpenOptions{Shared: true})
	if err != nil {
		return -1
	}
	defer src.Close()
	return src.Stored()
}

func infoText(w io.Writer, name string, info image.Info) {
	rows := [][2]string{{"image", name}, {"format", info.Format}}
	add := func(name, value string) { rows = append(rows, [2]string{name, value}) }
	if info.Subformat != "" {
		add("subformat", info.Subformat)
	}
	add("virtual size", sizeText(info.Size))
	if info.Stored >= 0 {
		add("stored", bytesText(info.Stored))
	}
	if info.Compressed != "" {
		add("compression", info.Compressed)
	}
	for i, f := range info.Files {
		label := ""
		if i == 0 {
			label = "further files"
		}
		add(label, f)
	}
	for _, d := range info.Details {
		add(d.Name, d.Value)
	}
	for _, s := range info.Warnings {
		add("note", s)
	}
	table(w, rows)
}

// table aligns what follows the names.
func table(w io.Writer, rows [][2]string) {
	width := 0
	for _, r := range rows {
		width = max(width, len(r[0]))
	}
	for _, r := range rows {
		fmt.Fprintf(w, "%-*s  %s\n", width, r[0], sandbox.Clean(r[1])) // an image may say anything
	}
}

func infoJSON(w io.Writer, name string, info image.Info) error {
	out := struct {
		Filename    string            `json:"filename"`
		Format      string            `json:"format"`
		Subformat   string            `json:"subformat,omitempty"`
		VirtualSize int64             `json:"virtual-size"`
		ActualSize  int64             `json:"actual-size,omitempty"`
		ClusterSize int64             `json:"cluster-size,omitempty"`
		Compression string            `json:"compression,omitempty"`
		Files       []string          `json:"files,omitempty"`
		Details     map[string]string `json:"details,omitempty"`
		Warnings    []string          `json:"warnings,omitempty"`
	}{
		Filename: name, Format: info.Format, Subformat: info.Subformat, VirtualSize: info.Size, ActualSize: max(0, info.Stored), ClusterSize: info.Unit,
		Compression: info.Compressed, Files: info.Files, Warnings: info.Warnings,
	}
	for _, d := range info.Details {
		if out.Details == nil {
			out.Details = map[string]string{}
		}
		out.Details[strings.ReplaceAll(d.Name, " ", "-")] = d.Value
	}
	return writeJSON(w, out)
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "    ")
	return e.Encode(v)
}

func formatsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "formats",
		Short: "List the formats and what -o takes",
		Args:  cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var text bytes.Buffer
			for i, f := range formats.All() {
				if i > 0 {
					fmt.Fprintln(&text)
				}
				formatText(&text, f)
			}
			_, err := text.WriteTo(c.OutOrStdout())
			return err
		},
	}
}

func formatText(w io.Writer, f image.Format) {
	names := f.Name
	if len(f.Aliases) > 0 {
		names += " (also " + strings.Join(f.Aliases, ", ") + ")"
	}
	can := []string{"read"}
	if f.Create != nil {
		can = append(can, "write")
	}
	if f.OpenStream != nil {
		can = append(can, "read from a pipe")
	}
	fmt.Fprintf(w, "%s: %s\n", names, strings.Join(can, ", "))
	var rows [][2]string
	for _, o := range f.Options {
		help := o.Help
		if o.Values != nil {
			help += ": " + strings.Join(o.Values, ", ")
		}
		if o.Default != "" {
			help += " (default " + o.Default + ")"
		}
		rows = append(rows, [2]string{"  " + o.Name, help})
	}
	table(w, rows)
}
