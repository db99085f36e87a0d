package appliance

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

const (
	anchorMessage = "anchors and aliases are not part of this format"
	anchorHint    = "write the value out; a text that begins with & or * goes into quotes"
)

// syntaxProblem says what keeps a file from being YAML. Nothing of the file is repeated: it may be a secret without quotes.
func syntaxProblem(s Source, err error) Problem {
	problem := func(pos Pos, hint, message string) Problem {
		return Problem{Pos: pos, File: pos.File, Line: pos.Line, Column: pos.Col, Message: message, Hint: hint}
	}
	pos, message := Pos{File: s.Name, Line: 1, Col: 1}, strings.TrimPrefix(err.Error(), "yaml: ")
	var le *yaml.LoadError
	if errors.As(err, &le) {
		pos.Line, pos.Col, message = max(le.Mark.Line, 1), max(le.Mark.Column, 1), le.Message
	}
	if strings.Contains(message, "unknown anchor") {
		return problem(pos, anchorHint, anchorMessage)
	}
	if at, what := notText(s.Data); what != "" {
		before := s.Data[:at]
		pos.Line = 1 + bytes.Count(before, []byte("\n"))
		pos.Col = 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
		return problem(pos, "save the file as text in UTF-8", what)
	}
	return problem(pos, syntaxHint(s.Data, pos.Line), "YAML syntax: "+message)
}

// notText finds the first thing that no YAML file has: bytes that are not UTF-8, and control characters (YAML 1.2.2, section 5.1).
// A file that says by its first bytes that it is UTF-16 is not looked at.
func notText(data []byte) (at int, what string) {
	if bytes.HasPrefix(data, []byte{0xfe, 0xff}) || bytes.HasPrefix(data, []byte{0xff, 0xfe}) {
		return 0, ""
	}
	for at < len(data) {
		r, n := utf8.DecodeRune(data[at:])
		switch {
		case r == utf8.RuneError && n == 1:
			return at, fmt.Sprintf("the byte 0x%02x is not UTF-8", data[at])
		case r < 0x20 && r != '\t' && r != '\n' && r != '\r', r == 0x7f, r >= 0x80 && r < 0xa0 && r != 0x85:
			return at, fmt.Sprintf("the control character U+%04X", r)
		}
		at += n
	}
	return 0, ""
}

// syntaxHint guesses what is wrong around a line that is no YAML.
func syntaxHint(data []byte, line int) string {
	lines := strings.Split(string(data), "\n")
	for i := max(line-2, 0); i < min(line+1, len(lines)); i++ {
		if blank := lines[i][:len(lines[i])-len(strings.TrimLeft(lines[i], " \t"))]; strings.Contains(blank, "\t") {
			return "indent with spaces: YAML takes no tabs"
		}
	}
	return "look at the indentation, the brackets and the quotes here and in the line above"
}
