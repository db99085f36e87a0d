// Package failure is what people see and can do when a boot does not get
// ready: a calm screen that says what failed, why, and what helps, and a menu
// by any keyboard.
//
// It owns the text and the keys. What the keys do is the Machine's, which main
// fills in with the orders of the local interface. It never reads a secret and
// never touches a terminal: a Board does.
package failure

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"initd/boot/report"
	"initd/hw/console"
)

// maxShown bounds how many units the screen describes, and a list offers.
const maxShown = 9

// Failing tells whether a boot needs people: it is halted, or it has settled
// and is not ready.
func Failing(s report.BootState) bool { return s == report.IsHalted || s == report.IsSettled }

// Troubles lists the units that are not up and wait for no other unit, the one
// that halts the boot first.
func Troubles(r *report.Report) []report.Unit {
	rank := func(u report.Unit) int {
		switch {
		case u.ID == r.HaltedBy:
			return 0
		case u.State == report.Failed, u.State == report.Stuck:
			return 1
		case u.State == report.Degraded, u.State == report.Lost:
			return 2
		}
		return 3
	}
	var list []report.Unit
	for _, u := range r.Units {
		if u.Milestone || u.State.OK() || u.State == report.Skipped || u.State == report.Orphan {
			continue
		}
		if u.ID == r.HaltedBy || u.Next != "" || u.State == report.Running && u.LastError != nil {
			list = append(list, u)
		}
	}
	slices.SortStableFunc(list, func(a, b report.Unit) int { return cmp.Compare(rank(a), rank(b)) })
	return list
}

// Screen is the text above the menu, of at most console.Columns columns.
func Screen(r *report.Report) string {
	var b strings.Builder
	line := func(text, indent string) {
		for _, l := range console.Wrap(text, console.Columns, indent) {
			b.WriteString(l + "\n")
		}
	}
	name := cmp.Or(r.Name, "this machine")
	head := name + " is not ready"
	if r.State == report.IsHalted {
		head = name + " is halted by " + r.HaltedBy
	}
	b.WriteString(rule(head))
	troubles := Troubles(r)
	for i, u := range troubles {
		if i == maxShown {
			line(fmt.Sprintf("and %d more: initd status", len(troubles)-i), "")
			break
		}
		line(fmt.Sprintf("%s %s: %s", u.ID, u.State, cause(u)), "  ")
		if object := object(u); object != "" {
			line("  on "+object, "     ")
		}
		if u.Next != "" {
			line("  next: "+u.Next, "        ")
		}
	}
	if len(troubles) == 0 {
		line("Nothing is wrong that a unit could tell; initd status tells how it stands.", "")
	}
	b.WriteString(rule(""))
	return b.String()
}

// rule is a line across the screen.
func rule(text string) string {
	if text != "" {
		text = console.Wrap("---- "+text, console.Columns-2, "")[0] + " "
	}
	return text + strings.Repeat("-", max(0, console.Columns-1-len(text))) + "\n"
}

// cause is why the unit is not up, with the code of the error.
func cause(u report.Unit) string {
	text := u.Reason
	if e := u.LastError; e != nil {
		text = cmp.Or(e.Text, text)
		if e.Code != "" {
			text += " [" + e.Code + "]"
		}
	}
	if u.State == report.Waiting && len(u.Waits) > 0 || text == "" {
		text = cmp.Or(u.WaitingText(), text, "no reason is known")
		if u.WaitingFor != "" && len(u.Waits) == 0 {
			text = "waits for " + u.WaitingFor
		}
	}
	if u.PID != 0 {
		text += fmt.Sprintf("; pid %d sleeps in %s", u.PID, cmp.Or(u.Wchan, "the kernel"))
	}
	return text
}

// object is what the failure is about, where the cause does not name it.
func object(u report.Unit) string {
	o := u.Object
	if u.LastError != nil {
		o = cmp.Or(u.LastError.Object, o)
	}
	if o == "" || strings.Contains(cause(u), o) || strings.Contains(u.ID, o) {
		return ""
	}
	return o
}
