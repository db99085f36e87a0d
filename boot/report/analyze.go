package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// maxBlamed is how many waits of a unit are listed: the longest.
const maxBlamed = 3

// Blame writes who took the time, longest first: work, waiting while at work,
// and waiting to begin, and what for.
func (r *Report) Blame(w io.Writer, s Style) error {
	p := &page{s: s}
	list := slices.Clone(r.Units)
	list = slices.DeleteFunc(list, func(u Unit) bool { return u.Milestone || u.Took == 0 && u.Waited == 0 })
	slices.SortStableFunc(list, func(a, b Unit) int {
		return cmp.Or(cmp.Compare(b.Took, a.Took), cmp.Compare(b.Waited, a.Waited), cmp.Compare(a.ID, b.ID))
	})
	p.line(p.bold(fmt.Sprintf("%12s %12s  %s", "took", "waited", "unit")))
	for _, u := range list {
		mark := " "
		if u.Critical {
			mark = "*"
		}
		p.line(fmt.Sprintf("%12s %12s %s%s", seconds(u.Took), seconds(u.Waited), mark, clip(plain(u.ID), p.s.width()-27)))
		for i, f := range u.WaitedFor {
			if f.Time >= 100*time.Millisecond && i < maxBlamed {
				for _, l := range fold(plain(f.String()), p.s.width()-29) {
					p.line(strings.Repeat(" ", 29) + l)
				}
			}
		}
	}
	if slices.ContainsFunc(list, func(u Unit) bool { return u.Critical }) {
		p.line("")
		p.line("* on the critical path: initd analyze critical-chain")
	}
	return p.to(w)
}

// CriticalChain writes what the end of the boot waited for, last things first,
// like systemd-analyze, but by what was really waited for: of each unit's needs
// the one that was met last.
func (r *Report) CriticalChain(w io.Writer, s Style) error {
	p := &page{s: s}
	if len(r.Critical) == 0 {
		p.line("nothing has run yet")
		return p.to(w)
	}
	p.line("@ since the kernel's start; + after what is below it")
	p.line("")
	for i, l := range slices.Backward(r.Critical) {
		depth := len(r.Critical) - 1 - i
		indent := strings.Repeat("  ", min(depth, 15))
		text := fmt.Sprintf("%s%s @%s", indent, cmp.Or(l.Unit, l.For), seconds(l.To))
		if l.Never {
			text = fmt.Sprintf("%s%s never came", indent, cmp.Or(l.Unit, l.For))
			if l.Unit != "" {
				text = fmt.Sprintf("%s%s @%s, did not begin", indent, l.Unit, seconds(l.To))
			}
		} else if l.Unit != "" {
			text += " +" + seconds(l.To-l.From)
		}
		if u := r.Unit(l.Unit); u != nil && !u.State.OK() {
			text += " " + string(u.State)
		}
		p.wrap2(text, l.Reason, indent+"    ")
		if u := r.Unit(l.Unit); u != nil {
			for _, f := range u.WaitedFor {
				if f.For == "" && f.Time >= 100*time.Millisecond { // while at work, or between attempts
					p.wrap2(indent+"    waited "+f.String(), "", indent+"      ")
				}
			}
		}
	}
	return p.to(w)
}

// wrap2 writes a line that keeps its own indentation, and a reason behind it.
func (p *page) wrap2(head, reason, indent string) {
	if reason != "" {
		head += " (" + plain(reason) + ")"
	}
	lead := head[:len(head)-len(strings.TrimLeft(head, " "))]
	lines := fold(plain(head), p.s.width()-len(indent))
	p.line(lead + lines[0])
	for _, l := range lines[1:] {
		p.line(indent + l)
	}
}
