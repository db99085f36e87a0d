package report

import "fmt"

type Lines struct{ debug bool }

func NewLines(debug bool) *Lines { return &Lines{debug} }
func (l *Lines) Event(e Event) []string {
	switch e.Kind {
	case UnitChanged:
		s := fmt.Sprintf("[%9.3f] %-20s %s %s", e.At.Seconds(), e.Unit, e.State, e.Reason)
		if e.Error != nil {
			s += " " + e.Error.Text
		}
		return []string{s}
	case Progressed:
		return []string{fmt.Sprintf("[%9.3f] %-20s ... %s%s", e.At.Seconds(), e.Unit, e.Waiting, e.Text)}
	case Notice, InitFact:
		return []string{fmt.Sprintf("[%9.3f] %s", e.At.Seconds(), e.Text)}
	case ShutdownStep:
		return []string{fmt.Sprintf("[%9.3f] %s %s %s %s", e.At.Seconds(), e.Step.Action, e.Step.Object, e.Step.State, e.Step.Reason)}
	case ReadyReached:
		return []string{fmt.Sprintf("[%9.3f] ready", e.At.Seconds())}
	}
	return nil
}
