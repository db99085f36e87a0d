// Package plan turns an appliance into a graph of units: data that marshals,
// diffs and draws.
//
// It owns the types of the graph, its compilation (pure: no I/O, same input,
// same output) and what is said about it (text, DOT, SVG, diff). It never runs
// anything and never looks at the machine: facts are an input. What one line
// of the appliance becomes is a value of type Kind, written in boot/step.
package plan

import (
	"encoding/json"
	"time"
)

// Schema names the JSON form of a Plan; fields are only ever added.
const Schema = "initd.plan/v1"

// Stage is a name for people; stages order output, not execution.
type Stage string

// Stages in the order in which they are shown.
const (
	Network  Stage = "network"
	Time     Stage = "time"
	Keys     Stage = "keys"
	Unlock   Stage = "unlock"
	Fabrics  Stage = "fabrics"
	Storage  Stage = "storage"
	Services Stage = "services"
	Jobs     Stage = "jobs"
	Ready    Stage = "ready"
)

// Stages lists all stages in order.
func Stages() []Stage {
	return []Stage{Network, Time, Keys, Unlock, Fabrics, Storage, Services, Jobs, Ready}
}

// Mode says how a need holds a unit back.
type Mode string

const (
	// Require waits until Min of AnyOf are present.
	Require Mode = "require"
	// After waits until each provider is done, skipped, or through the first
	// round of its policy; it never blocks for good.
	After Mode = "after"
)

// Need is one condition of a unit. The zero Min means 1; the zero Mode means Require.
type Need struct {
	AnyOf []Resource `json:"anyOf"`
	Min   int        `json:"min,omitempty"`
	Mode  Mode       `json:"mode,omitempty"`
}

// Duration is a time.Duration that marshals as "1.5s".
type Duration time.Duration

func (d Duration) String() string               { return time.Duration(d).String() }
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// Retry spaces attempts: Initial, then times Factor up to Max, each with
// ±Jitter (a fraction). A zero Initial means no further attempt.
type Retry struct {
	Initial Duration `json:"initial,omitempty"`
	Max     Duration `json:"max,omitempty"`
	Factor  float64  `json:"factor,omitempty"`
	Jitter  float64  `json:"jitter,omitempty"`
	// Attempts is the length of the first round: after so many failures the
	// unit is degraded (or halts, or reboots) and attempts go on in the
	// background. Zero means 1.
	Attempts int `json:"attempts,omitempty"`
}

// OnFailure says what follows when the first round of attempts has failed.
type OnFailure string

const (
	Degrade OnFailure = "degrade" // go on, keep trying in the background
	Halt    OnFailure = "halt"    // start nothing new; network, API, prompt and retries stay
	Reboot  OnFailure = "reboot"  // at most Policy.Reboots times, then halt; needs a state disk
)

// Policy is how long a unit may wait and run, and what its failure means.
type Policy struct {
	// Deadline bounds one attempt of Apply.
	Deadline Duration `json:"deadline"`
	// Wait bounds waiting for the needs, from the start of the run; then the
	// unit is degraded and goes on waiting in the background. Zero means the
	// plan's budget.
	Wait      Duration  `json:"wait,omitempty"`
	Retry     Retry     `json:"retry"`
	OnFailure OnFailure `json:"onFailure"`
	Reboots   int       `json:"reboots,omitempty"`
}

// OnLoss says what happens to a done unit when a resource it required is lost.
type OnLoss string

const (
	LossReport  OnLoss = "report"  // an event, nothing else
	LossRecheck OnLoss = "recheck" // when it is back: Check, and Apply if it asks for it
	LossStop    OnLoss = "stop"    // the unit's own resources count as lost too, until it is back
)

// Wants is what an image must carry for a unit.
type Wants struct {
	Modules  []string `json:"modules,omitempty"`  // kernel modules or aliases ("dm-crypt", "crypto-xts(aes)")
	Programs []string `json:"programs,omitempty"` // absolute paths or names ("fsck.ext4")
}

