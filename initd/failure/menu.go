package failure

import (
	"context"
	"fmt"
	"strings"

	"initd/boot/report"
	"initd/hw/console"
)

// Machine does what the keys of the menu ask for. The texts that it returns
// are shown.
type Machine interface {
	Report() (*report.Report, error)
	Retry(unit string) (string, error)
	Skip(unit string) (string, error)
	// Keys lists what a key can be given for, those that are asked for first.
	Keys() []string
	// GiveKey asks for a key at the consoles, and returns when it was taken or
	// nobody wants to give one.
	GiveKey(ctx context.Context, name string) (string, error)
	Save(ctx context.Context) (string, error)
	Down(kind string) (string, error)
	// MayShell tells whether the appliance file allows a shell; Shell asks for
	// its password and opens one at a console, until it is left.
	MayShell() bool
	Shell(ctx context.Context, console string) (string, error)
	// Typed hears that somebody is there.
	Typed()
}

// Board is all consoles with their keyboards (console.Board).
type Board interface {
	Show(text string)
	Next(ctx context.Context) (byte, error)
	At() string // the console of the last key
}

// Question stands behind the menu.
const Question = "Choose"

const keys = "r retry    k enter a key    s skip a unit    b save a support bundle\n" +
	"p power off or reboot    Enter shows this again\n"

// Menu shows the screen and carries out what is chosen, until ctx ends or
// nobody can press a key any more; it returns why.
func Menu(ctx context.Context, b Board, m Machine) error {
	u := &menu{ctx: ctx, b: b, m: m}
	u.screen()
	for {
		b.Show(Question + ": ")
		key, err := u.key()
		if err != nil {
			return err
		}
		if err := u.chosen(key); err != nil {
			return err
		}
	}
}

type menu struct {
	ctx context.Context
	b   Board
	m   Machine
}

// key waits for one, and shows which it was.
func (u *menu) key() (byte, error) {
	key, err := u.b.Next(u.ctx)
	if err != nil {
		return 0, err
	}
	u.m.Typed()
	if key == console.Enter {
		u.b.Show("\n")
	} else {
		u.b.Show(string(key) + "\n")
	}
	return key, nil
}

func (u *menu) screen() {
	r, err := u.m.Report()
	if err != nil {
		u.say("", err)
		return
	}
	u.b.Show("\n" + Screen(r) + u.keys())
}

// say shows what became of an order.
func (u *menu) say(text string, err error) {
	if err != nil {
		text = err.Error()
	}
	if text != "" {
		u.b.Show(strings.Join(console.Wrap(text, console.Columns, "  "), "\n") + "\n")
	}
}

// chosen carries one choice out; an error ends the menu.
func (u *menu) chosen(key byte) error {
	switch key {
	case 'r', 'R':
		return u.retry()
	case 's', 'S':
		return u.skip()
	case 'k', 'K':
		return u.giveKey()
	case 'b', 'B':
		u.b.Show("Collecting; this may take a while.\n")
		u.say(u.m.Save(u.ctx))
	case 'p', 'P':
		return u.down()
	case '!':
		if !u.m.MayShell() {
			u.b.Show("The appliance file allows no shell.\n")
			break
		}
		u.say(u.m.Shell(u.ctx, u.b.At()))
	case console.Enter:
		u.screen()
	default:
		u.b.Show(u.keys())
	}
	return nil
}

// keys are the choices.
func (u *menu) keys() string {
	if u.m.MayShell() {
		return keys + "! a shell\n"
	}
	return keys
}

// units are those that orders may help.
func (u *menu) units() []string {
	r, err := u.m.Report()
	if err != nil {
		u.say("", err)
		return nil
	}
	var list []string
	for _, t := range Troubles(r) {
		list = append(list, t.ID)
	}
	return list
}

func (u *menu) retry() error {
	list := u.units()
	picked, err := u.pick("Retry", list, true)
	if err != nil {
		return err
	}
	for _, unit := range picked {
		u.say(u.m.Retry(unit))
	}
	return nil
}

func (u *menu) skip() error {
	picked, err := u.pick("Skip", u.units(), false)
	if err != nil {
		return err
	}
	for _, unit := range picked {
		u.say(u.m.Skip(unit))
	}
	return nil
}

func (u *menu) giveKey() error {
	picked, err := u.pick("A key for", u.m.Keys(), false)
	if err != nil {
		return err
	}
	for _, name := range picked {
		u.b.Show("(Enter without a key leads back)\n")
		text, err := u.m.GiveKey(u.ctx, name)
		u.b.Show("\n") // other lines may have come meanwhile
		u.say(text, err)
	}
	return nil
}

// pick lets people choose of list; all offers everything at once.
func (u *menu) pick(what string, list []string, all bool) ([]string, error) {
	if len(list) == 0 {
		u.b.Show(what + ": there is nothing of that kind now.\n")
		return nil, nil
	}
	var b strings.Builder
	b.WriteString(what + ":\n")
	for i, name := range list {
		if i == maxShown {
			fmt.Fprintf(&b, "  (%d more; see initd status)\n", len(list)-i)
			break
		}
		fmt.Fprintf(&b, "  %d %s\n", i+1, name)
	}
	if all && len(list) > 1 {
		b.WriteString("  a all of them\n")
	}
	b.WriteString("  Enter none\nWhich: ")
	u.b.Show(b.String())
	key, err := u.key()
	if err != nil {
		return nil, err
	}
	n := int(key) - '1'
	switch {
	case key == 'a' && all:
		return list, nil
	case n >= 0 && n < min(len(list), maxShown):
		return list[n : n+1], nil
	}
	return nil, nil
}

func (u *menu) down() error {
	u.b.Show("  o power off\n  r reboot\n  Enter neither\nWhich: ")
	key, err := u.key()
	if err != nil {
		return err
	}
	switch key {
	case 'o', 'O':
		u.say(u.m.Down("poweroff"))
	case 'r', 'R':
		u.say(u.m.Down("reboot"))
	}
	return nil
}
