package main

import (
	"os"

	"initd/boot/step"
	"initd/hw/console"
	"initd/initd/failure"
)

// newDesk makes the desk at which volumes ask for keys, and keeps the consoles
// fit for it.
func (o *orchestrator) newDesk() *step.Desk {
	d := step.NewDesk()
	d.Shown = func(question string) {
		if question == "" && o.people.menu.Load() { // it needs the consoles as they are
			question = failure.Question
		}
		o.screen.question(question)
		switch {
		case question != "":
			atConsoles(console.Hush) // until nobody asks any more: a paste may hold several answers
		case len(d.Waiting()) == 0:
			atConsoles(console.Sane)
		}
	}
	d.Typing = func() { go o.typed() }
	d.Empty = func() { nudge(o.people.empty) }
	d.Left = func(string) { nudge(o.people.left) }
	return d
}

// atConsoles does something to every console; one that fails is one at which
// nobody can be asked.
func atConsoles(do func(*os.File) error) {
	open, err := console.OpenActive("/")
	if err != nil {
		return
	}
	for _, f := range open {
		_ = do(f)
		f.Close()
	}
}
