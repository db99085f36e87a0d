package step

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"initd/boot/engine"
	"initd/hw/console"
	"initd/hw/secret"
)

// Desk is where people are asked for keys: one question at a time, at all
// consoles at once. Volumes that wait for an answer stand in line there; an
// answer that one of them gets is tried on all of them.
type Desk struct {
	// Shown hears which question stands on the consoles, "" for none, and again
	// when nobody waits any more; Typing
	// that somebody types; Empty that somebody pressed Enter and nothing else.
	// They may be nil, are set before the first use, and return at once.
	Shown  func(question string)
	Typing func()
	Empty  func()
	// Left hears that a volume waits no more.
	Left func(name string)

	mu    sync.Mutex
	line  []*seat            // guarded by mu: whoever waits, first come first
	busy  bool               // guarded by mu: a seat has its turn
	held  int                // guarded by mu: nobody gets a turn
	end   context.CancelFunc // guarded by mu: takes the question away
	moved chan struct{}      // guarded by mu; closed when a turn may be had
}

// NewDesk makes a desk at which nobody waits.
func NewDesk() *Desk { return &Desk{moved: make(chan struct{})} }

// seat is one volume that waits for an answer.
type seat struct {
	name string
	open openParams
	// trial has a token while nobody tries a key on the volume.
	trial chan struct{}
	// opened gets the name of the volume whose answer opened this one too.
	opened chan string
}

// sit joins the line.
func (d *Desk) sit(name string, p openParams) *seat {
	s := &seat{name: name, open: p, trial: make(chan struct{}, 1), opened: make(chan string, 1)}
	s.trial <- struct{}{}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.line = append(d.line, s)
	return s
}

// leave quits the line.
func (d *Desk) leave(s *seat) {
	d.mu.Lock()
	d.line = slices.DeleteFunc(d.line, func(o *seat) bool { return o == s })
	over := len(d.line) == 0
	d.move()
	d.mu.Unlock()
	if over && d.Shown != nil {
		d.Shown("")
	}
	if d.Left != nil {
		d.Left(s.name)
	}
}

// move wakes those who wait for their turn. d.mu is held.
func (d *Desk) move() {
	close(d.moved)
	d.moved = make(chan struct{})
}

// Waiting lists the volumes that wait for an answer, the next one first.
func (d *Desk) Waiting() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []string
	for _, s := range d.line {
		list = append(list, s.name)
	}
	return list
}

// Hold takes the question away and lets no other come up before release is
// called: somebody else needs the keyboard.
func (d *Desk) Hold() (release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.held++
	if d.end != nil {
		d.end()
	}
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.held--
		d.move()
	})
}

// First lets a volume be asked for next. It tells whether it waits at all.
func (d *Desk) First(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := slices.IndexFunc(d.line, func(s *seat) bool { return s.name == name })
	if i > 0 {
		s := d.line[i]
		d.line = slices.Insert(slices.Delete(d.line, i, i+1), 0, s)
	}
	return i >= 0
}

// Why a wait for a turn ended without one.
var (
	errFed    = errors.New("the key came by another way")
	errOpened = errors.New("another volume's answer opened it")
	errHeld   = errors.New("somebody else needs the keyboard")
)

// turn waits until s may ask. errFed and errOpened say that it need not.
func (d *Desk) turn(ctx context.Context, s *seat, fed <-chan struct{}, by *string) error {
	for {
		select {
		case *by = <-s.opened:
			return errOpened
		default:
		}
		d.mu.Lock()
		if !d.busy && d.held == 0 && len(d.line) > 0 && d.line[0] == s {
			d.busy = true
			d.mu.Unlock()
			return nil
		}
		moved := d.moved
		d.mu.Unlock()
		select {
		case <-moved:
		case <-fed:
			return errFed
		case *by = <-s.opened:
			return errOpened
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// done ends a turn.
func (d *Desk) done() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.busy = false
	d.move()
}

// others lists those in line beside s on whom no key is being tried now, and
// takes their tokens, which the caller gives back.
func (d *Desk) others(s *seat) []*seat {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []*seat
	for _, o := range d.line {
		if o == s {
			continue
		}
		select {
		case <-o.trial:
			list = append(list, o)
		default:
		}
	}
	return list
}

// Ask asks one question and returns the answer as a sealed memfd. Whoever
// calls has the turn, or holds the desk. It ends early by ctx, and with
// errHeld by a Hold after it began.
func (d *Desk) Ask(ctx context.Context, c Children, unit, question string) (*os.File, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d.mu.Lock()
	d.end = func() { cancel(errHeld) }
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		d.end = nil
		d.mu.Unlock()
	}()
	if d.Shown != nil {
		d.Shown(question)
		defer d.Shown("")
	}
	var got *os.File
	_, err := c.Run(ctx, Call{Func: "prompt", Unit: unit, Params: question, Progress: func(p ChildProgress) {
		switch {
		case len(p.Files) == 1 && got == nil:
			got = p.Files[0]
		case p.Progress == nil:
		case p.Progress.Text == heardTyping && d.Typing != nil:
			d.Typing()
		case p.Progress.Text == heardEmpty && d.Empty != nil:
			d.Empty()
		}
	}})
	if got != nil {
		return got, nil
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err == nil {
		err = errors.New("nobody answered")
	}
	return nil, err
}

// What the child prompt tells beside the answer.
const (
	heardTyping = "typing"
	heardEmpty  = "empty"
)

// promptKey is the child prompt.
func promptKey(ctx context.Context, in *ChildInput, question string) (any, error) {
	if err := protect(); err != nil {
		return nil, err
	}
	open, err := console.OpenActive("/")
	if err != nil {
		return nil, err
	}
	tell := func(what string) func() {
		return func() { in.Tell(ChildProgress{Index: -1, Progress: &engine.Progress{Text: what}}) }
	}
	a, err := console.Ask(ctx, open, console.Asking{Question: question, Typing: tell(heardTyping), Empty: tell(heardEmpty)})
	if err != nil {
		return nil, err
	}
	return nil, tellKey(in, a.Secret)
}

// tellKey hands b over as a sealed memfd and wipes it.
func tellKey(in *ChildInput, b *secret.Buffer) error {
	defer b.Destroy()
	f, err := secret.Seal("initd-key", b.Bytes())
	if err != nil {
		return fmt.Errorf("hand key over: %w", err)
	}
	defer f.Close()
	in.Tell(ChildProgress{Done: true, Files: []*os.File{f}})
	return nil
}
