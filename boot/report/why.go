package report

import (
	"cmp"
	"fmt"
	"io"
	"strings"
)

// maxChain bounds the depth of an answer to why.
const maxChain = 20

// Why writes why a unit is where it is: the chain of needs with their reasons
// and since when, what it would take, and what to do next. It fails for a unit
// that is not in the report.
func (r *Report) Why(w io.Writer, id string, s Style) error {
	u := r.Unit(id)
	if u == nil {
		return fmt.Errorf("why %s: there is no such unit%s", id, r.nearest(id))
	}
	x := &whyPage{page: page{s: s}, r: r, idx: newIndex(r), seen: map[string]bool{}}
	x.unit(u, 0)
	if len(x.takes) > 0 {
		x.line("")
		x.wrap("It would take: "+strings.Join(x.takes, "; or "), "  ")
	}
	for i, n := range x.next {
		if i == 0 {
			x.line("")
		}
		x.wrap("Next: "+n, "      ")
	}
	return x.to(w)
}

// nearest lists units that the name is part of, or that end alike.
func (r *Report) nearest(id string) string {
	var list []string
	_, name, _ := strings.Cut(id, "/")
	for _, u := range r.Units {
		if strings.Contains(u.ID, id) || name != "" && strings.HasSuffix(u.ID, name) {
			list = append(list, u.ID)
		}
	}
	if len(list) == 0 || len(list) > 5 {
		return "; see initd status"
	}
	return "; there is " + strings.Join(list, ", ")
}

type whyPage struct {
	page
	r     *Report
	idx   *index
	seen  map[string]bool
	takes []string // what would help
	next  []string // commands and advice
}

func (x *whyPage) say(depth int, text string) {
	indent := strings.Repeat("  ", depth)
	lines := fold(plain(text), x.s.width()-len(indent)-2)
	x.line(indent + lines[0])
	for _, l := range lines[1:] {
		x.line(indent + "  " + l)
	}
}

func (x *whyPage) unit(u *Unit, depth int) {
	if x.seen[u.ID] || depth > maxChain {
		x.say(depth, u.ID+" is "+string(u.State)+" (see above)")
		return
	}
	x.seen[u.ID] = true
	x.say(depth, fmt.Sprintf("%s is %s, for %s%s", u.ID, u.State, seconds(x.r.Now-u.Since), x.detail(u)))
	if u.State.OK() {
		x.up(u, depth+1)
		return
	}
	if u.LastError != nil && u.State != Running {
		x.problem(u, depth+1)
	}
	waits := u.Waits
	if len(waits) == 0 && u.State == Lost {
		waits = x.unmet(u)
	}
	for _, w := range waits {
		x.wait(w, depth+1)
	}
	if more := u.Unmet - len(u.Waits); more > 0 && len(u.Waits) > 0 {
		x.say(depth+1, fmt.Sprintf("and waits for %d more", more))
	}
	x.advise(u, len(waits) > 0)
}

// detail is the rest of a unit's line.
func (x *whyPage) detail(u *Unit) string {
	switch {
	case u.State == Running && u.WaitingFor != "":
		return ": waits for " + u.WaitingFor
	case u.State == Running && u.Doing != "":
		return ": " + u.Doing
	case u.State == Stuck && u.PID != 0:
		return fmt.Sprintf(": process %d sleeps in the kernel at %s", u.PID, cmp.Or(u.Wchan, "an unknown place"))
	case u.Reason != "" && (u.LastError == nil || u.LastError.Text != u.Reason):
		return x.reason(u)
	}
	return ""
}

// reason leaves out what the lines below say anyway.
func (x *whyPage) reason(u *Unit) string {
	text := u.Reason
	if len(u.Waits) > 0 {
		if strings.HasPrefix(text, "needs ") {
			return ""
		}
		for _, cut := range []string{" for ", ", still waiting"} {
			text, _, _ = strings.Cut(text, cut)
		}
	}
	return ": " + text
}

// up says of a unit that is well what its time went to.
func (x *whyPage) up(u *Unit, depth int) {
	if u.Lost != "" {
		x.say(depth, "but it lost what it stands on: "+u.Lost)
	}
	text := "it took " + seconds(u.Took)
	if u.Idle > 0 {
		text += ", " + seconds(u.Idle) + " of it waiting"
	}
	if u.Attempts > 1 {
		text += fmt.Sprintf(", in %d attempts", u.Attempts)
	}
	x.say(depth, text)
	for _, w := range u.WaitedFor {
		x.say(depth, "it waited "+w.String())
	}
	if u.LastError != nil {
		x.say(depth, "its last error was: "+u.LastError.Text)
	}
}

