// Package deploy puts an image onto a disk that is to become a machine's: it waits for exactly that disk, proves that it is the one that was meant,
// takes it for itself alone, writes, reads back, and records what machine came from what image.
//
// It owns the proof (sysfs, never a link in /dev), the refusals, the record of each disk, and the resumption after a kill or a lost target. It reads no
// format and makes no session: readers and logins are handed in.
package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"initd/hw/sysfs"
	"initd/v2v/convert"
	"initd/v2v/file"
	"initd/v2v/image"
)

// Request is one deploy.
type Request struct {
	// Disk is where to.
	Disk Disk
	// Image is the path of the template, Format its declared format or empty to find out.
	Image, Format string
	Opening       image.OpenOptions
	Files         file.OpenOptions
	// Machine is whose disk it becomes, for the record; it may be empty.
	Machine string
	// Job is what this is an attempt at, for the record. If an earlier one, begun after Since, had ended and could not say so, nothing is done again;
	// without Since all is.
	Job   string
	Since time.Time
	// Handed is what an earlier attempt at Job handed over last, on whatever machine: it counts as a record of this one does.
	Handed *Record
	// Hand is given each record before what it says is relied on; nil gives it to nobody. An error ends the attempt.
	Hand func(context.Context, Record) error
	// Force overwrites what is known on the disk.
	Force bool
	// Fresh begins anew where an earlier run could be gone on with.
	Fresh bool
	// NoVerify does not read the disk back.
	NoVerify bool
	// WipeRest makes the disk read as zeros behind the image, too. Without it only the last MiB is cleared, where old tables have copies.
	WipeRest bool
	// Wait is how long the disk may take to come; 0 is a minute.
	Wait time.Duration
	// Rate limits reading, in bytes a second; 0 does not.
	Rate int64
	// Workers is convert.CopyOptions.Workers.
	Workers int
	// MarkEvery is how much of the disk lies between two marks that a later run can go on from, in bytes; 0 is 64 MiB. Each costs a flush.
	MarkEvery int64
	// State is the directory of the records.
	State string
	// Report is told what happens; nil tells nobody.
	Report func(Event)

	// Sys is the view of the running system, "/".
	Sys *sysfs.FS
	// Open reads the image.
	Open func(ctx context.Context, src *file.Source, format string, opt image.OpenOptions) (image.Reader, error)
	// Content says what is on the disk, in words; empty if nothing that is known.
	Content func(ctx context.Context, disk *file.Source) (string, error)
	// Login makes a session for the disk unless there is one; nil leaves that to others.
	Login func(ctx context.Context, d Disk) error
}

// Event is what Report is told.
type Event struct {
	// Phase is wait, copy, verify or done.
	Phase string
	convert.Progress
	// Total is how much data there are, in bytes.
	Total int64
	// Note is something that people should know, once.
	Note string
}

// Kind sorts refusals for callers that branch.
type Kind string

const (
	NotThere  Kind = "not-there"  // the disk did not come in time
	WrongDisk Kind = "wrong-disk" // it is another one than was meant
	InUse     Kind = "in-use"     // mounted, held, or open by another
	TooSmall  Kind = "too-small"
	Content   Kind = "content" // something is on it, and nobody said to overwrite it
	Lost      Kind = "lost"    // it went away while it was written
	Failing   Kind = "failing" // it is there, and what is written to it or read back fails
	Mismatch  Kind = "mismatch"
)

// Error is a deploy that was refused or did not succeed.
type Error struct {
	Kind Kind
	// Disk is the disk as it was asked for, What the cause, Do what helps.
	Disk, What, Do string
	Err            error
}

func (e *Error) Error() string {
	s := e.Disk + ": " + e.What
	if e.Do != "" {
		s += "; " + e.Do
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Final says whether trying again without a change is of no use.
func (e *Error) Final() bool {
	return e.Kind == WrongDisk || e.Kind == TooSmall || e.Kind == Content
}

// Outcome is what a deploy did.
type Outcome struct {
	Record
	// Device is the node that was written to.
	Device string `json:"device"`
	// Resumed is where it went on, in bytes of the disk; 0 is the beginning.
	Resumed int64         `json:"resumed"`
	Data    int64         `json:"data"`
	Zeros   int64         `json:"zeros"`
	Took    time.Duration `json:"-"`
}

// MarshalJSON gives the time in seconds.
func (o Outcome) MarshalJSON() ([]byte, error) {
	type plain Outcome
	return json.Marshal(struct {
		plain
		Seconds float64 `json:"seconds"`
	}{plain(o), o.Took.Seconds()})
}

// maxLosses is how often a target may go away in one run without a mark between.
const maxLosses = 3

// Run deploys. After a target that was lost it waits for it again and goes on.
func Run(ctx context.Context, req Request) (Outcome, error) {
	began := time.Now()
	if req.Report == nil {
		req.Report = func(Event) {}
	}
	if req.Wait == 0 {
		req.Wait = time.Minute
	}
	if req.MarkEvery == 0 {
		req.MarkEvery = 64 << 20
	}
	if err := req.Disk.Check(); err != nil {
		return Outcome{}, err
	}
	at, losses := int64(-1), 0
	for {
		r := &run{Request: req}
		out, err := r.once(ctx)
		out.Took = time.Since(began)
		lost, ok := errors.AsType[*Error](err)
		if !ok || lost.Kind != Lost || ctx.Err() != nil {
			return out, err
		}
		if r.marked > at {
			at, losses = r.marked, 0
		}
		if losses++; losses > maxLosses {
			return out, r.failing(lost)
		}
		req.Fresh = false
		req.Report(Event{Phase: "wait", Note: fmt.Sprintf("%v; waiting for it to come back", err)})
	}
}
