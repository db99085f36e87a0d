// Package job is the queue of conversions and deploys: jobs wait, run on at most one worker at a time, move to another worker when
// theirs dies, and are kept with their results.
//
// It owns the records, the leases and the limits, in one key-value bucket of NATS JetStream, and changes each record only from the revision it
// has seen. It knows no formats and no disks: what a kind of job does is v2v/job/task's Kind, which the program provides.
package job

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"

	"initd/v2v/job/task"
)

// State is where a job stands.
type State string

const (
	Queued    State = "queued"
	Running   State = "running"
	Done      State = "done"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// Ended says whether nothing more will happen by itself.
func (s State) Ended() bool { return s == Done || s == Failed || s == Cancelled }

// Spec is what a user submits.
type Spec struct {
	// ID makes a submission idempotent: the same ID with the same content is the same job. Empty: a new one is made.
	ID   string          `json:"id"`
	Kind string          `json:"kind"`
	Args json.RawMessage `json:"args"`
	// Datastore is what the job loads, and what limits count by: a file system, a portal.
	Datastore string `json:"datastore,omitempty"`
}

// Job is a record of the queue.
type Job struct {
	Spec
	State     State     `json:"state"`
	Submitted time.Time `json:"submitted"`
	Started   time.Time `json:"started,omitzero"`
	Finished  time.Time `json:"finished,omitzero"`
	// Cancel says that somebody wants it to end.
	Cancel bool `json:"cancel,omitempty"`
	// Lease is held by the worker that runs it.
	Lease *Lease `json:"lease,omitempty"`
	// Tries counts attempts since the submission or the last retry; those that a worker gave back do not count.
	Tries int `json:"tries"`
	// After is when a job that failed is tried again.
	After    time.Time      `json:"after,omitzero"`
	Progress *task.Progress `json:"progress,omitempty"`
	// Handed is what the last attempts handed over to the next one (task.Reporter).
	Handed json.RawMessage `json:"handed,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
	// Error is the last attempt's, Code its stable code if it has one.
	Error string `json:"error,omitempty"`
	Code  string `json:"code,omitempty"`
	// History holds the last attempts, oldest first.
	History []Attempt `json:"history,omitempty"`
	// Revision is the record's in the bucket.
	Revision uint64 `json:"-"`
}

// Lease is the right to run a job. It ends when its record has not changed for the queue's lease time, as seen by whoever wants it.
type Lease struct {
	// Worker and Host are for people; Worker is unique.
	Worker string `json:"worker"`
	Host   string `json:"host"`
	// Token grows with every lease of the job: the revision that it was taken from.
	Token uint64 `json:"token"`
	// Renewal counts within the lease, so that each renewal is a change.
	Renewal uint64 `json:"renewal"`
}

// Attempt is a line of a job's history.
type Attempt struct {
	Worker  string    `json:"worker"`
	Host    string    `json:"host"`
	Token   uint64    `json:"token"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended,omitzero"`
	// Outcome is done, failed, cancelled, suspended, died or lost (the lease went to another worker).
	Outcome string `json:"outcome,omitempty"`
	Error   string `json:"error,omitempty"`
}

const (
	maxHistory = 20
	// maxTries is how often an attempt may fail of causes that may pass.
	maxTries = 5
	// maxRecord bounds a record, in bytes: the server takes 1 MiB.
	maxRecord = 512 << 10
)

// Errors that callers branch on.
var (
	ErrNotFound = errors.New("there is no such job")
	ErrConflict = errors.New("another job has this id")
	ErrState    = errors.New("the job is not in a state for this")
	errChanged  = errors.New("the record was changed by another")
)

// idRule is what a key of the bucket takes, without dots: they would be levels.
const idRule = `^[A-Za-z0-9_=-]{1,100}$`

func checkSpec(s Spec) error {
	if !regexp.MustCompile(idRule).MatchString(s.ID) {
		return fmt.Errorf("the id %q is not 1 to 100 letters, digits, - and _", s.ID)
	}
	if s.Kind == "" {
		return errors.New("a job without a kind")
	}
	if len(s.Datastore) > 200 {
		return errors.New("the datastore's name has more than 200 bytes")
	}
	if len(s.Args) > maxRecord/2 {
		return fmt.Errorf("the arguments have %d bytes; at most %d", len(s.Args), maxRecord/2)
	}
	if !json.Valid(s.Args) {
		return errors.New("the arguments are no JSON")
	}
	return nil
}

// begin opens a line of history.
func (j *Job) begin(a Attempt) {
	j.History = append(j.History, a)
	if n := len(j.History) - maxHistory; n > 0 {
		j.History = j.History[n:]
	}
}

// end closes the last line of history, if it is open.
func (j *Job) end(outcome, why string, now time.Time) {
	if n := len(j.History); n > 0 && j.History[n-1].Outcome == "" {
		a := &j.History[n-1]
		a.Outcome, a.Error, a.Ended = outcome, why, now
	}
}
