package kmip

import (
	"errors"
	"slices"
)

// endAll ends every open job that has no final word of its own.
func (g *group) endAll(err *Error) {
	for _, j := range g.jobs {
		switch {
		case j.done:
		case len(j.failed) > 0:
			j.end(g.verdict(j))
		default:
			j.end(err)
		}
	}
}

// endAnswered ends the jobs that have a final word from some server, without
// waiting for the servers that cannot be reached.
func (g *group) endAnswered() {
	for _, j := range g.jobs {
		if !j.done && len(j.failed) > 0 {
			j.end(g.verdict(j))
		}
	}
}

// verdict makes one error of what each server said about a job. That one
// server has no such key says less than anything another one found wrong with it.
func (g *group) verdict(j *job) *Error {
	var said []*Error
	for _, e := range g.endpoints {
		if err := j.failed[e.server.Name]; err != nil {
			said = append(said, err)
		}
	}
	slices.SortStableFunc(said, func(a, b *Error) int { return weight(a) - weight(b) })
	v := *said[0]
	v.Others = append(slices.Clone(v.Others), said[1:]...)
	for _, other := range said[1:] {
		v.Clock = v.Clock || other.Clock
	}
	for _, e := range g.endpoints {
		if last := g.last[e.server.Name]; last != nil && j.failed[e.server.Name] == nil {
			v.Others = append(v.Others, last)
			v.Retryable = true // the key may be there
			v.Clock = v.Clock || last.Clock
		}
	}
	return &v
}

func weight(e *Error) int {
	if e.Code == CodeNotFound {
		return 1
	}
	return 0
}

// unreachable is why no server said anything.
func (g *group) unreachable(ctxErr error) *Error {
	var said []*Error
	for _, e := range g.endpoints {
		if last := g.last[e.server.Name]; last != nil {
			said = append(said, last)
		}
	}
	switch len(said) {
	case 0:
		if ctxErr == nil {
			ctxErr = errors.New("no server was tried")
		}
		return &Error{Code: CodeCancelled, Cause: ctxErr, Retryable: true}
	case 1:
		return said[0]
	}
	e := &Error{Code: said[0].Code, Others: said}
	for _, s := range said {
		if s.Code != e.Code {
			e.Code = CodeNoServer
		}
		e.Retryable = e.Retryable || s.Retryable
		e.Clock = e.Clock || s.Clock
	}
	return e
}

// inVain tells that none of these servers can be of use before somebody mends something: no reason to wait here.
func (g *group) inVain(endpoints []*endpoint) bool {
	for _, e := range endpoints {
		if last := g.last[e.server.Name]; last == nil || last.passes() {
			return false
		}
	}
	return true
}

// reasons has a line for each server that could not be talked to.
func (g *group) reasons() []string {
	var out []string
	for _, e := range g.endpoints {
		if last := g.last[e.server.Name]; last != nil {
			out = append(out, last.where()+": "+last.Reason())
		}
	}
	return out
}
