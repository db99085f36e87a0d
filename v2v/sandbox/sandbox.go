// Package sandbox reads images in a process that may do nothing else: no paths, no network, no privileges, bounded memory and time.
// Bytes that somebody else wrote are parsed and decoded there; the process that was started by its name keeps the target, the
// writes and the exit status, and sees an image.Reader or image.Streamer like any other.
//
// It owns the child: its start, its confinement, the protocol with it, and what its death means. It knows no format: the
// program says in Main what its children can do. The parent trusts nothing that the child says: extents have to be in order and
// within bounds, texts are cleaned, and lengths are checked before they are used.
package sandbox

import (
	"context"
	"io"
	"os"
	"time"

	"initd/v2v/image"
	"initd/v2v/self"
)

// Roles are what a child can be asked for. They run without rights, on bytes that nobody vouches for.
type Roles struct {
	// Open reads an image of a declared format; an empty format has to be found out.
	Open func(ctx context.Context, src image.Source, format string, opt image.OpenOptions) (image.Reader, error)
	// Stream reads an image that comes once.
	Stream func(ctx context.Context, src io.Reader, name, format string, opt image.OpenOptions) (image.Streamer, error)
	// Calls are further questions about a file, by name: what an archive lists, what a check finds. Input and output are the caller's to define;
	// the output has at most SlotSize bytes.
	Calls map[string]func(ctx context.Context, src image.Source, input []byte) ([]byte, error)
}

// Source is a source of this machine: what its descriptor gives is read in the child. Siblings that the image names are asked from it, in
// the parent, and are handed over if they are Sources too.
type Source interface {
	image.Source
	File() *os.File
}

// Options are the decisions of the parent. The zero value has sound limits.
type Options struct {
	// Format is qemu-img's name, or empty to find out.
	Format string
	Open   image.OpenOptions
	// Memory bounds what the child may allocate, in bytes; 0 is 1 GiB.
	Memory int64
	// Busy is how long the child may compute without an answer; 0 is 60 s. It is time of the processor: waiting for a slow
	// disk does not count.
	Busy time.Duration
	// Quiet is how long a question may stay without an answer at all; 0 is 15 minutes.
	Quiet time.Duration
	// Slots is how many questions may be in flight; 0 is two a processor and two more.
	Slots int
}

func (o Options) withDefaults(procs int) Options {
	if o.Memory == 0 {
		o.Memory = 1 << 30
	}
	if o.Busy == 0 {
		o.Busy = time.Minute
	}
	if o.Quiet == 0 {
		o.Quiet = 15 * time.Minute
	}
	if o.Slots == 0 {
		o.Slots = 2*procs + 2
	}
	o.Slots = min(max(o.Slots, 1), maxSlots)
	return o
}

const (
	// SlotSize is how much an answer can hold, in bytes.
	SlotSize = 1 << 20
	maxSlots = 64
	// maxSiblings bounds the files of one image: 32 TiB in pieces of 2 GiB.
	maxSiblings = 16384
	// arg is the child's only argument of meaning; what follows it is for people who look with ps.
	arg = "@read"
)

// descriptors that the child inherits
const (
	fdSocket = self.FD + iota
	fdSlots
	fdSource
)
