package console

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Board is all consoles with their keyboards: what is shown is shown on each, and a key counts wherever it is pressed.
// It is for one goroutine at a time.
type Board struct {
	consoles  []*os.File
	terminals []*terminal
	at        string
}

// Enter is the key that Next gives for a line's end.
const Enter = '\r'

// NewBoard takes the keyboards of consoles, as Ask does; Close gives them back. ErrNoConsole if there is none. The files
// are used to find the devices; they are neither read nor closed, and stay open as long as the Board.
func NewBoard(consoles []*os.File) (*Board, error) {
	b := &Board{consoles: consoles}
	return b, b.Renew()
}

// Renew takes the keyboards anew. A console hangs up on all that have it open when a session ends that had it as its
// controlling terminal (disassociate_ctty in drivers/tty/tty_jobctrl.c).
func (b *Board) Renew() error {
	b.Close()
	var reasons []string
	for _, f := range b.consoles {
		t, err := openTerminal(f)
		if err != nil {
			reasons = append(reasons, err.Error())
			continue
		}
		b.terminals = append(b.terminals, t)
	}
	if len(b.terminals) == 0 {
		return fmt.Errorf("listen at the consoles: %w: %s", ErrNoConsole, strings.Join(reasons, "; "))
	}
	return nil
}

// Close restores the terminals, once they have taken what was shown, or after a second.
func (b *Board) Close() {
	leave(b.terminals)
	b.terminals = nil
}

// Show writes text to every console, as far as each takes it now; the rest goes while Next waits, or at Close. What is neither
// printable ASCII nor a newline becomes '?'.
func (b *Board) Show(text string) {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = printable(lines[i])
	}
	for _, t := range b.terminals {
		t.say(strings.Join(lines, "\n"))
	}
}

// Next waits for a key at any console: a printable character, or Enter. Arrow keys and the like are no keys here.
func (b *Board) Next(ctx context.Context) (byte, error) {
	w, err := newWaker(ctx)
	if err != nil {
		return 0, err
	}
	defer w.close()
	for {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		for _, t := range b.terminals {
			if t.fd < 0 {
				continue
			}
			t.flush()
			if key, ok := t.key(); ok {
				b.at = t.name
				return key, nil
			}
		}
		if !slices.ContainsFunc(b.terminals, func(t *terminal) bool { return t.fd >= 0 }) {
			return 0, fmt.Errorf("listen at the consoles: %w: all of them hung up", ErrNoConsole)
		}
		if err := w.poll(b.terminals, -1); err != nil {
			return 0, err
		}
	}
}

// At is the console at which the last key was pressed: the name of its file.
func (b *Board) At() string { return b.at }

// key takes the next key that was pressed at this terminal.
func (t *terminal) key() (byte, bool) {
	for {
		result, ok := t.read()
		if !ok {
			return 0, false
		}
		switch {
		case result == nothing || result == entered:
			t.line.cut(0)
			return Enter, true
		case result == typed && t.line.n > 0:
			key := t.line.buf.Bytes()[0]
			t.line.cut(0)
			return key, true
		}
	}
}