// problem shows the last error.
func (x *whyPage) problem(u *Unit, depth int) {
	e := u.LastError
	text := fmt.Sprintf("attempt %d failed %s ago: %s", u.Attempts, seconds(x.r.Now-u.ErrorAt), e.Text)
	if e.Code != "" {
		text += " [" + e.Code + "]"
	}
	x.say(depth, text)
	if e.Object != "" && !strings.Contains(e.Text, e.Object) {
		x.say(depth, "object: "+e.Object)
	}
	if e.Server != "" && !strings.Contains(e.Text, e.Server) {
		x.say(depth, "server: "+e.Server)
	}
	if u.RetryAt > x.r.Now {
		x.say(depth, "next attempt in "+seconds(u.RetryAt-x.r.Now))
	}
}

// unmet computes the needs of a lost unit that are not met.
func (x *whyPage) unmet(u *Unit) []Wait {
	var list []Wait
	for _, n := range u.Needs {
		if n.After {
			continue
		}
		w := Wait{Min: n.Min, Since: u.Since}
		for _, name := range n.AnyOf {
			if res := x.idx.resource[name]; res == nil || res.Presence != Present {
				w.AnyOf = append(w.AnyOf, name)
			}
		}
		if len(n.AnyOf)-len(w.AnyOf) < max(n.Min, 1) {
			list = append(list, w)
		}
	}
	return list
}

func (x *whyPage) wait(w Wait, depth int) {
	verb := "it needs "
	if w.After {
		verb = "it comes after "
	}
	if len(w.AnyOf) > 1 {
		n := max(w.Min, 1)
		x.say(depth, fmt.Sprintf("%s%d of %d, for %s:", verb, n, len(w.AnyOf), seconds(x.r.Now-w.Since)))
		depth++
		verb = ""
	}
	for _, name := range w.AnyOf {
		x.resource(name, verb, w, depth)
	}
}

func (x *whyPage) resource(name, verb string, w Wait, depth int) {
	p, res := x.idx.provider[name], x.idx.resource[name]
	if w.Reason != "" {
		x.say(depth, verb+name+", which is "+w.Reason)
		if owner, ok := strings.CutPrefix(w.Reason, "taken by "); ok {
			owner, _, _ = strings.Cut(owner, ",")
			if u := x.r.Unit(owner); u != nil {
				x.unit(u, depth+1)
			}
		}
		return
	}
	if p != nil {
		if verb != "" {
			x.say(depth, verb+name)
			depth++
		}
		x.unit(p, depth)
		return
	}
	text := verb + name
	switch {
	case res == nil:
		text += ", which was never seen"
	case res.Presence == Gone:
		text += fmt.Sprintf(", which was lost %s ago", seconds(x.r.Now-res.Since))
	default:
		text += ", which is not there"
	}
	if res != nil && res.Reason != "" {
		text += ": " + res.Reason
	}
	x.say(depth, text)
	x.take(name + appear(name))
	x.advice(look(name))
}

func appear(resource string) string {
	switch class, _, _ := strings.Cut(resource, "/"); class {
	case "endpoint":
		return " to be reachable"
	case "block", "link":
		return " to show up"
	}
	return ""
}

// look is the command that shows more about a resource of the world.
func look(resource string) string {
	class, name, _ := strings.Cut(resource, "/")
	switch class {
	case "endpoint":
		return routeGet(name)
	case "block":
		return "lsblk -o NAME,LABEL,PARTLABEL,UUID"
	case "link":
		return "ip -br link"
	}
	return ""
}

// routeGet asks the kernel for the way to HOST:PORT, before which LINK@ADDRESS/
// may say from where.
func routeGet(name string) string {
	from := ""
	if i := strings.LastIndex(name, "/"); i >= 0 {
		link, address, _ := strings.Cut(name[:i], "@")
		if name = name[i+1:]; address != "" {
			from = " from " + address
		}
		if link != "" {
			from += " oif " + link
		}
	}
	if i := strings.LastIndex(name, ":"); i > 0 {
		name = strings.Trim(name[:i], "[]")
	}
	return "ip route get " + name + from
}

// advise says what would help a unit that is not up.
func (x *whyPage) advise(u *Unit, waits bool) {
	if u.LastError != nil && u.State != Running {
		x.advice(u.LastError.Hint)
	}
	class, name, _ := strings.Cut(u.ID, "/")
	switch {
	case waits:
	case class == "key":
		x.take("the key " + name)
	case u.State == Skipped:
		x.take("a retry of " + u.ID)
	case u.State == Failed:
		x.take(u.ID + " to be mended, and then retried: no attempt follows by itself")
	case u.State == Stuck:
		x.take("the process to end: it sleeps in the kernel, on a device that does not answer")
	}
	x.advice(u.Next)
	if class == "key" && u.Next != "" {
		x.advice("initd keys check -f FILE   (asks the servers)")
	}
}

func (x *whyPage) take(text string) {
	for _, t := range x.takes {
		if t == text {
			return
		}
	}
	x.takes = append(x.takes, text)
}

func (x *whyPage) advice(text string) {
	if text == "" {
		return
	}
	for _, t := range x.next {
		if t == text {
			return
		}
	}
	x.next = append(x.next, text)
}
