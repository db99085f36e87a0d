package step

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"initd/boot/engine"
)

// Children runs functions of this package in short-lived processes.
type Children interface {
	// Run starts one and waits for its result.
	Run(ctx context.Context, c Call) (Reply, error)
	// Free returns when no child works on an object (see Call.Objects), or with
	// the error that Run would be refused with.
	Free(ctx context.Context, object string) error
}

// Call is one run of a child.
type Call struct {
	Func   string // a name of ChildFuncs
	Unit   string // for whom: shown by ps and in errors
	Params any    // marshalled to JSON; never a secret
	// Objects are what no two children may work on at once: a unit's ID, a
	// device's node. A call waits, for as long as Grace, until a child before
	// it is through with them, and is refused as stuck if that one cannot be
	// ended. In a batch the object of part i is Objects[i], and is free as soon
	// as that part is told Done without an error, or Over. None: the call is free of such care.
	Objects []string
	// Files are inherited by the child in this order: devices, sealed memfds
	// with secrets. They stay open here.
	Files []*os.File
	// Parts are, of a batch, the contexts of its parts: the child is told when one
	// ends, as ChildInput.Parts. It is told of all, and given Grace, before it is
	// killed when the call's own ends. None: the child is killed at once.
	Parts []context.Context
	// Compute says that the child computes for long, in much memory: it gets all
	// processors and huge pages. Others are through before either would pay.
	Compute bool
	// Progress hears what the child tells while it runs.
	Progress func(ChildProgress)
	// Grace is how long a child may take to end after ctx did and it was
	// killed; then it is given up as stuck. Zero means two seconds.
	Grace time.Duration
	// Uninterruptible says that ending the child half way does harm. It has no
	// deadline then; but when it has slept in the kernel for Idle without once
	// waking, it is given up as stuck, and left to finish.
	Idle            time.Duration
	Uninterruptible bool
}

// ChildProgress is one message of a running child. Index tells which part of
// a batch it is about; Result and Files of a part may come before the end.
type ChildProgress struct {
	Index    int              `json:"index"`
	Progress *engine.Progress `json:"progress,omitempty"`
	Done     bool             `json:"done,omitempty"`
	// Over says of a part that is Done with an error that nothing is at it any more.
	Over   bool            `json:"over,omitempty"`
	Error  *ChildError     `json:"error,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
	Files  []*os.File      `json:"-"`
}

// Reply is what a child returned.
type Reply struct {
	Result json.RawMessage
	Files  []*os.File // the caller closes them
}

// ChildFunc is a function that runs in a child process.
type ChildFunc func(ctx context.Context, in *ChildInput) (result any, err error)

// Takes is a child's function that gets its parameters as a P.
func Takes[P any](f func(ctx context.Context, in *ChildInput, p P) (any, error)) ChildFunc {
	return func(ctx context.Context, in *ChildInput) (any, error) {
		var p P
		if err := json.Unmarshal(in.Params, &p); err != nil {
			return nil, fmt.Errorf("read parameters: %w", err)
		}
		return f(ctx, in, p)
	}
}

// ChildInput is what a child is given.
type ChildInput struct {
	Params json.RawMessage
	Files  []*os.File
	// Tell sends a message to the orchestrator.
	Tell func(ChildProgress)
	// Parts returns a context for each of the call's n parts, below ctx: it ends
	// when that part is called off. To be called once.
	Parts func(ctx context.Context, n int) []context.Context
	// Sub starts another function in a process of its own, below this one and
	// with the credentials and session keyring of the calling thread, for the
	// same unit. wait, which must be called, returns its result.
	Sub func(ctx context.Context, c Call) (wait func() (json.RawMessage, error), err error)
}

// ChildError carries an error from a child to the engine with what the
// report shows of it.
type ChildError struct {
	CodeText   string `json:"code,omitempty"`
	Message    string `json:"message"`
	ObjectText string `json:"object,omitempty"`
	ServerText string `json:"server,omitempty"`
	HintText   string `json:"hint,omitempty"`
	NextText   string `json:"next,omitempty"`
	Final      bool   `json:"final,omitempty"` // another attempt cannot help
	ClockBound bool   `json:"clock,omitempty"` // what the clock says has a part in it
}

func (e *ChildError) Error() string   { return e.Message }
func (e *ChildError) Code() string    { return e.CodeText }
func (e *ChildError) Object() string  { return e.ObjectText }
func (e *ChildError) Server() string  { return e.ServerText }
func (e *ChildError) Hint() string    { return e.HintText }
func (e *ChildError) Next() string    { return e.NextText }
func (e *ChildError) Retryable() bool { return !e.Final }
func (e *ChildError) Clock() bool     { return e.ClockBound }

// Died tells whether the child ended without an answer: nothing is known of
// what it was to do.
func (e *ChildError) Died() bool { return e.CodeText == "CHILD-DIED" }

// AsChildError keeps what the report shows of err.
func AsChildError(err error) *ChildError {
	var c *ChildError
	if errors.As(err, &c) && c.Message == err.Error() {
		return c
	}
	out := &ChildError{Message: err.Error()}
	if e := (interface{ Code() string })(nil); errors.As(err, &e) {
		out.CodeText = e.Code()
	}
	if e := (interface{ Object() string })(nil); errors.As(err, &e) {
		out.ObjectText = e.Object()
	}
	if e := (interface{ Server() string })(nil); errors.As(err, &e) {
		out.ServerText = e.Server()
	}
	if e := (interface{ Hint() string })(nil); errors.As(err, &e) {
		out.HintText = e.Hint()
	}
	if e := (interface{ Next() string })(nil); errors.As(err, &e) {
		out.NextText = e.Next()
	}
	if e := (interface{ Retryable() bool })(nil); errors.As(err, &e) {
		out.Final = !e.Retryable()
	}
	if e := (interface{ Clock() bool })(nil); errors.As(err, &e) {
		out.ClockBound = e.Clock()
	}
	return out
}
