package console

import "strings"

// printable replaces what is not printable ASCII: a console may know no other letters, and nothing that a server or a
// file sends may move a cursor or change a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// Wrap breaks text into lines of at most columns bytes, at spaces where there are some; the second line and those after it
// begin with indent. What is not printable ASCII becomes '?'. There is always one line at least.
func Wrap(text string, columns int, indent string) []string {
	text = strings.TrimRight(printable(text), " ")
	if columns <= len(indent) {
		indent = ""
	}
	var lines []string
	prefix := ""
	for columns > 0 && len(prefix)+len(text) > columns {
		room := columns - len(prefix)
		cut := strings.LastIndexByte(text[:room+1], ' ')
		if cut <= 0 || strings.TrimSpace(text[:cut]) == "" {
			cut = room // a word longer than the line
		}
		lines = append(lines, strings.TrimRight(prefix+text[:cut], " "))
		text = strings.TrimLeft(text[cut:], " ")
		prefix = indent
	}
	if text != "" || len(lines) == 0 {
		lines = append(lines, prefix+text)
	}
	return lines
}
