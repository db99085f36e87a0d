package report

import "strings"

// NoticeNext stands in a notice before the command that helps, where there is one.
const NoticeNext = "; next: "

// next is the command that helps a unit that is not up, exactly as an operator
// may type it; empty if it is well, at work, or waits for another unit (that
// one's command helps).
//
// What the error says comes first. Else a key can be given by hand; a unit whose
// part of the world is missing, or that no further attempt can help, can be left
// out; and what failed can be tried again.
func (f *Folder) next(u *Unit, failed *Error) string {
	class, name, _ := strings.Cut(u.ID, "/")
	switch {
	case u.Milestone || u.State.OK() || u.State == Running || u.State == Skipped || u.State == Orphan || u.State == "":
		return ""
	case failed != nil && failed.Next != "":
		return failed.Next
	case len(u.Waits) > 0 && !f.missing(u.Waits):
		return ""
	case class == "key", class == "luks" && u.WaitingFor != "": // a volume at its prompt waits for nothing else
		return "initd keys unlock " + name
	case len(u.Waits) > 0, failed != nil && failed.Final:
		return "initd skip " + u.ID
	}
	return "initd retry " + u.ID
}

// missing tells whether one of the needs waits for the world alone.
func (f *Folder) missing(waits []Wait) bool {
	for _, w := range waits {
		if w.Reason == "" && f.world(w) {
			return true
		}
	}
	return false
}

// world tells that no unit provides what is waited for.
func (f *Folder) world(w Wait) bool {
	for _, name := range w.AnyOf {
		if f.provided[name] {
			return false
		}
	}
	return true
}
