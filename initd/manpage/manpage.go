// Package manpage writes the man pages of a program out of its commands, for packages.
//
// It owns the form of a page (man(7)), and knows no command.
package manpage

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Tree writes a page for a command and for each below it that people call into a folder. Version is shown at the pages' feet.
// cobra's own writer goes through Markdown: its libraries cost every child that starts, and the image half a megabyte.
func Tree(c *cobra.Command, dir string, date time.Time, version string) error {
	for _, below := range c.Commands() {
		if below.IsAvailableCommand() {
			if err := Tree(below, dir, date, version); err != nil {
				return err
			}
		}
	}
	c.InitDefaultHelpFlag()
	return os.WriteFile(filepath.Join(dir, manName(c)+".1"), page(c, date, version), 0o644)
}

func manName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

func page(c *cobra.Command, date time.Time, version string) []byte {
	var p roff
	program := c.Root().Name()
	p.line(".nh\n.TH %q \"1\" %q %q %q", strings.ToUpper(manName(c)), date.Format("Jan 2006"), program+" "+version, program)
	p.line(".SH NAME")
	p.text(manName(c) + " - " + c.Short)
	p.line(".SH SYNOPSIS\n.B %s", escapeRoff(c.UseLine()))
	if long := strings.TrimSpace(c.Long); long != "" {
		p.line(".SH DESCRIPTION")
		p.paragraphs(long)
	}
	p.flags("OPTIONS", c.NonInheritedFlags())
	p.flags("OPTIONS OF ALL ITS KIND", c.InheritedFlags())
	if example := strings.Trim(c.Example, "\n"); example != "" {
		p.line(".SH EXAMPLES")
		p.literal(example)
	}
	if see := seeAlso(c); len(see) > 0 {
		p.line(".SH SEE ALSO")
		p.text(strings.Join(see, ", "))
	}
	return []byte(p.String())
}

func seeAlso(c *cobra.Command) []string {
	var see []string
	if c.HasParent() {
		see = append(see, manName(c.Parent())+"(1)")
	}
	for _, below := range c.Commands() {
		if below.IsAvailableCommand() {
			see = append(see, manName(below)+"(1)")
		}
	}
	slices.Sort(see)
	return see
}

// roff is a page in the making.
type roff struct{ strings.Builder }

func (r *roff) line(format string, args ...any) { fmt.Fprintf(r, format+"\n", args...) }

// text is filled: line ends are not kept.
func (r *roff) text(s string) {
	for line := range strings.Lines(s) {
		r.line("%s", escapeRoff(strings.TrimRight(line, "\n")))
	}
}

// literal keeps line ends.
func (r *roff) literal(s string) {
	r.line(".PP\n.nf\n.RS")
	r.text(s)
	r.line(".RE\n.fi")
}

// paragraphs are parted by empty lines; those that are indented are literal.
func (r *roff) paragraphs(s string) {
	for i, p := range strings.Split(s, "\n\n") {
		if strings.HasPrefix(p, " ") || strings.HasPrefix(p, "\t") {
			r.literal(p)
			continue
		}
		if i > 0 {
			r.line(".PP")
		}
		r.text(p)
	}
}

func (r *roff) flags(title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	r.line(".SH %s", title)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Deprecated != "" {
			return
		}
		kind, usage := pflag.UnquoteUsage(f)
		name := "--" + f.Name
		if f.Shorthand != "" && f.ShorthandDeprecated == "" {
			name = "-" + f.Shorthand + ", " + name
		}
		r.line(".TP\n\\fB%s\\fP %s", escapeRoff(name), escapeRoff(kind))
		if !slices.Contains([]string{"", "false", "[]", "0", "0s"}, f.DefValue) && !strings.Contains(usage, "(default") {
			usage += " (default: " + f.DefValue + ")"
		}
		r.text(usage)
	})
}

// escapeRoff keeps backslashes, hyphens that are typed, and lines that would be requests (roff(7)).
func escapeRoff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}
