// Package order is what a test asks of the tracer in its machine: a file in the image, and the events that answer it.
//
// It owns their shapes. It never decides where to kill.
package order

import (
	"fmt"
	"regexp"
)

// Path of the file in the guest, and Program, where the image carries the shipped initd: the tracer stands in its place.
const (
	Path    = "/etc/tracer.json"
	Program = "/usr/lib/initd/shipped"
)

// Class is a kind of system call at which the tracer looks.
type Class string

// The classes. N is counted over all threads and processes of one orchestrator.
const (
	Mount   Class = "mount"   // mount, move_mount
	Umount  Class = "umount"  // umount2
	Ioctl   Class = "ioctl"   // all but a terminal's
	Key     Class = "key"     // add_key, keyctl
	Module  Class = "module"  // init_module, finit_module
	Connect Class = "connect" // connect
	Rename  Class = "rename"  // rename, renameat, renameat2
	Ledger  Class = "ledger"  // write to /run/initd/ledger
	Fsync   Class = "fsync"   // fsync, fdatasync
	Init    Class = "init"    // sendmsg to init, but for heartbeats
)

// Classes lists all of them.
func Classes() []Class {
	return []Class{Mount, Umount, Ioctl, Key, Module, Connect, Rename, Ledger, Fsync, Init}
}

// Victim is who is killed.
type Victim string

const (
	// All are the orchestrator and the process that makes the call; what else the orchestrator had started is init's to end.
	All Victim = "all"
	// Caller is the process that makes the call.
	Caller Victim = "caller"
)

// Kill is one kill: at the Nth call of a class in one life of the orchestrator.
type Kill struct {
	Generation int    `json:"generation"` // of the orchestrator, 1 and up; 0: the first in which there is such a call
	Class      Class  `json:"class"`
	Match      string `json:"match,omitempty"` // count only calls with this in "OF: WHAT" of their point
	Same       string `json:"same,omitempty"`  // count only calls whose point is this one, as Point.Call says it
	N          int    `json:"n"`               // 1 and up
	After      bool   `json:"after"`           // its return; else before it begins
	Victim     Victim `json:"victim"`
}

// String says it as the test's output does.
func (k Kill) String() string {
	when, of := "before", ""
	if k.After {
		when = "after"
	}
	if k.Match != "" {
		of = fmt.Sprintf(" of %q", k.Match)
	}
	if k.Same != "" {
		of = fmt.Sprintf(" of %q", k.Same)
	}
	return fmt.Sprintf("generation %d: kill %s %s %s %d%s", k.Generation, k.Victim, when, k.Class, k.N, of)
}

// Order is the file.
type Order struct {
	Kills []Kill `json:"kills"`
	// Ask: before the first orchestrator starts, the order is asked for by AskEvent and comes by the event port: so many
	// machines can go on from that moment of one.
	Ask bool `json:"ask,omitempty"`
}

// Names of the events.
const (
	PointEvent  = "point"  // a call that could be killed at, with the members of Point
	KilledEvent = "killed" // a Kill took place, with the members of Killed
	AskEvent    = "order"  // the first orchestrator waits for an Order
	FailedEvent = "tracer" // the tracer itself failed, with "error"
)

// Point is a call.
type Point struct {
	Generation int    `json:"generation"`
	Class      Class  `json:"class"`
	N          int    `json:"n"`
	PID        int    `json:"pid"`
	Of         string `json:"of"`   // "boot", or "child NAME"
	What       string `json:"what"` // its arguments, as far as they are no secret
}

// chance is what differs by chance between two boots, in a point's arguments.
var chance = [...]struct {
	what *regexp.Regexp
	as   string
}{
	{regexp.MustCompile(`/\.([^/ ]+?)[0-9]{6,}`), "/.$1"},         // renameio's temporary files
	{regexp.MustCompile(`-[0-9]+\.json`), "-N.json"},              // records of children
	{regexp.MustCompile(`initd:[0-9a-f-]{36,}`), "initd:ID"},      // descriptions of keys, with a nonce
	{regexp.MustCompile(`/dev/(vd[a-z]|dm-[0-9]+)`), "/dev/DISK"}, // which of several equal ones
	{regexp.MustCompile(`tank[0-9]+`), "tankN"},                   // and of equal volumes
	{regexp.MustCompile(`("at"|"time"|"origin"):[0-9]+`), "$1:0"}, // the ledger's times
	{regexp.MustCompile(`/modules/[^/]+/`), "/modules/VERSION/"},  // of the kernel
}

// Call is what the point has in common with the same call in another boot, or
// of another orchestrator.
func (p Point) Call() string {
	text := p.What
	for _, c := range chance {
		text = c.what.ReplaceAllString(text, c.as)
	}
	return p.Of + ": " + text
}

// Killed is a Kill that took place.
type Killed struct {
	Kill
	Orchestrator int    `json:"orchestrator"` // its pid: two threads can be killed at in the same one
	PID          int    `json:"pid"`          // of the caller
	Of           string `json:"of"`
	What         string `json:"what"`
	Result       int64  `json:"result"` // what the call had returned, if it had; -errno
}
