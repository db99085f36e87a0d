// Package task runs one attempt at a job in a process of its own, which the kernel ends when the right to work on it runs out: also
// when that process, or the one that watches over it, is stopped, swapped out or slept through a suspend. So whoever takes a job over
// after that time is alone at its target.
//
// It owns the process, the deadline and the words between the two. It knows no queue and no kind of work: the program says in Main what
// its kinds do.
package task

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"initd/v2v/self"
)

// Order is what an attempt is about.
type Order struct {
	Job  string          `json:"job"`
	Kind string          `json:"kind"`
	Args json.RawMessage `json:"args"`
	// Token grows with every attempt: of two, the one with the smaller token has lost its right.
	Token uint64 `json:"token,omitempty"`
	// Again says that an earlier attempt may have left something to go on with.
	Again bool `json:"again,omitempty"`
	// Started is when the first attempt began, by the clock of its worker.
	Started time.Time `json:"started,omitzero"`
	// Clean asks to take away what earlier attempts left, and nothing else.
	Clean bool `json:"clean,omitempty"`
	// Handed is what an earlier attempt handed over last, on whatever machine; nil if none did.
	Handed json.RawMessage `json:"handed,omitempty"`
}

// Progress is how far an attempt is.
type Progress struct {
	// Phase is a word for people: waiting, converting, verifying.
	Phase string `json:"phase,omitempty"`
	// Done and Total are bytes of the virtual disk; Total is 0 while it is unknown.
	Done  int64 `json:"done"`
	Total int64 `json:"total,omitempty"`
	// Rate is in bytes a second.
	Rate int64 `json:"rate,omitempty"`
	// Left is how long the rest will take; 0 if that cannot be said.
	Left time.Duration `json:"left,omitempty"`
}

// A Kind does the work of an order. When ctx ends, context.Cause says whether it has to clean up (ErrCancelled) or to leave what a later attempt
// can go on with (ErrSuspended).
type Kind func(ctx context.Context, o Order, say Reporter) (result json.RawMessage, err error)

// Reporter is how a Kind speaks to its worker.
type Reporter interface {
	// Progress says how far it is, as often as it likes.
	Progress(p Progress)
	// Hand hands over what a later attempt needs, wherever that runs; the last one counts. It returns once the queue has it, so that what is done
	// afterwards can be gone on with, or with the cause of ctx's end. At most MaxHanded bytes.
	Hand(ctx context.Context, b json.RawMessage) error
}

// MaxHanded is the most that Reporter.Hand takes, in bytes.
const MaxHanded = 64 << 10

// Causes of the end of a Kind's context.
var (
	ErrCancelled = errors.New("cancelled")
	ErrSuspended = errors.New("suspended: the worker stops")
)

// Failure is an attempt's error as it comes out of its process.
type Failure struct {
	Text string `json:"text"`
	// Code is the stable code of an image's error, if it is one.
	Code string `json:"code,omitempty"`
	// Final says that trying again is of no use.
	Final bool `json:"final,omitempty"`
	// Cancelled and Suspended say that the attempt ended because it was told to.
	Cancelled bool `json:"-"`
	Suspended bool `json:"-"`
	// Died says that the process ended without a word.
	Died bool `json:"-"`
}

func (f *Failure) Error() string { return f.Text }

// Final is implemented by errors that know whether trying again is of no use.
type Final interface {
	error
	Final() bool
}

// Deadlines are on the clock that goes on during a suspend, so that they mean the same to the kernel's timer.
type Deadline int64

// word is what goes over the socket between the two processes, one a record.
type word struct {
	Order    *Order    `json:"order,omitempty"`
	Deadline Deadline  `json:"deadline,omitempty"`
	Stop     string    `json:"stop,omitempty"` // cancel or suspend
	Progress *Progress `json:"progress,omitempty"`
	Done     *done     `json:"done,omitempty"`
	// Handed is from the task what it hands over, Took to it the number of the last that the queue has.
	Handed *Handed `json:"handed,omitempty"`
	Took   uint64  `json:"took,omitempty"`
}

// Handed is what a task hands over: the Number-th thing of its attempt, from 1.
type Handed struct {
	Number uint64          `json:"number"`
	What   json.RawMessage `json:"what"`
}

type done struct {
	Result    json.RawMessage `json:"result,omitempty"`
	Failure   *Failure        `json:"failure,omitempty"`
	Cancelled bool            `json:"cancelled,omitempty"`
	Suspended bool            `json:"suspended,omitempty"`
}

const (
	arg      = "@job"
	fdSocket = self.FD
	maxWord  = 128 << 10
)
