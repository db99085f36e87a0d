// Package report says what happened: events, one file of them, and what
// people read of it.
//
// It owns the event record and its file (append, tolerant read, follow), the
// fold of events into one Report of schema initd.report/v1, and its renderings
// (text, JSON, SVG, console lines). It decides nothing, starts nothing and
// knows neither plan nor engine: it is a leaf, so that the way down can report
// through the same file. Secrets never enter it.
//
// All times are CLOCK_BOOTTIME, in JSON as nanoseconds; so are durations.
package report

import (
	"encoding/json"
	"time"
)

// Kind says what an event is about. Readers keep kinds they do not know.
type Kind string

// Kinds of events; the fields named are those that each kind uses.
const (
	GenerationStarted Kind = "generation" // an orchestrator began: Text its version, PID, Reason why it was started
	ClockStepped      Kind = "clock"      // Wall: the wall clock at At, at the start and after every step of the clock
	Notice            Kind = "notice"     // Text: what the reader must know before anything else
	PlanLoaded        Kind = "plan"       // Plan
	UnitDeclared      Kind = "declare"    // Unit, Info; Instance for an instance of a template
	TemplateChanged   Kind = "template"   // Unit is the template's ID; Info at first, later State, Reason, Have, Want
	UnitChanged       Kind = "unit"       // Unit, State, Reason, Waits, Error, RetryAt, PID, Wchan
	UnitSnapshot      Kind = "snapshot"   // as UnitChanged: how the unit stands, where the file was trimmed before
	AttemptStarted    Kind = "attempt"    // Unit, Op, Attempt, Background, By
	AttemptEnded      Kind = "result"     // Unit, Op, Attempt, Answer, Reason, Object, Error, PID, Wchan, Jammed
	Progressed        Kind = "progress"   // Unit, Waiting, Text, Object, Server
	ResourceChanged   Kind = "resource"   // Resource, Presence, Generation, Reason, Attrs
	NeedLost          Kind = "loss"       // Unit, Resource, Reason: a need of a done unit went, and the unit stays
	AttemptCancelled  Kind = "cancel"     // Unit, Reason: its running attempt was told to end
	Commanded         Kind = "command"    // Unit, Command, Reason: an operator's order
	Halted            Kind = "halt"       // Unit, Reason: nothing new starts
	Resumed           Kind = "resume"     // the cause of the halt is gone
	BudgetOver        Kind = "budget"     // Reason
	Settled           Kind = "settled"    // no unit waits or runs, or the budget is over
	ReadyReached      Kind = "ready"      // the milestone ready
	MilestoneReached  Kind = "milestone"  // Unit
	ShutdownStep      Kind = "shutdown"   // Step: one step of the way down
	KernelFact        Kind = "kernel"     // Text: a line of the kernel that concerns us; Object
	InitFact          Kind = "init"       // Text: what PID 1 has to say; PID
)

// State is where a unit stands.
type State string

// States. All but Waiting and Running are settled; a lost unit waits again
// when its needs return.
const (
	Waiting  State = "waiting"
	Running  State = "running"
	Done     State = "done"
	Adopted  State = "adopted"  // was there already, exactly as wanted
	Skipped  State = "skipped"  // an operator's or the command line's word
	Degraded State = "degraded" // its first round is over without success; it goes on trying
	Stuck    State = "stuck"    // a process of it cannot be ended
	Lost     State = "lost"     // was done; what it stands on is gone
	Failed   State = "failed"   // another attempt needs a change or an operator, or the boot halts for it
	Orphan   State = "orphan"   // no longer in the file; still up
)

// Settled tells whether nothing more is awaited in this state.
func (s State) Settled() bool { return s != Waiting && s != Running && s != "" }

// OK tells whether the unit is up.
func (s State) OK() bool { return s == Done || s == Adopted }

// Op is what an attempt does.
type Op string

const (
	Check    Op = "check"
	Apply    Op = "apply"
	Change   Op = "change"
	Rollback Op = "rollback"
)

// Presence of a resource.
type Presence string

const (
	Present Presence = "present"
	Absent  Presence = "absent"
	Gone    Presence = "lost" // was present before
)

