package main

import (
	"os"
	"sync"

	"initd/boot/step"
	"initd/hw/console"
	"initd/initd/failure"
)

// newDesk makes the desk at which volumes ask for keys, and keeps the consoles
// fit for it: from the first question to the last nothing is echoed, for a
// paste may hold several answers, and the kernel does not write between them.
func (o *orchestrator) newDesk() *step.Desk {
	d := step.NewDesk()
	d.Shown = func(question string) {
		if question == "" && o.people.menu.Load() { // it needs the consoles as they are
			question = failure.Question
		}
		o.screen.question(question)
		switch {
		case question != "":
			o.people.kernel.quiet(forQuestions)
			atConsoles(console.Hush)
		case len(d.Waiting()) == 0:
			o.people.kernel.loud(forQuestions)
			atConsoles(console.Sane)
		}
	}
	d.Typing = func() { go o.typed() }
	d.Empty = func() { nudge(o.people.empty) }
	d.Left = func(string) { nudge(o.people.left) }
	return d
}

// tidyConsoles mends what an orchestrator before this one left when it was
// killed while somebody was asked.
func tidyConsoles() {
	atConsoles(console.Sane)
	if restore, err := console.QuietKernel("/"); err == nil {
		restore()
	}
}

// For what the kernel is kept quiet.
const (
	forQuestions = 1 << iota
	forFailure
)

// kernelVoice keeps the kernel's messages off the consoles for as long as
// somebody needs that.
type kernelVoice struct {
	mu      sync.Mutex
	needs   int    // guarded by mu; bits of those who need quiet
	restore func() // guarded by mu; nil while the kernel may speak
}

func (k *kernelVoice) quiet(need int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.needs |= need
	if k.restore != nil {
		return
	}
	if restore, err := console.QuietKernel("/"); err == nil { // else lines tear each other
		k.restore = restore
	}
}

func (k *kernelVoice) loud(need int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.needs &^= need
	if k.needs == 0 && k.restore != nil {
		k.restore()
		k.restore = nil
	}
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
