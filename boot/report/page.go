package report

import (
	"fmt"
	"io"
	"strings"
)

// page collects lines of at most its style's width.
type page struct {
	s Style
	b strings.Builder
}

func (p *page) to(w io.Writer) error {
	if _, err := io.WriteString(w, p.b.String()); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

func (p *page) line(s string) {
	p.b.WriteString(strings.TrimRight(s, " "))
	p.b.WriteByte('\n')
}

// Columns of a row: name, state, and what there is to say.
const (
	nameColumn  = 26
	stateColumn = 9
)

// row writes a unit; what does not fit goes on below, in the last column.
func (p *page) row(id string, st State, note string) {
	indent := 2 + nameColumn + 1 + stateColumn + 1
	head := fmt.Sprintf("  %-*s ", nameColumn, id)
	if len(id) > nameColumn {
		p.line("  " + plain(id))
		head = strings.Repeat(" ", 2+nameColumn+1)
	}
	lines := fold(plain(note), p.s.width()-indent)
	p.line(head + p.state(st) + " " + lines[0])
	for _, l := range lines[1:] {
		p.line(strings.Repeat(" ", indent) + l)
	}
}

// wrap writes a paragraph whose later lines start with indent.
func (p *page) wrap(text, indent string) {
	lines := fold(plain(text), p.s.width()-len(indent))
	p.line(lines[0])
	for _, l := range lines[1:] {
		p.line(indent + l)
	}
}

// fold breaks text at spaces into lines of at most width bytes; a word that is
// longer is broken. There is at least one line.
func fold(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		for len(word) > width {
			if line != "" {
				lines, line = append(lines, line), ""
			}
			lines, word = append(lines, word[:width]), word[width:]
		}
		switch {
		case line == "":
			line = word
		case len(line)+1+len(word) <= width:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
	}
	return append(lines, line)
}

// plain keeps what any console shows: one line of printable ASCII. What comes
// from devices and servers must not steer a terminal.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case r < 0x20 || r == 0x7f:
			return -1
		case r > 0x7e:
			return '?'
		}
		return r
	}, s)
}

// Colours of states.
const (
	green  = "32"
	yellow = "33"
	red    = "31"
	grey   = "2"
)

func (p *page) state(s State) string {
	text := fmt.Sprintf("%-*s", stateColumn, s)
	return p.colour(text, colourOf(s))
}

func colourOf(s State) string {
	switch s {
	case Done, Adopted:
		return green
	case Degraded, Lost, Skipped, Orphan:
		return yellow
	case Failed, Stuck:
		return red
	}
	return grey
}

func (p *page) colour(text, code string) string {
	if !p.s.Colour || code == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p *page) bold(text string) string { return p.colour(text, "1") }
