package image

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
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
	// Streams says whether an image can be written to what takes bytes in order only; nil is no.
	Streams func(opt Options) bool
	// EndCounts says whether readers look for something at the end of the file, so that a device, which ends where it ends, cannot hold the image; nil is no.
	EndCounts func(opt Options) bool
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
	// Counts compares what a format counts of its own use of the file with what is used; Info.Counts has the result.
	Counts bool
	// MaxSize refuses larger virtual sizes, in bytes; 0 is the format's own limit.
	MaxSize int64
	// Disk is which disk of an archive is meant: its id or its file's name. Empty is the only one.
	Disk string
	// StreamSize is the virtual size in bytes of a stream that does not say it (raw out of a pipe).
	StreamSize int64
}

// Option documents a key of -o.
type Option struct {
	Name, Default, Help string
	// Values are the words that it takes; nil for a size or a number.
	Values []string
}

// Options are the -o keys as said, checked against Format.Options by ParseOptions.
type Options map[string]string

// ParseOptions checks -o keys (each key=value, several separated by commas, the argument repeatable) against those that the format has.
// Names of other formats are said with what this one takes.
func (f Format) ParseOptions(args []string) (Options, error) {
	opt := Options{}
	for _, arg := range args {
		for pair := range strings.SplitSeq(arg, ",") {
			if pair == "" {
				continue
			}
			key, value, ok := strings.Cut(pair, "=")
			if !ok {
				return nil, fmt.Errorf("-o %s: %s needs a value: -o %s=VALUE", arg, key, key)
			}
			known := slices.IndexFunc(f.Options, func(o Option) bool { return o.Name == key })
			if known < 0 {
				return nil, fmt.Errorf("-o %s: %s has no option %q; it takes %s", arg, f.Name, key, f.optionNames())
			}
			if _, twice := opt[key]; twice {
				return nil, fmt.Errorf("-o %s: %s is said twice", arg, key)
			}
			if values := f.Options[known].Values; values != nil && !slices.Contains(values, value) {
				return nil, fmt.Errorf("-o %s: %s of %s is one of %s, not %q", arg, key, f.Name, strings.Join(values, ", "), value)
			}
			opt[key] = value
		}
	}
	return opt, nil
}

func (f Format) optionNames() string {
	if len(f.Options) == 0 {
		return "none"
	}
	var names []string
	for _, o := range f.Options {
		names = append(names, o.Name)
	}
	return strings.Join(names, ", ")
}

// Bytes reads a size as users of qemu-img write it: a number with one of the suffixes b, k, M, G, T, P, E (powers of 1024).
func Bytes(word string) (int64, error) {
	digits := strings.TrimRight(word, "bBkKmMgGtTpPeE")
	n, err := strconv.ParseInt(digits, 10, 64)
	suffix := strings.ToLower(word[len(digits):])
	if err != nil || n < 0 || len(suffix) > 1 {
		return 0, fmt.Errorf("%q is no size: write a number of bytes, or one with k, M, G or T", word)
	}
	if suffix == "" {
		return n, nil
	}
	shift := 10 * strings.Index("bkmgtpe", suffix)
	if n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("%q is more than any disk holds", word)
	}
	return n << shift, nil
}