// Unit is a node of the plan.
type Unit struct {
	ID       string     `json:"id"`   // "luks/tank0"
	Kind     string     `json:"kind"` // which action runs it: "luks"
	Stage    Stage      `json:"stage"`
	Needs    []Need     `json:"needs,omitempty"`
	Provides []Resource `json:"provides,omitempty"`
	// Claims are block resources that the unit takes over: while it is not
	// done, their devices satisfy nobody else's need.
	Claims []Resource `json:"claims,omitempty"`
	Policy Policy     `json:"policy"`
	OnLoss OnLoss     `json:"onLoss,omitempty"`
	// Patience: once this unit is up and all else is through its first round, units whose Policy has no Wait wait for devices
	// that are not there only until none has come for this long. Zero: as their policies say.
	Patience Duration `json:"patience,omitempty"`
	// Uninterruptible units (fsck, growfs) are not ended at their deadline;
	// they report progress.
	Uninterruptible bool `json:"uninterruptible,omitempty"`
	// Batch: units with the same Batch that become runnable together share
	// one call of the action, if it can batch.
	Batch string `json:"batch,omitempty"`
	// Milestone units have no action: done as soon as their needs are met.
	Milestone bool `json:"milestone,omitempty"`
	// Spec is the kind's own parameters; never a secret.
	Spec   json.RawMessage `json:"spec,omitempty"`
	Wants  Wants           `json:"wants,omitzero"`
	Origin string          `json:"origin,omitempty"` // file:line that asked for it
	// Template is the template that this unit is an instance of.
	Template string `json:"template,omitempty"`
	// Digest is over Kind and Spec: equal digests mean the same object.
	Digest string `json:"digest"`
}

// Expect says how many instances make a template whole, and within what time
// of the start of the run; after it the template is degraded, not failed.
type Expect struct {
	Count  int      `json:"count"`
	Within Duration `json:"within,omitempty"`
}

// Template is a line that matches many devices, or whose instances show only
// at run time. Each fact about a resource of class Class is handed to the
// kind's Instances; the units it returns join the graph as events.
type Template struct {
	ID     string          `json:"id"`
	Kind   string          `json:"kind"`
	Stage  Stage           `json:"stage"`
	Class  string          `json:"class"` // resource class whose facts are matched, e.g. "block"
	Expect Expect          `json:"expect"`
	Spec   json.RawMessage `json:"spec,omitempty"`
	Policy Policy          `json:"policy"`
	Wants  Wants           `json:"wants,omitzero"`
	Origin string          `json:"origin,omitempty"`
	Digest string          `json:"digest"`
}

// Fact is one observation of the world: a resource is present (with a
// generation that grows each time it comes back) or absent, and why.
type Fact struct {
	Resource   Resource          `json:"resource"`
	Present    bool              `json:"present"`
	Generation uint64            `json:"generation,omitempty"`
	Reason     string            `json:"reason,omitempty"` // while absent: "eth1: no carrier"
	Attrs      map[string]string `json:"attrs,omitempty"`  // "dev": "/dev/vdb"
}

// Plan is the compiled appliance.
type Plan struct {
	Schema    string     `json:"schema"`
	Name      string     `json:"name"`
	Budget    Duration   `json:"budget"`   // boot
	Shutdown  Duration   `json:"shutdown"` // the way down
	Shell     string     `json:"shell,omitempty"`
	State     string     `json:"state,omitempty"` // resource of the state disk
	Units     []Unit     `json:"units"`           // sorted by stage, then ID
	Templates []Template `json:"templates,omitempty"`
	Notes     []string   `json:"notes,omitempty"` // what became of what the firmware asks for
	Digest    string     `json:"digest"`
}

// Unit returns the unit with this ID, or nil.
func (p *Plan) Unit(id string) *Unit {
	for i := range p.Units {
		if p.Units[i].ID == id {
			return &p.Units[i]
		}
	}
	return nil
}
