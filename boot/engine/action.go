package engine

import (
	"context"

	"initd/boot/plan"
)

// Answer is what an action finds when it looks at the machine.
type Answer string

const (
	Absent    Answer = "absent"    // nothing there: Apply
	Partial   Answer = "partial"   // some of it is there and ours: Apply completes it
	Same      Answer = "same"      // exactly what the unit wants: adopted
	Follows   Answer = "follows"   // as the unit wants it, because of what it needs: adopted only if all of that was
	Different Answer = "different" // ours or like ours, but not what the unit wants: an error with the reason
	Foreign   Answer = "foreign"   // somebody else's: an error with the reason
)

// Checked is the result of a Check.
type Checked struct {
	Answer Answer
	Reason string // for partial, different, foreign: what differs, in a few words
	Object string // what was looked at: "/dev/mapper/tank0"
}

// Progress is what a running action tells while it works or waits.
type Progress struct {
	Waiting string // what it waits for: "kms-a: connection refused"; empty: it works
	Text    string // what it does: "fsck.ext4: 40 %"
	Object  string // the object concerned, once known
	Server  string // the server concerned, once known
	Note    string // what stays in the report whatever comes after: "opened by the second copy of its header"
}

// Action does the work of one kind of unit. All methods are called outside
// the engine's loop, each for one unit at a time; they must return soon after
// ctx ends (what can sleep in the kernel belongs in a child process).
//
// An error may also implement any of: Code() string (a stable code with a
// page in the docs), Retryable() bool (false: another attempt cannot help
// before something changes), Object() string, Server() string, Hint() string
// (what to do), Next() string (the command that helps, as it may be typed); the
// report shows them. Clock() bool: what the clock says has a part in it, and a
// step of the clock starts the next attempt at once.
//
// An error with Stuck() (pid int, wchan string) says that a process of the
// attempt cannot be ended: the unit is stuck, nothing of it is started again,
// and the engine goes on. If it also has Freed() <-chan struct{}, the closing
// of that channel (the process is gone) makes the unit try again.
type Action interface {
	// Check looks, and changes nothing.
	Check(ctx context.Context, u *plan.Unit) (Checked, error)
	// Apply makes it so; it is called after Absent and Partial only.
	Apply(ctx context.Context, u *plan.Unit, progress func(Progress)) error
	// Rollback cleans up what a failed Apply of this same unit left. It may
	// be called twice.
	Rollback(ctx context.Context, u *plan.Unit) error
}

// Batcher is an Action that serves units with the same Batch in one call.
// done is called exactly once for each index, in any order, as results come;
// ctx ends at the latest deadline of the units, or when all that are not done
// were called off.
type Batcher interface {
	Action
	ApplyBatch(ctx context.Context, parts []Part, progress func(i int, p Progress), done func(i int, err error))
}

// Part is one unit of a batch. Context ends with the call's, and before it when
// this unit alone is called off: its part is to end soon then, and no other is
// to notice. Where a part cannot be ended alone, it goes on, and the unit hears
// how it ended.
type Part struct {
	*plan.Unit
	Context context.Context
}

// ApplyOne is Apply by a batch of one.
func ApplyOne(ctx context.Context, b Batcher, u *plan.Unit, progress func(Progress)) error {
	var out error
	b.ApplyBatch(ctx, []Part{{u, ctx}}, func(_ int, p Progress) { progress(p) }, func(_ int, err error) { out = err })
	return out
}

// Changer is an Action that can turn Different into what the unit wants on a
// running machine.
type Changer interface {
	Change(ctx context.Context, u *plan.Unit, progress func(Progress)) error
}

// Expander is an Action whose templates become units as facts show up. It is
// pure; equal input gives equal units. Instance IDs must be stable.
type Expander interface {
	Instances(t *plan.Template, f plan.Fact) ([]plan.Unit, error)
}

// Watcher observes one part of the world. Watch subscribes first, then
// enumerates, and hands facts to post until ctx ends; interests are the
// resources the plan names (more come through the channel as templates
// expand). After lost events it enumerates again and posts everything, the
// absence of interests that it found before included. Facts that belong
// together go in one call of post: what they make runnable runs together. A
// Generation of zero means one more whenever the resource comes back.
//
// Watch returns when ctx ends. If it returns earlier, that is reported and it
// is called again after a moment.
type Watcher interface {
	Classes() []string
	Watch(ctx context.Context, interests <-chan []plan.Resource, post func([]plan.Fact)) error
}
