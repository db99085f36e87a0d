package report

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// consoleWidth is what every console has.
const consoleWidth = 80

// Console turns events into lines for the console: one calm line a unit, and
// a live line while something is waited for. Lines are printable ASCII of at
// most 80 columns without escape codes; writing them is the caller's.
type Console struct {
	f    *Folder
	said map[string]string // by unit: the last line, without its time
}

// NewConsole returns a console that has seen nothing.
func NewConsole() *Console {
	return &Console{f: NewFolder(), said: map[string]string{}}
}

// State is how far the boot is.
func (c *Console) State() BootState { return c.f.state() }

// WaitsFor tells whether a unit waits for a resource.
func (c *Console) WaitsFor(unit, resource string) bool {
	u := c.f.byID[unit]
	return u != nil && slices.ContainsFunc(u.u.Waits, func(w Wait) bool { return slices.Contains(w.AnyOf, resource) })
}

// Add takes in an event and returns the lines that it is worth: most are worth
// none.
func (c *Console) Add(e Event) []string {
	c.f.Add(e)
	switch e.Kind {
	case Notice:
		text, next, _ := strings.Cut(e.Text, NoticeNext)
		list := c.lines(e.At, "note", text)
		if next != "" {
			list = append(list, prefix(e.At, "")+"next: "+plain(next)) // never cut: somebody will type it
		}
		return list
	case GenerationStarted:
		if e.Gen > 1 {
			return c.lines(e.At, "initd", fmt.Sprintf("orchestrator %d goes on: %s", e.Gen, e.Reason))
		}
	case Halted:
		return c.lines(e.At, "halt", fmt.Sprintf("nothing new starts because of %s: %s", e.Unit, e.Reason))
	case Resumed:
		return c.lines(e.At, "halt", "over; the boot goes on")
	case BudgetOver:
		return c.lines(e.At, "budget", e.Reason)
	case ReadyReached:
		return c.lines(e.At, "ready", c.summary())
	case Settled:
		if c.f.r.Ready == 0 {
			return c.lines(e.At, "settled", "not ready; "+c.summary())
		}
	case TemplateChanged:
		if e.State == Degraded {
			return c.lines(e.At, "expect", e.Unit+": "+e.Reason)
		}
	case ShutdownStep:
		return c.down(e)
	default:
		if u := c.f.byID[e.Unit]; u != nil && e.State != "" {
			return c.unit(u, e)
		}
	}
	return nil
}

// unit is the line for a change of state; the same is not said twice.
func (c *Console) unit(u *unitFold, e Event) []string {
	x := &u.u
	if x.Milestone && x.ID == "ready" {
		return nil // it has a line of its own
	}
	text := ""
	switch e.State {
	case Done:
		text = "done in " + seconds(x.Took)
		if x.Attempts > 1 {
			text += fmt.Sprintf(", attempt %d", x.Attempts)
		}
	case Adopted:
		text = "was there"
	case Waiting:
		if e.Error == nil {
			return nil
		}
		text = x.Reason
	case Running:
		return nil
	default:
		text = string(e.State)
		if r := x.Reason; r != "" {
			text += ": " + r
		} else if x.LastError != nil {
			text += ": " + x.LastError.Text
		}
		if e.PID != 0 {
			text += fmt.Sprintf(" (pid %d in %s)", e.PID, e.Wchan)
		}
	}
	key := text
	if e.State.OK() {
		key = "up" // what another orchestrator adopts is no news
	}
	if c.said[x.ID] == key {
		return nil
	}
	c.said[x.ID] = key
	head := fmt.Sprintf("%-15s ", x.ID)
	if e.State.OK() {
		return []string{line(e.At, x.Stage, head+text)}
	}
	return trouble(e.At, x.Stage, head, text, x.Next)
}

// How many lines the text of a trouble has at most: of a unit that somebody can
// do something about, and of one that only waits for another. The whole of it
// is in initd status.
const (
	maxTrouble = 4
	maxFollows = 2
)

// minTrouble is the least room that the first line of a trouble's text is worth.
const minTrouble = 24

