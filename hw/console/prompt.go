package console

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"initd/hw/secret"
)

// grace is how long after a key was pressed a deadline does not end the question.
const grace = 30 * time.Second

// Answer is what somebody typed, and where.
type Answer struct {
	Secret  *secret.Buffer // the caller destroys it
	Console string         // name of the file it was typed at
}

// ErrNoConsole says that there is no console at which somebody could answer.
var ErrNoConsole = errors.New("no console can be asked at")

// Asking is a question, and who hears how it goes. The functions may be nil and must return at once.
type Asking struct {
	Question string
	Typing   func() // a key was pressed; at most once a second
	Empty    func() // Enter, and nothing before it; the question is asked again
}

// typingEvery bounds how often Typing is called.
const typingEvery = time.Second

// Prompt writes question to all consoles at once and returns the first answer, as Ask does.
func Prompt(ctx context.Context, consoles []*os.File, question string) (Answer, error) {
	return Ask(ctx, consoles, Asking{Question: question})
}

// Ask writes the question to all consoles at once and returns the first answer. Nothing is echoed; backspace, ^W, ^U and
// ^C work; an empty line asks again; what was pasted before the question stands is read, and so are lines that end with
// CR, LF or both. It waits for as long as ctx does: cancelling ends it at once, a deadline not while somebody is typing.
//
// The answer lies in locked memory only. Call it in a process of its own (secret.ProtectProcess): what the terminal
// driver and a serial port hold is beyond its reach. If that process is killed, Sane repairs the terminals. The files are
// used to find the devices; they are neither read nor closed.
func Ask(ctx context.Context, consoles []*os.File, a Asking) (Answer, error) {
	return askAll(ctx, consoles, a, grace)
}

func askAll(ctx context.Context, consoles []*os.File, a Asking, grace time.Duration) (Answer, error) {
	question := a.Question
	var terminals []*terminal
	defer func() { leave(terminals) }()
	var reasons []string
	for _, f := range consoles {
		t, err := openTerminal(f)
		if err != nil {
			reasons = append(reasons, err.Error())
			continue
		}
		terminals = append(terminals, t)
	}
	if len(terminals) == 0 {
		if len(reasons) == 0 {
			reasons = []string{"the machine has none"}
		}
		return Answer{}, fmt.Errorf("ask %q: %w: %s", question, ErrNoConsole, strings.Join(reasons, "; "))
	}
	w, err := newWaker(ctx)
	if err != nil {
		return Answer{}, err
	}
	defer w.close()
	ask := "\n" + printable(question) + ": "
	for _, t := range terminals {
		t.say(ask)
	}
	var pressed time.Time // the last key, at any console
	for {
		limit := time.Duration(-1)
		if err := ctx.Err(); err != nil {
			busy := slices.ContainsFunc(terminals, func(t *terminal) bool { return t.line.n > 0 })
			limit = time.Until(pressed.Add(grace))
			if !errors.Is(err, context.DeadlineExceeded) || !busy || limit <= 0 {
				end(terminals, "\n(no answer is needed any more)\n")
				return Answer{}, fmt.Errorf("ask %q: nobody answered: %w", question, context.Cause(ctx))
			}
		}
		if err := w.poll(terminals, limit); err != nil {
			return Answer{}, err
		}
		for _, t := range terminals {
			if t.fd < 0 {
				continue
			}
			t.flush()
			done, heard := t.hear(ask, a.Empty)
			if heard {
				if a.Typing != nil && time.Since(pressed) >= typingEvery {
					a.Typing()
				}
				pressed = time.Now()
			}
			if !done {
				continue
			}
			answer, err := secret.From(t.line.buf.Bytes()[:t.line.n])
			if err != nil {
				return Answer{}, fmt.Errorf("ask %q: %w", question, err)
			}
			t.say("\n")
			others := slices.DeleteFunc(slices.Clone(terminals), func(o *terminal) bool { return o == t })
			end(others, "\n(answered at "+filepath.Base(t.name)+")\n")
			return Answer{Secret: answer, Console: t.name}, nil
		}
		if !slices.ContainsFunc(terminals, func(t *terminal) bool { return t.fd >= 0 }) {
			return Answer{}, fmt.Errorf("ask %q: %w: all of them hung up", question, ErrNoConsole)
		}
	}
}

// hear takes what was typed; done when the line is complete.
func (t *terminal) hear(ask string, empty func()) (done, heard bool) {
	for {
		result, ok := t.read()
		if !ok {
			return false, heard
		}
		heard = heard || result == typed
		switch result {
		case entered:
			return true, true
		case nothing:
			heard = true
			t.say(ask)
			if empty != nil {
				empty()
			}
		case restart:
			t.say(ask)
		case tooLong:
			t.say(fmt.Sprintf("\nThat is longer than %d bytes.%s", maxAnswer, ask))
		}
	}
}

// end tells those who see the question that it stands no more.
func end(terminals []*terminal, text string) {
	for _, t := range terminals {
		if t.fd >= 0 {
			t.say(text)
		}
	}
}
