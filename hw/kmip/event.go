package kmip

import (
	"fmt"
	"strings"
	"time"
)

// Kind says what an Event tells.
type Kind string

// Kinds of events.
const (
	Dialling  Kind = "dialling"  // an attempt at a server begins
	Connected Kind = "connected" // TLS is up and a KMIP version agreed
	Failed    Kind = "failed"    // an attempt, or a connection that was in use, ended with Error
	Shrunk    Kind = "shrunk"    // the server takes only messages of Batch requests
	Waiting   Kind = "waiting"   // no server helped; the next round begins after After
	Answered  Kind = "answered"  // the server answered for Found keys, and not for Missing
)

// Event tells how a fetch is getting on. Events are numbered by their order
// only; they hold no secret.
type Event struct {
	Kind   Kind   `json:"kind"`
	Server string `json:"server,omitempty"`
	// Address is the IP address and port, once one was chosen; else as configured.
	Address string `json:"address,omitempty"`
	// Previous is the server dialled before this one in the same round.
	Previous string `json:"previous,omitempty"`
	// After is the time since Previous was dialled (Dialling), or the pause that begins (Waiting), in ns.
	After time.Duration `json:"after,omitempty"`
	// Detail names the versions that were agreed (Connected).
	Detail string `json:"detail,omitempty"`
	Batch  int    `json:"batch,omitempty"`
	// Found and Missing count keys (Answered).
	Found   int    `json:"found,omitempty"`
	Missing int    `json:"missing,omitempty"`
	Error   *Error `json:"error,omitempty"`
	// Lost: the connection had been in use (Failed).
	Lost bool `json:"lost,omitempty"`
	// Reasons has a line for each server that did not help (Waiting):
	// "kms-a (192.0.2.21:5696): connection refused".
	Reasons []string `json:"reasons,omitempty"`
}

// String is one line for people.
func (e Event) String() string {
	where := e.Server
	if e.Address != "" {
		where += " (" + e.Address + ")"
	}
	switch e.Kind {
	case Dialling:
		if e.Previous != "" {
			return fmt.Sprintf("dialled %s %.1f s after %s", e.Server, e.After.Seconds(), e.Previous)
		}
		return "dialled " + e.Server
	case Connected:
		return fmt.Sprintf("connected to %s, %s", where, e.Detail)
	case Failed:
		return e.Error.where() + ": " + e.Error.Reason()
	case Shrunk:
		return fmt.Sprintf("%s takes %d requests a message", where, e.Batch)
	case Waiting:
		return fmt.Sprintf("next attempt in %s: %s", e.After, strings.Join(e.Reasons, "; "))
	case Answered:
		return fmt.Sprintf("%s: %d found, %d not", where, e.Found, e.Missing)
	}
	return string(e.Kind)
}

// Progress hears events, one at a time, in order. It must not block.
type Progress func(Event)
