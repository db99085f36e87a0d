package report

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Schema names the JSON form of a Report; fields are only ever added.
const Schema = "initd.report/v1"

// BootState is how far the boot is.
type BootState string

const (
	Booting   BootState = "booting"
	IsSettled BootState = "settled" // nothing waits or runs; ready was not reached
	IsReady   BootState = "ready"
	IsHalted  BootState = "halted"
	GoingDown BootState = "going-down"
)

// Report is the fold of an event file. Times are CLOCK_BOOTTIME.
type Report struct {
	Schema  string   `json:"schema"`
	Notices []string `json:"notices,omitempty"` // what the reader must know before anything else

	Name   string        `json:"name,omitempty"`
	Plan   string        `json:"plan,omitempty"` // digest
	State  BootState     `json:"state"`
	Origin time.Duration `json:"origin"` // the budget began then
	Budget time.Duration `json:"budget,omitempty"`
	Now    time.Duration `json:"now"` // the last event
	// Settled and Ready are when the boot got there; zero: not yet.
	Settled    time.Duration `json:"settled,omitempty"`
	Ready      time.Duration `json:"ready,omitempty"`
	HaltedBy   string        `json:"haltedBy,omitempty"`
	HaltReason string        `json:"haltReason,omitempty"`

	Generations []Generation `json:"generations,omitempty"`
	Wall        []WallAnchor `json:"wall,omitempty"`
	Units       []Unit       `json:"units"` // in the order of the plan, instances behind
	Templates   []Template   `json:"templates,omitempty"`
	Resources   []Resource   `json:"resources,omitempty"` // by name
	Critical    []Link       `json:"critical,omitempty"`  // what ready, or the last unit so far, waited for; first things first
	Down        []DownStep   `json:"down,omitempty"`      // the way down
	Facts       []Fact       `json:"facts,omitempty"`     // lines of the kernel and of init; the last few
}

// Generation is one orchestrator.
type Generation struct {
	Gen     uint64        `json:"gen"`
	Started time.Duration `json:"started"`
	Version string        `json:"version,omitempty"`
	Reason  string        `json:"reason,omitempty"`
	PID     int           `json:"pid,omitempty"`
}

// WallAnchor ties CLOCK_BOOTTIME to the wall clock.
type WallAnchor struct {
	At   time.Duration `json:"at"`
	Wall time.Time     `json:"wall"`
}

// Unit is what became of a unit.
type Unit struct {
	ID        string   `json:"id"`
	Kind      string   `json:"kind,omitempty"`
	Stage     string   `json:"stage,omitempty"`
	State     State    `json:"state"`
	Reason    string   `json:"reason,omitempty"`
	Needs     []Need   `json:"needs,omitempty"`
	Provides  []string `json:"provides,omitempty"`
	Batch     string   `json:"batch,omitempty"`
	Milestone bool     `json:"milestone,omitempty"`
	Template  string   `json:"template,omitempty"`
	File      string   `json:"file,omitempty"` // file:line that asked for it

	Since    time.Duration `json:"since"`              // in this state
	Attempts int           `json:"attempts,omitempty"` // by all orchestrators; looking at what is well is none
	// Started is when it first began, Ended when its first round was over.
	Started time.Duration `json:"started,omitempty"`
	Ended   time.Duration `json:"ended,omitempty"`
	// Took is how long its attempts ran; of that, Idle waiting for something.
	Took time.Duration `json:"took,omitempty"`
	Idle time.Duration `json:"idle,omitempty"`
	// Waited is how long it waited to begin: for needs, and between attempts.
	Waited    time.Duration `json:"waited,omitempty"`
	WaitedFor []Waited      `json:"waitedFor,omitempty"` // longest first

	Waits      []Wait        `json:"waits,omitempty"` // needs that are not met now
	Unmet      int           `json:"unmet,omitempty"` // how many; Waits has the first few
	Doing      string        `json:"doing,omitempty"` // what a running attempt says
	WaitingFor string        `json:"waitingFor,omitempty"`
	RetryAt    time.Duration `json:"retryAt,omitempty"`
	LastError  *Error        `json:"lastError,omitempty"`
	Next       string        `json:"next,omitempty"` // the command that helps, while it is not up
	ErrorAt    time.Duration `json:"errorAt,omitempty"`
	Lost       string        `json:"lost,omitempty"` // a need that went under a unit that stays
	Object     string        `json:"object,omitempty"`
	Server     string        `json:"server,omitempty"`
	PID        int           `json:"pid,omitempty"`
	Wchan      string        `json:"wchan,omitempty"`
	Critical   bool          `json:"critical,omitempty"`
	Spans      []Span        `json:"spans,omitempty"`
}

// Waited is the time that one thing cost.
type Waited struct {
	For    string        `json:"for,omitempty"` // resource; empty: the reason says it all
	Reason string        `json:"reason,omitempty"`
	Time   time.Duration `json:"time"`
}

// SpanKind is what a unit did in a stretch of time.
type SpanKind string

const (
	SpanNeed  SpanKind = "need"  // waited for needs
	SpanWork  SpanKind = "work"  // an attempt ran
	SpanIdle  SpanKind = "idle"  // an attempt ran and waited
	SpanBatch SpanKind = "batch" // was checked, waited for the rest of its batch
	SpanRetry SpanKind = "retry" // between two attempts
)

// Span is a stretch of a unit's time. To is zero while it lasts.
type Span struct {
	Kind   SpanKind      `json:"kind"`
	From   time.Duration `json:"from"`
	To     time.Duration `json:"to,omitempty"`
	For    string        `json:"for,omitempty"`
	Reason string        `json:"reason,omitempty"`
}

// Template is a line of the file that matches things at run time.
type Template struct {
	ID     string `json:"id"`
	Kind   string `json:"kind,omitempty"`
	Stage  string `json:"stage,omitempty"`
	State  State  `json:"state"`
	Reason string `json:"reason,omitempty"`
	Have   int    `json:"have"`
	Want   int    `json:"want"`
	Error  *Error `json:"error,omitempty"`
}

// Resource is the last that was said of a resource.
type Resource struct {
	Name       string            `json:"name"`
	Presence   Presence          `json:"presence"`
	Since      time.Duration     `json:"since"`
	Generation uint64            `json:"generation,omitempty"`
	Reason     string            `json:"reason,omitempty"`
	Attrs      map[string]string `json:"attrs,omitempty"`

	present []time.Duration // when it came, each time
}

// Link is one step of the critical path: the unit could begin at From because
// For was there then, and was over at To. A link without a unit is a resource
// of the world, which came at To, or (Never) did not.
type Link struct {
	Unit   string        `json:"unit,omitempty"`
	For    string        `json:"for,omitempty"`
	From   time.Duration `json:"from"`
	To     time.Duration `json:"to"`
	Never  bool          `json:"never,omitempty"`
	Reason string        `json:"reason,omitempty"`
}

// DownStep is one step of the way down.
type DownStep struct {
	At time.Duration `json:"at"`
	Step
}

// Fact is a line of the kernel or of init.
type Fact struct {
	At     time.Duration `json:"at"`
	From   Kind          `json:"from"`
	Text   string        `json:"text"`
	Object string        `json:"object,omitempty"`
}

// Unit returns the unit with this ID, or nil.
func (r *Report) Unit(id string) *Unit {
	for i := range r.Units {
		if r.Units[i].ID == id {
			return &r.Units[i]
		}
	}
	return nil
}

// JSON writes the report as indented JSON.
func (r *Report) JSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(r); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
