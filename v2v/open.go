package main

import (
	"context"
	"io"
	"os"

	"github.com/spf13/cobra"

	"initd/initd/cli"
	"initd/v2v/convert"
	"initd/v2v/file"
	"initd/v2v/formats"
	"initd/v2v/image"
	"initd/v2v/sandbox"
)

// roles are what this program does for itself in a process without rights.
func roles() sandbox.Roles {
	return sandbox.Roles{
		Open: func(ctx context.Context, src image.Source, format string, opt image.OpenOptions) (image.Reader, error) {
			_, r, err := formats.Open(ctx, src, format, opt)
			return r, err
		},
		Stream: openStream,
		Calls:  map[string]func(context.Context, image.Source, []byte) ([]byte, error){contentCall: content},
	}
}

func openStream(ctx context.Context, src io.Reader, name, format string, opt image.OpenOptions) (image.Streamer, error) {
	return convert.OpenStream(ctx, src, name, format, opt)
}

// openPipe reads an image that comes once: as root in a child without rights too, unless it is raw or no descriptor that could be handed over.
func openPipe(ctx context.Context, src io.Reader, name, format string, opt image.OpenOptions) (image.Streamer, error) {
	f, err := formats.ByName(format)
	plain := err == nil && f.Name == "raw"
	if pipe, ok := src.(*os.File); ok && os.Geteuid() == 0 && !plain {
		return sandbox.OpenStream(ctx, pipe, name, sandbox.Options{Format: format, Open: opt})
	}
	return openStream(ctx, src, name, format, opt)
}

// openImage reads an image: as root in a child without rights, because images may come from anybody. A disk that is declared raw has
// nothing to parse, and is read without the copy that a child costs.
func openImage(ctx context.Context, src *file.Source, format string, opt image.OpenOptions) (image.Reader, error) {
	f, err := formats.ByName(format)
	if plain := err == nil && f.Name == "raw"; os.Geteuid() == 0 && !plain {
		return sandbox.Open(ctx, src, sandbox.Options{Format: format, Open: opt})
	}
	_, r, err := formats.Open(ctx, src, format, opt)
	return r, err
}

// reading are the flags of every command that reads an image.
type reading struct {
	format  string
	opening image.OpenOptions
	files   file.OpenOptions
	maxSize string
}

func (o *reading) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVarP(&o.format, "format", "f", "", "the image is of this `FORMAT`, and nothing else is tried")
	o.flagsWithoutFormat(c)
	_ = c.RegisterFlagCompletionFunc("format", completeFormats)
}

func (o *reading) flagsWithoutFormat(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&o.opening.IgnoreSnapshots, "ignore-snapshots", false, "read the current state of an image that holds snapshots, which are left out")
	f.StringVar(&o.opening.Disk, "disk", "", "of an appliance (OVA) with several disks the one with this `ID` or file")
	f.BoolVar(&o.opening.IgnoreBitmaps, "ignore-bitmaps", false, "leave out dirty bitmaps")
	f.BoolVar(&o.files.NoSiblings, "alone", false, "refuse every further file that the image names")
	f.BoolVarP(&o.files.Shared, "force-share", "U", false, "read an image that another process has open for writing; what is read may never have been")
	f.StringVar(&o.maxSize, "max-size", "", "refuse virtual sizes above `SIZE` (bytes, or with k, M, G, T)")
}

// check turns words into numbers.
func (o *reading) check() error {
	if o.format != "" {
		if _, err := formats.ByName(o.format); err != nil {
			return cli.Usage(err)
		}
	}
	if o.maxSize != "" {
		n, err := image.Bytes(o.maxSize)
		if err != nil {
			return cli.Usage(err)
		}
		o.opening.MaxSize = n
	}
	return nil
}

// with calls do with the image that the flags are about.
func (o *reading) with(ctx context.Context, path string, do func(image.Reader) error) error {
	if err := o.check(); err != nil {
		return err
	}
	r, err := o.open(ctx, path, o.format)
	if err != nil {
		return err
	}
	defer r.Close()
	return do(r)
}

// open opens an image for a command that only reads.
func (o *reading) open(ctx context.Context, path, format string) (image.Reader, error) {
	src, err := file.Open(path, o.files)
	if err != nil {
		return nil, err
	}
	r, err := openImage(ctx, src, format, o.opening)
	if err != nil {
		src.Close()
		return nil, err
	}
	return r, nil
}

func completeFormats(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return formats.Names(), cobra.ShellCompDirectiveNoFileComp
}