// trouble is what is not well, and under it the command that helps, which is
// never cut: somebody will type it. Behind a long name the text begins below.
func trouble(at time.Duration, stage, head, text, next string) []string {
	first := prefix(at, stage) + head
	indent := prefix(at, "") + fmt.Sprintf("%-16s", "")
	beside, below := consoleWidth-len(first), consoleWidth-len(indent)
	text = plain(text)
	var out []string
	if beside < minTrouble {
		out = []string{clip(strings.TrimRight(first, " "), consoleWidth)}
	} else {
		begin := fold(text, beside)[0]
		out = []string{first + begin}
		text = strings.TrimPrefix(strings.Join(strings.Fields(text), " "), begin)
	}
	var list []string
	if strings.TrimSpace(text) != "" {
		list = fold(text, below)
	}
	most := maxTrouble
	if next == "" {
		most = maxFollows
	}
	if most -= len(out); beside < minTrouble {
		most++ // the name alone says nothing
	}
	if len(list) > most {
		list = append(list[:most-1], strings.Join(list[most-1:], " "))
	}
	for _, l := range list {
		out = append(out, clip(indent+l, consoleWidth))
	}
	if next != "" {
		out = append(out, indent+"next: "+plain(next))
	}
	return out
}

func (c *Console) down(e Event) []string {
	s := e.Step
	if s == nil || s.State == Running {
		return nil
	}
	text := fmt.Sprintf("%-15s %s", s.Object, s.Action)
	if s.State == Done {
		text += " done in " + seconds(s.Took)
	} else {
		text += " " + string(s.State)
	}
	if s.Reason != "" {
		text += ": " + s.Reason
	}
	return []string{line(e.At, s.Phase, text)}
}

func (c *Console) summary() string {
	up, not := 0, 0
	for _, u := range c.f.units {
		switch {
		case u.u.Milestone || u.stale:
		case u.u.State.OK():
			up++
		default:
			not++
		}
	}
	if not == 0 {
		return fmt.Sprintf("all %d units are up", up)
	}
	return fmt.Sprintf("%d units are up, %d are not: see initd status", up, not)
}

// maxLive is how many lines what is waited for has at most: a UUID or an IQN is
// not worth much cut in two.
const maxLive = 3

// Live are the lines that show while something is waited for: what holds the
// boot up, for how long, and how many more; none when nothing does.
func (c *Console) Live(now time.Duration) []string {
	if c.f.r.Settled > 0 {
		return nil
	}
	text, more := "", 0
	best := 0
	for _, u := range c.f.units {
		x := &u.u
		if x.Milestone || u.stale || x.State.Settled() {
			continue
		}
		t, rank := c.holds(u, now)
		if rank == 0 {
			continue
		}
		more++
		if rank > best {
			text, best = t, rank
		}
	}
	if text == "" {
		return nil
	}
	if more > 1 {
		text += fmt.Sprintf(" (+%d)", more-1)
	}
	list := c.lines(now, "waiting", text)
	if len(list) > maxLive {
		list = append(list[:maxLive-1], clip(list[maxLive-1]+" ...", consoleWidth))
	}
	return list
}

// holds says what a unit waits for. What a running attempt waits for ranks
// before what the world lacks, that before a retry, and units that wait for
// other units say nothing: those speak for themselves.
func (c *Console) holds(u *unitFold, now time.Duration) (text string, rank int) {
	x := &u.u
	switch {
	case x.State == Running && x.WaitingFor != "":
		return fmt.Sprintf("%s %s: %s", x.ID, seconds(now-u.from()), x.WaitingFor), 4
	case x.State == Running:
		doing := x.Doing
		if doing == "" {
			doing = "at work"
		}
		return fmt.Sprintf("%s %s: %s", x.ID, seconds(now-x.Since), doing), 1
	case len(x.Waits) > 0:
		for _, w := range x.Waits {
			if c.f.world(w) {
				why := c.f.reason(w)
				if why == "" {
					why = "not there"
				}
				return fmt.Sprintf("%s %s for %s", x.ID, seconds(now-w.Since), Lacking(strings.Join(w.AnyOf, " or "), why)), 3
			}
		}
	case x.RetryAt > now:
		return fmt.Sprintf("%s: next attempt in %s", x.ID, seconds(x.RetryAt-now)), 2
	}
	return "", 0
}

// from is when the stretch that lasts began.
func (u *unitFold) from() time.Duration {
	if u.open == nil {
		return u.u.Since
	}
	return u.open.From
}

// lines wraps a text that is worth more than one line.
func (c *Console) lines(at time.Duration, head, text string) []string {
	var list []string
	for _, l := range fold(plain(text), consoleWidth-len(prefix(at, head))) {
		list = append(list, prefix(at, head)+l)
		head = ""
	}
	return list
}

func line(at time.Duration, head, text string) string {
	return clip(strings.TrimRight(prefix(at, head)+plain(text), " "), consoleWidth)
}

func prefix(at time.Duration, head string) string {
	return fmt.Sprintf("[%7.3f] %-8s ", at.Seconds(), clip(plain(head), 8))
}