// Event is one record of the file. Fields are only ever added.
type Event struct {
	Seq  uint64        `json:"seq"`  // of the file; grows by one a record
	Gen  uint64        `json:"gen"`  // generation of the orchestrator that wrote it
	At   time.Duration `json:"at"`   // CLOCK_BOOTTIME, ns
	Kind Kind          `json:"kind"` // what the other fields are about

	Unit string `json:"unit,omitempty"`
	// State is the unit's (or template's) state from now on; empty: as before.
	State  State  `json:"state,omitempty"`
	Reason string `json:"reason,omitempty"`
	Text   string `json:"text,omitempty"`
	// Waits are the needs that hold the unit back (the first few) and Unmet
	// how many there are.
	Waits []Wait `json:"waits,omitempty"`
	Unmet int    `json:"unmet,omitempty"`

	Op         Op            `json:"op,omitempty"`
	Attempt    int           `json:"attempt,omitempty"`
	Background bool          `json:"background,omitempty"` // after the first round
	Answer     string        `json:"answer,omitempty"`     // of a check
	Error      *Error        `json:"error,omitempty"`
	RetryAt    time.Duration `json:"retryAt,omitempty"` // when the next attempt is due
	By         time.Duration `json:"by,omitempty"`      // when what starts must have ended
	Ordered    string        `json:"ordered,omitempty"` // the command that this carries out
	Jammed     bool          `json:"jammed,omitempty"`  // the process PID is still there
	PID        int           `json:"pid,omitempty"`
	Wchan      string        `json:"wchan,omitempty"` // where in the kernel a stuck process sleeps

	Waiting string `json:"waiting,omitempty"` // what a running attempt waits for
	Object  string `json:"object,omitempty"`
	Server  string `json:"server,omitempty"`

	Resource   string            `json:"resource,omitempty"`
	Presence   Presence          `json:"presence,omitempty"`
	Generation uint64            `json:"generation,omitempty"` // of the resource
	Attrs      map[string]string `json:"attrs,omitempty"`

	Command string `json:"command,omitempty"` // retry, skip, stop, unstuck, lose

	Plan     *PlanInfo       `json:"plan,omitempty"`
	Info     *UnitInfo       `json:"info,omitempty"`
	Instance json.RawMessage `json:"instance,omitempty"` // the unit itself, for those that no plan lists
	Have     int             `json:"have,omitempty"`     // instances
	Want     int             `json:"want,omitempty"`

	Wall *time.Time `json:"wall,omitempty"`
	Step *Step      `json:"step,omitempty"`
}

// Wait is a need that is not met: too few of AnyOf.
type Wait struct {
	AnyOf []string `json:"anyOf"`
	Min   int      `json:"min,omitempty"`   // when more than one of AnyOf is needed
	After bool     `json:"after,omitempty"` // waits for the end of a first round, not for success
	// Reason is what the engine knows beyond the resource's own reason: a
	// claim, the state of the unit that provides it.
	Reason string        `json:"reason,omitempty"`
	Since  time.Duration `json:"since"`
}

// Error is what is said of a failure. The text never holds a secret.
type Error struct {
	Code   string `json:"code,omitempty"` // stable; a page in docs/errors
	Text   string `json:"text"`
	Object string `json:"object,omitempty"`
	Server string `json:"server,omitempty"`
	Hint   string `json:"hint,omitempty"`
	// Next is the command that helps, exactly as an operator may type it.
	Next string `json:"next,omitempty"`
	// Final: another attempt cannot help before something changes.
	Final bool `json:"final,omitempty"`
	// Clock: what this machine's clock says has a part in it; a step of the clock starts the next attempt.
	Clock bool `json:"clock,omitempty"`
}

// PlanInfo describes the plan that a generation runs.
type PlanInfo struct {
	Name   string        `json:"name"`
	Digest string        `json:"digest"`
	Budget time.Duration `json:"budget"`
	Origin time.Duration `json:"origin"` // when the budget began
	Units  int           `json:"units"`  // so many declarations follow
}

// UnitInfo is a unit of the plan in short.
type UnitInfo struct {
	Kind      string   `json:"kind"`
	Stage     string   `json:"stage"`
	Needs     []Need   `json:"needs,omitempty"`
	Provides  []string `json:"provides,omitempty"`
	Batch     string   `json:"batch,omitempty"`
	Milestone bool     `json:"milestone,omitempty"`
	OnFailure string   `json:"onFailure,omitempty"`
	Template  string   `json:"template,omitempty"`
	Origin    string   `json:"origin,omitempty"` // file:line
}

// Need in short; Min 0 means 1.
type Need struct {
	AnyOf []string `json:"anyOf"`
	Min   int      `json:"min,omitempty"`
	After bool     `json:"after,omitempty"`
}

// Step is one step of the way down.
type Step struct {
	Phase  string        `json:"phase"`            // services, mounts, volumes, sessions, …
	Action string        `json:"action"`           // stop, umount, remove, …
	Object string        `json:"object,omitempty"` // what it is done to
	State  State         `json:"state"`            // running, done, failed, stuck, skipped
	Reason string        `json:"reason,omitempty"`
	Took   time.Duration `json:"took,omitempty"`
}
