package console

import (
	"unicode/utf8"

	"initd/hw/secret"
)

// maxAnswer bounds a typed answer, in bytes; a longer one is refused, never cut short.
const maxAnswer = 4096

// Control characters that edit a line, as the terminal driver has them by default (termios(3), c_cc).
const (
	ctrlC  = 0x03 // VINTR: here, begin again
	ctrlH  = 0x08
	ctrlU  = 0x15 // VKILL
	ctrlW  = 0x17 // VWERASE
	escape = 0x1b
	del    = 0x7f // VERASE
)

// line is what is being typed. It edits in locked memory: the terminal driver, which would do it too, keeps the line in
// memory of the kernel that it never wipes, and cannot do it without echo of what follows.
type line struct {
	buf  *secret.Buffer // maxAnswer bytes
	n    int
	long bool // more was typed than there is room for
	esc  int  // within an escape sequence: 1 after ESC, 2 within CSI or after SS3
	had  bool // something came for this line: a first LF is the rest of the CR LF that ended the line before
}

// outcome of one typed byte.
type outcome int

const (
	typed    outcome = iota // go on
	entered                 // the line is complete
	nothing                 // Enter without anything before it: ask again
	tooLong                 // Enter after more than fits: ask again
	restart                 // begin again, and show the question
	consumed                // belongs to no line (an arrow key, a terminal's report)
)

func (l *line) put(c byte) outcome {
	first := !l.had
	l.had = true
	switch {
	case first && c == '\n':
		return consumed
	case l.esc == 1:
		// ECMA-48: CSI is ESC [, SS3 (function keys) ESC O; any other is ESC and one byte.
		l.esc = 0
		if c == '[' || c == 'O' {
			l.esc = 2
		}
		return consumed
	case l.esc == 2:
		if c >= '@' && c <= '~' {
			l.esc = 0
		}
		return consumed
	}
	switch c {
	case '\n', '\r':
		return l.enter()
	case del, ctrlH:
		l.cut(l.back())
	case ctrlU:
		l.cut(0)
	case ctrlW:
		for l.n > 0 && l.buf.Bytes()[l.n-1] == ' ' {
			l.cut(l.n - 1)
		}
		for l.n > 0 && l.buf.Bytes()[l.n-1] != ' ' {
			l.cut(l.n - 1)
		}
	case ctrlC:
		l.cut(0)
		return restart
	case escape:
		l.esc = 1
		return consumed
	default:
		if c < ' ' && c != '\t' {
			return consumed
		}
		if l.n == maxAnswer {
			l.long = true
			return typed
		}
		l.buf.Bytes()[l.n] = c
		l.n++
	}
	return typed
}

func (l *line) enter() outcome {
	switch {
	case l.long:
		l.cut(0)
		return tooLong
	case l.n == 0:
		l.had = false
		return nothing
	}
	return entered
}

// back is where the last character begins; one of several bytes goes as a whole.
func (l *line) back() int {
	if l.n == 0 {
		return 0
	}
	_, size := utf8.DecodeLastRune(l.buf.Bytes()[:l.n])
	return l.n - size
}

// cut forgets what is from n on.
func (l *line) cut(n int) {
	clear(l.buf.Bytes()[n:l.n])
	l.n = n
	if n == 0 {
		l.long = false
	}
}
