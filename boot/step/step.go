// Package step says what each kind of unit is: what the lines of an appliance
// become (pure), what the engine calls for them, and what runs in a child
// process for that, side by side in one file a kind.
//
// It owns the kinds and the small interfaces they need. It never starts a
// process, speaks to PID 1 or opens a socket by itself: main fills the
// interfaces in. It never imports initd.
package step

import (
	"context"
	"encoding/json"
	"os"
	"time"

	"initd/boot/engine"
	"initd/boot/plan"
)

// Step is one kind of unit.
type Step struct {
	Kind plan.Kind
	// New makes the action; nil for kinds that only add units of other kinds.
	New func(d *Deps) engine.Action
	// Children are the functions that this kind runs in child processes.
	Children map[string]ChildFunc
}

// All lists every kind, in the order in which people read a plan.
func All() []Step {
	return []Step{
		linkStep(),
		routeStep(),
		dnsStep(),
		clockStep(),
		keyStep(),
		luksStep(),
		mountStep(),
		serviceStep(),
	}
}

// Kinds returns the pure half of All, for plan.Compile.
func Kinds() []plan.Kind {
	var list []plan.Kind
	for _, s := range All() {
		list = append(list, s.Kind)
	}
	return list
}

// Actions makes the action of every kind.
func Actions(d *Deps) map[string]engine.Action {
	m := map[string]engine.Action{}
	for _, s := range All() {
		if s.New != nil {
			m[s.Kind.Name] = s.New(d)
		}
	}
	return m
}

// ChildFuncs returns every function that may run in a child, by name.
func ChildFuncs() map[string]ChildFunc {
	m := map[string]ChildFunc{}
	for _, s := range All() {
		for n, f := range s.Children {
			m[n] = f
		}
	}
	return m
}

// Deps is what main gives to the actions.
type Deps struct {
	Children Children
	Services Services
	Devices  Devices
	Volumes  Volumes
	Keys     *KeyStore
	Modules  Modules
	Paths    Paths
}

// Paths are the places that differ between a machine and a test.
type Paths struct {
	Config   string   // folder of the appliance file
	Identity []string // folders that are searched before it for certificates and keys
	Run      string   // /run/initd
	Resolv   string   // /etc/resolv.conf
}

// Modules loads kernel modules by name or alias; those built in or unknown to
// the image's pruned tree but present in the kernel are no error.
type Modules interface {
	Load(ctx context.Context, names ...string) error
}

// Volumes answers whether an encrypted volume is open.
type Volumes interface {
	Open(name string) bool
}

// Devices answers which device a block resource is right now.
type Devices interface {
	// Device returns the path of the node (/dev/vdb) that is the top of the
	// stack for r, or an error that says what is missing.
	Device(r plan.Resource) (string, error)
}

// Children runs functions of this package in short-lived processes.
type Children interface {
	Run(ctx context.Context, c Call) (Reply, error)
}

// Call is one run of a child.
type Call struct {
	Func   string // a name of ChildFuncs
	Unit   string // for whom: shown by ps and in errors
	Params any    // marshalled to JSON; never a secret
	// Files are inherited by the child in this order: devices, sealed memfds
	// with secrets. They stay open here.
	Files []*os.File
	// Progress hears what the child tells while it runs.
	Progress func(ChildProgress)
	// Grace is how long a child may take to end after ctx did and it was
	// killed; then it is given up as stuck. Zero means two seconds.
	Grace time.Duration
	// Lower starts the child with idle I/O priority and without rights that
	// it does not need; see initd/child.
	Uninterruptible bool
}

// ChildProgress is one message of a running child. Index tells which part of
// a batch it is about; Result and Files of a part may come before the end.
type ChildProgress struct {
	Index    int              `json:"index"`
	Progress *engine.Progress `json:"progress,omitempty"`
	Done     bool             `json:"done,omitempty"`
	Error    *ChildError      `json:"error,omitempty"`
	Result   json.RawMessage  `json:"result,omitempty"`
	Files    []*os.File       `json:"-"`
}

// Reply is what a child returned.
type Reply struct {
	Result json.RawMessage
	Files  []*os.File // the caller closes them
}

// ChildFunc is a function that runs in a child process.
type ChildFunc func(ctx context.Context, in *ChildInput) (result any, err error)

// ChildInput is what a child is given.
type ChildInput struct {
	Params json.RawMessage
	Files  []*os.File
	// Tell sends a message to the orchestrator.
	Tell func(ChildProgress)
	// Sub runs another function in a process of its own, below this one and
	// with its credentials and session keyring.
	Sub func(ctx context.Context, fn string, params any, files []*os.File) (json.RawMessage, error)
}

// ChildError carries an error from a child to the engine with what the
// report shows of it.
type ChildError struct {
	CodeText   string `json:"code,omitempty"`
	Message    string `json:"message"`
	ObjectText string `json:"object,omitempty"`
	ServerText string `json:"server,omitempty"`
	HintText   string `json:"hint,omitempty"`
	Final      bool   `json:"final,omitempty"` // another attempt cannot help
}

func (e *ChildError) Error() string   { return e.Message }
func (e *ChildError) Code() string    { return e.CodeText }
func (e *ChildError) Object() string  { return e.ObjectText }
func (e *ChildError) Server() string  { return e.ServerText }
func (e *ChildError) Hint() string    { return e.HintText }
func (e *ChildError) Retryable() bool { return !e.Final }
