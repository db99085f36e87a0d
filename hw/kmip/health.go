package kmip

import (
	"maps"
	"slices"
)

// Health is what is known of servers, by name. It is a fold of events: a
// caller whose fetches run in short-lived processes observes their events and
// passes the result on in the next Config.
type Health map[string]ServerHealth

// ServerHealth is what is known of one server.
type ServerHealth struct {
	// Up: the last thing heard was a success. Down: it was a failure. Neither: nothing is known.
	Up   bool `json:"up,omitempty"`
	Down bool `json:"down,omitempty"`
	// Lost: it is down because a connection ended in mid-conversation. It spoke before, and is dialled before
	// servers that never did.
	Lost bool `json:"lost,omitempty"`
	// Batch is how many requests in a message the server takes; 0 means that no limit was met.
	Batch int `json:"batch,omitempty"`
}

// Observe takes an event in.
func (h Health) Observe(e Event) {
	s := h[e.Server]
	switch e.Kind {
	case Connected:
		s.Up, s.Down, s.Lost = true, false, false
	case Failed:
		s.Up, s.Down, s.Lost = false, true, e.Lost
	case Shrunk:
		s.Batch = e.Batch
	default:
		return
	}
	h[e.Server] = s
}

func (h Health) clone() Health {
	c := maps.Clone(h)
	if c == nil {
		c = Health{}
	}
	return c
}

// order sorts servers for dialling: healthy ones, unknown ones, those that
// hung up, those that could not be reached; within each as configured.
func (h Health) order(servers []*endpoint) []*endpoint {
	rank := func(e *endpoint) int {
		switch s := h[e.server.Name]; {
		case s.Up:
			return 0
		case s.Lost:
			return 2
		case s.Down:
			return 3
		}
		return 1
	}
	out := slices.Clone(servers)
	slices.SortStableFunc(out, func(a, b *endpoint) int { return rank(a) - rank(b) })
	return out
}
