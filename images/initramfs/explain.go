package initramfs

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Schema names the JSON form of an explanation; fields are only ever added.
const Schema = "initd.image/v1"

// Cost is what one asker brought into the image.
type Cost struct {
	By    string `json:"by"`
	Files int    `json:"files"`
	Bytes int64  `json:"bytes"`
}

// Explanation says for each file who asked for it, and sums up. Whoever asks first carries the cost of what several need.
type Explanation struct {
	Schema  string   `json:"schema"`
	Release string   `json:"release,omitempty"` // of the kernel that the modules are for
	Bytes   int64    `json:"bytes"`             // before compression
	Askers  []Cost   `json:"askers"`            // the most expensive first
	Files   []Entry  `json:"files"`
	Notes   []string `json:"notes,omitempty"`
}

// Explain accounts for the image.
func (m *Image) Explain() Explanation {
	e := Explanation{Schema: Schema, Release: m.Release, Files: m.Files, Notes: m.Notes}
	at := map[string]int{}
	for _, f := range m.Files {
		i, ok := at[f.By]
		if !ok {
			i = len(e.Askers)
			at[f.By] = i
			e.Askers = append(e.Askers, Cost{By: f.By})
		}
		e.Askers[i].Files++
		e.Askers[i].Bytes += f.Size
		e.Bytes += f.Size
	}
	slices.SortFunc(e.Askers, func(a, b Cost) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), strings.Compare(a.By, b.By))
	})
	return e
}

// JSON writes the explanation for programs.
func (e Explanation) JSON(w io.Writer) error {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(e)
}

// Text writes the explanation for people: files in order of their paths, sums by asker, notes.
func (e Explanation) Text(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SIZE\tFILE\tASKED FOR BY\tFROM")
	for _, f := range e.Files {
		name := f.Path
		switch f.Type {
		case "link":
			name += " -> " + f.Target
		case "folder":
			name += "/"
		}
		size := ""
		if f.Type == "file" {
			size = fmt.Sprint(f.Size)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", size, name, f.By, f.From)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "FILES\tKIB\t")
	for _, c := range e.Askers {
		fmt.Fprintf(t, "%d\t%s\t\t%s\n", c.Files, kib(c.Bytes), c.By)
	}
	fmt.Fprintf(t, "%d\t%s\t\t%s\n", len(e.Files), kib(e.Bytes), "in all, before compression")
	if err := t.Flush(); err != nil {
		return err
	}
	for _, n := range e.Notes {
		if _, err := fmt.Fprintln(w, "note:", n); err != nil {
			return err
		}
	}
	return nil
}

// kib rounds up: nothing costs nothing.
func kib(bytes int64) string { return fmt.Sprint((bytes + 1023) / 1024) }
