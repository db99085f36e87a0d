package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"initd/boot/report"
	"initd/boot/step"
	"initd/hw/console"
	"initd/initd/failure"
)

// people is what the failure screen hears of the rest of the program. Its
// channels have room for one: whoever sends never waits.
type people struct {
	failing atomic.Bool
	changed chan struct{} // failing did
	empty   chan struct{} // Enter, and nothing else, at a question
	left    chan struct{} // a volume waits no more
	menu    atomic.Bool   // the keyboard is the menu's
	kernel  kernelVoice
}

func newPeople() *people {
	return &people{changed: make(chan struct{}, 1), empty: make(chan struct{}, 1), left: make(chan struct{}, 1)}
}

// fails says whether the boot needs people.
func (p *people) fails(now bool) {
	if p.failing.Swap(now) != now {
		nudge(p.changed)
	}
}

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// helpPeople shows the failure screen whenever the boot fails, for as long as
// it does.
func (o *orchestrator) helpPeople(ctx context.Context) {
	end := context.CancelFunc(func() {})
	over := make(chan struct{})
	close(over)
	shown := false
	for {
		select {
		case <-ctx.Done():
			end()
			<-over
			return
		case <-o.people.changed:
		}
		now := o.people.failing.Load()
		if now == shown {
			continue
		}
		shown = now
		o.tellFailure(now, false) // first: a shell may be open still
		end()
		<-over
		if !now {
			continue
		}
		var failing context.Context
		failing, end = context.WithCancel(ctx)
		over = make(chan struct{})
		go func(over chan struct{}) {
			defer close(over)
			o.failureScreen(failing)
		}(over)
	}
}

// tellTime bounds telling init.
const tellTime = 10 * time.Second

// tellFailure lets init feed the watchdog for people's sake, and no longer.
func (o *orchestrator) tellFailure(active, typing bool) {
	ctx, cancel := context.WithTimeout(context.Background(), tellTime)
	defer cancel()
	if err := o.init.Failure(ctx, active, typing); err != nil {
		o.note(err.Error())
	}
}

// typed: somebody is there; while the boot fails, that gives them time.
func (o *orchestrator) typed() {
	if o.people.failing.Load() {
		o.tellFailure(true, true)
	}
}

// failureScreen is up until ctx ends. A question that stands keeps the
// keyboard: the screen goes above it, and an empty line leads to the menu.
func (o *orchestrator) failureScreen(ctx context.Context) {
	o.people.kernel.quiet(forFailure)
	defer o.people.kernel.loud(forFailure)
	for len(o.desk.Waiting()) > 0 && o.showAbove() {
		select {
		case <-ctx.Done():
			return
		case <-o.people.left:
			continue
		case <-o.people.empty:
		}
		break
	}
	m := &menuOrders{orchestrator: o, release: o.desk.Hold()}
	defer func() {
		if len(o.desk.Waiting()) == 0 {
			o.people.kernel.loud(forQuestions)
			atConsoles(console.Sane)
		}
		m.release()
	}()
	err := o.menu(ctx, m)
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, console.ErrNoConsole):
		o.note("nobody can be helped here: " + err.Error())
	case err != nil:
		o.note(err.Error())
	}
}

// showAbove shows the screen, with the question that stands below it once
// more. It tells whether one stands.
func (o *orchestrator) showAbove() bool {
	question := o.screen.standing()
	r, err := o.report()
	if question == "" || err != nil {
		return false
	}
	text := "\n" + failure.Screen(r) + "Enter without a key leads to the menu.\n" + question
	atConsoles(func(f *os.File) error {
		_, err := f.WriteString(text)
		return err
	})
	return true
}

func (o *orchestrator) menu(ctx context.Context, m *menuOrders) error {
	open, err := console.OpenActive("/")
	if err != nil {
		return err
	}
	defer func() {
		for _, f := range open {
			f.Close()
		}
	}()
	board, err := console.NewBoard(open)
	if err != nil {
		return err
	}
	defer board.Close()
	m.board = board
	o.people.menu.Store(true)
	o.screen.question(failure.Question)
	defer o.screen.question("")
	defer o.people.menu.Store(false)
	err = failure.Menu(ctx, board, m)
	if ctx.Err() != nil {
		board.Show("\n(the boot goes on)\n")
	}
	return err
}

// menuOrders carries out what people choose in the menu.
type menuOrders struct {
	*orchestrator
	release func() // gives the keyboard to the questions
	board   *console.Board
}

func (m *menuOrders) Report() (*report.Report, error)   { return m.report() }
func (m *menuOrders) Retry(unit string) (string, error) { return m.retry(unit) }
func (m *menuOrders) Skip(unit string) (string, error)  { return m.skip(unit) }
func (m *menuOrders) Typed()                            { go m.typed() }
func (m *menuOrders) Down(kind string) (string, error)  { return m.goDownAs(kind) }

// Keys are the volumes that ask, and whatever else waits for a key.
func (m *menuOrders) Keys() []string {
	list := m.desk.Waiting()
	r, err := m.report()
	if err != nil {
		return list
	}
	for _, t := range failure.Troubles(r) {
		class, name, _ := strings.Cut(t.ID, "/")
		if (class == "key" || class == "luks") && !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	return list
}

// GiveKey lets a volume ask by itself if it does; it says at once when an
// answer does not open it. For others the menu asks.
func (m *menuOrders) GiveKey(ctx context.Context, name string) (string, error) {
	drain(m.people.empty)
	if m.desk.First(name) {
		m.release()
		defer func() { m.release = m.desk.Hold() }()
		for slices.Contains(m.desk.Waiting(), name) {
			select {
			case <-m.people.left:
			case <-m.people.empty:
				return "", nil
			case <-ctx.Done():
				return "", context.Cause(ctx)
			}
		}
		return name + " waits for no key any more", nil
	}
	f, err := m.askOrLeave(ctx, "Key for "+name)
	if f == nil || err != nil {
		return "", err
	}
	return m.feed(name, f)
}

// askOrLeave asks at the consoles; an empty line leads back, without a file.
func (m *menuOrders) askOrLeave(ctx context.Context, question string) (*os.File, error) {
	drain(m.people.empty)
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-m.people.empty:
			cancel()
		case <-asking.Done():
		}
	}()
	f, err := m.desk.Ask(asking, m.children, "failure menu", question)
	switch {
	case err == nil:
		return f, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case asking.Err() != nil:
		return nil, nil
	}
	return nil, err
}

// Save makes a support bundle, in a child: on the state disk where there is
// one, for it outlives the boot.
func (m *menuOrders) Save(ctx context.Context) (string, error) {
	p := bundleParams{Run: m.run, File: m.file, Dir: m.run}
	if m.stateDir != "" {
		p.Dir = m.stateDir
	}
	ctx, cancel := context.WithTimeout(ctx, bundleTime)
	defer cancel()
	reply, err := m.children.Run(ctx, step.Call{Func: "bundle", Unit: "failure menu", Params: p})
	if err != nil {
		return "", err
	}
	var s saved
	if err := json.Unmarshal(reply.Result, &s); err != nil {
		return "", fmt.Errorf("hear of the support bundle: %w", err)
	}
	text := fmt.Sprintf("saved as %s (%d KiB)", s.Path, (s.Bytes+1023)/1024)
	if m.stateDir == "" {
		text += "; it is in memory, and gone with this boot"
	}
	return text, nil
}

// bundleTime bounds making one from the menu.
const bundleTime = 5 * time.Minute

func drain(c chan struct{}) {
	select {
	case <-c:
	default:
	}
}
