package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Style is how text is laid out.
type Style struct {
	Width  int  // columns; zero: 80
	Colour bool // escape codes for colours; only for a terminal
	All    bool // every unit, however many
}

func (s Style) width() int {
	if s.Width < 40 {
		return 80
	}
	return s.Width
}

// fewUnits is how many units a status lists one by one; of more it names those
// that are not up, and counts the others.
const fewUnits = 40

// Status writes how the boot stands: notices, one line, and the units by stage.
func (r *Report) Status(w io.Writer, s Style) error {
	p := &page{s: s}
	for _, n := range r.Notices {
		p.wrap("! "+n, "  ")
	}
	if len(r.Notices) > 0 {
		p.line("")
	}
	p.wrap(r.headline(), "  ")
	all := s.All || len(r.Units) <= fewUnits
	for _, stage := range r.stages() {
		r.stage(p, stage, all)
	}
	for _, t := range r.Templates {
		if t.State != Done || t.Error != nil {
			p.line("")
			text := fmt.Sprintf("%d of %d there", t.Have, t.Want)
			if t.Error != nil {
				text += "; " + t.Error.Text
			}
			p.row(t.ID, t.State, text)
		}
	}
	for _, d := range r.Down {
		if d.State == Failed || d.State == Stuck {
			p.row(d.Action+" "+d.Object, d.State, d.Reason)
		}
	}
	first := true
	for i := range r.Units {
		if next := r.Units[i].Next; next != "" {
			if first {
				p.line("")
			}
			first = false
			p.line("next: " + next)
		}
	}
	return p.to(w)
}

// headline is one sentence: name, how far, and how many are not well.
func (r *Report) headline() string {
	text := cmp.Or(r.Name, "this machine") + " "
	switch r.State {
	case IsReady:
		text += "is ready, since " + seconds(r.Ready)
	case IsSettled:
		text += "has settled, after " + seconds(r.Settled) + ", and is not ready"
	case IsHalted:
		text += fmt.Sprintf("is halted by %s: %s", r.HaltedBy, r.HaltReason)
	case GoingDown:
		text += "is going down"
	default:
		text += "is booting, for " + seconds(r.Now-r.Origin)
		if r.Budget > 0 {
			text += " of at most " + seconds(r.Budget)
		}
	}
	count := map[State]int{}
	for _, u := range r.Units {
		if !u.Milestone {
			count[u.State]++
		}
	}
	up := count[Done] + count[Adopted]
	text += fmt.Sprintf("; %d up", up)
	for _, st := range []State{Running, Waiting, Degraded, Failed, Stuck, Lost, Skipped, Orphan} {
		if n := count[st]; n > 0 {
			text += fmt.Sprintf(", %d %s", n, st)
		}
	}
	if n := len(r.Generations); n > 1 {
		text += fmt.Sprintf("; orchestrator %d", n)
	}
	return text
}

// stages lists the stages that have units, in the order of the plan.
func (r *Report) stages() []string {
	var list []string
	for _, u := range r.Units {
		if !slices.Contains(list, u.Stage) {
			list = append(list, u.Stage)
		}
	}
	return list
}

func (r *Report) stage(p *page, stage string, all bool) {
	p.line("")
	up, total := 0, 0
	for _, u := range r.Units {
		if u.Stage == stage {
			total++
			if u.State.OK() {
				up++
			}
		}
	}
	head := stage
	if !all {
		head = fmt.Sprintf("%s: %d of %d up", stage, up, total)
	}
	p.line(p.bold(head))
	provided := r.provided()
	for i := range r.Units {
		if u := &r.Units[i]; u.Stage == stage && (all || !u.State.OK()) {
			p.row(u.ID, u.State, r.note(u, provided))
		}
	}
}

// provided is what units provide: waiting for it is but the order of the plan.
func (r *Report) provided() map[string]bool {
	m := map[string]bool{}
	for _, u := range r.Units {
		for _, name := range u.Provides {
			m[name] = true
		}
	}
	return m
}

// note is what is worth saying of a unit beside its state.
func (r *Report) note(u *Unit, provided map[string]bool) string {
	now := r.Now
	var parts []string
	add := func(s string) {
		if s != "" {
			parts = append(parts, s)
		}
	}
	switch u.State {
	case Done, Adopted:
		if u.Milestone {
			return seconds(u.Ended)
		}
		add(seconds(u.Took))
		for _, w := range u.WaitedFor {
			if w.Time >= time.Second && !provided[w.For] {
				add("waited " + w.short())
				break
			}
		}
		if u.Attempts > 1 {
			add(fmt.Sprintf("%d attempts", u.Attempts))
		}
		add(u.Lost)
	case Running:
		add(seconds(now - u.Since))
		if u.WaitingFor != "" {
			add("waits for " + u.WaitingFor)
		}
		add(u.Doing)
	case Stuck:
		add(cmp.Or(u.Reason, errorText(u.LastError)))
		if u.PID != 0 {
			add(fmt.Sprintf("pid %d, in %s", u.PID, cmp.Or(u.Wchan, "?")))
		}
	case Waiting:
		if len(u.Waits) > 0 {
			add(seconds(now-u.Waits[0].Since) + " for " + u.WaitingText())
			break
		}
		add(u.Reason)
	default:
		add(cmp.Or(u.Reason, errorText(u.LastError)))
	}
	if u.RetryAt > now && !u.State.OK() {
		add("next attempt in " + seconds(u.RetryAt-now))
	}
	return strings.Join(parts, "; ")
}

// WaitingText says what the unit's unmet needs are.
func (u *Unit) WaitingText() string {
	var parts []string
	for _, w := range u.Waits {
		parts = append(parts, w.String())
	}
	if more := u.Unmet - len(u.Waits); more > 0 {
		parts = append(parts, fmt.Sprintf("%d more", more))
	}
	return strings.Join(parts, ", ")
}

func (w Wait) String() string {
	text := strings.Join(w.AnyOf, " or ")
	if w.Min > 1 {
		text = fmt.Sprintf("%d of %s", w.Min, strings.Join(w.AnyOf, ", "))
	}
	return because(text, w.Reason)
}

// because is a name with the reason in brackets; of a device the reason says
// the name itself.
func because(name, reason string) string {
	switch {
	case reason == "":
		return name
	case saysIt(name, reason):
		return reason
	}
	return name + " (" + reason + ")"
}

// Lacking says of a resource why it is not there: "uuid/6d6b…: no device
// answers", "endpoint/192.0.2.21:5696: eth1: no carrier".
func Lacking(resource, reason string) string {
	if saysIt(resource, reason) {
		return reason
	}
	return resource + ": " + reason
}

// saysIt tells that the reason begins with the name, as that of a block device
// does, in the form that the file has.
func saysIt(resource, reason string) bool {
	short, block := strings.CutPrefix(resource, "block/")
	return block && strings.HasPrefix(reason, short+": ")
}

func (w Waited) String() string {
	text := seconds(w.Time)
	if w.For != "" {
		return text + " for " + because(w.For, w.Reason)
	}
	return text + ": " + w.Reason
}

// short leaves out what was waited for where there is a reason.
func (w Waited) short() string {
	if w.Reason != "" {
		return seconds(w.Time) + ": " + w.Reason
	}
	return seconds(w.Time) + " for " + w.For
}

func errorText(e *Error) string {
	if e == nil {
		return ""
	}
	return e.Text
}

// seconds is a duration for people: "12 ms", "3.2 s", "41 s", "2 min 5 s", "3 h 10 min".
func seconds(d time.Duration) string {
	switch {
	case d < 0:
		return "0 s"
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 20*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
}
