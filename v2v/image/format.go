package image

import (
	"context"
	"io"
)

// Format is one disk format. v2v/formats holds the list.
type Format struct {
	// Name is qemu-img's name; Aliases are further ones that users may say (vhd for vpc).
	Name    string
	Aliases []string
	// Probe says whether a file is of this format, from its first bytes and its last ones (at most 64 KiB each). It says no to what
	// it cannot read.
	Probe func(head, tail []byte, size int64) bool
	// Open reads the tables that are needed, checks all that can be checked without reading data, and refuses what should not be read.
	Open func(ctx context.Context, src Source, opt OpenOptions) (Reader, error)
	// OpenStream is for sources that come once; nil where the format cannot be read so.
	OpenStream func(ctx context.Context, src io.Reader, name string, opt OpenOptions) (Streamer, error)
	// Create begins an image of a virtual size in bytes (a multiple of Sector).
	Create func(ctx context.Context, dst Target, size int64, opt Options) (Writer, error)
	// Resume goes on with an image that Create began with the same size and options, after a checkpoint.
	Resume func(ctx context.Context, dst Target, size int64, opt Options, state []byte) (Writer, error)
	// Options lists what -o takes.
	Options []Option
	// Sizes checks and rounds a virtual size before anything is written: the size that the image will have, or TooLarge.
	Sizes func(size int64, opt Options) (int64, error)
}

// OpenOptions are decisions of the user.
type OpenOptions struct {
	// IgnoreSnapshots reads the current state of an image that holds internal snapshots, which are lost then.
	IgnoreSnapshots bool
	// IgnoreBitmaps does the same for dirty bitmaps.
	IgnoreBitmaps bool
	// MaxSize refuses larger virtual sizes, in bytes; 0 is the format's own limit.
	MaxSize int64
}

// Option documents a key of -o.
type Option struct {
	Name, Default, Help string
	// Values are the words that it takes; nil for a size or a number.
	Values []string
}

// Options are the -o keys as said, checked against Format.Options by ParseOptions.
type Options map[string]string
